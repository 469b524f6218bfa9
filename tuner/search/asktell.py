"""The search: asks Optuna for points, reports milestones, tells outcomes. One owner: the driver.
It speaks in Points and Outcomes; Optuna's objects stay inside, and no trainer or tracker is known here.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypeVar, cast

import optuna
from optuna.pruners import HyperbandPruner, _filter_study
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from tuner.search.bayes.past import Past
from tuner.search.bayes.pieces import Pieces, whole
from tuner.search.bayes.propose import first_guess
from tuner.search.bayes.sampler import BayesSampler, ForecastPruner
from tuner.search.ending import Enough, enough
from tuner.search.history import IMPORTED, QUEUED, StudyRecord, legible, parameter_importance, read_study
from tuner.search.identity import hold_device, hold_identity, hold_text, origin_of
from tuner.search.kinds.pruners import PRUNERS
from tuner.search.kinds.samplers import build_sampler, grid_left
from tuner.search.kinds.suggest import suggest
from tuner.search.repeats import REPEAT, SEED, Wanted, wanted
from tuner.search.requests import Request, answer, waiting
from tuner.search.store.address import MEMORY_URL, said
from tuner.search.store.late import LATE_RUN
from tuner.search.store.outage import Outage
from tuner.search.store.own.held import held, together
from tuner.search.store.reader import engine_of
from tuner.spec.records import Measurement, Origin, Outcome, Point, Spent, State, Value
from tuner.spec.study import StudySpec

F = TypeVar("F", bound=Callable[..., Any])

_STATES = {
    State.COMPLETE: TrialState.COMPLETE,
    State.PRUNED: TrialState.PRUNED,
    # Samplers never see FAIL, so a region that cannot run would be proposed for ever; PRUNED they see.
    State.INFEASIBLE: TrialState.PRUNED,
    State.DIVERGED: TrialState.PRUNED,
    State.FAILED: TrialState.FAIL,
}

_VIOLATED = {State.INFEASIBLE: "fits", State.DIVERGED: "converges"}
"""Of which constraint a state is a violation: else a diverged trial's last good milestone would speak for it."""

KEPT = ("latency_ms", "bytes", "generalization_gap", "val_accuracy", "val_f1")
"""Metrics of a trial's last milestone that are kept as its facts: milliseconds a generated token, the size of its file,
how far its validation loss lies above its training loss; of a classifier its accuracy and macro F1.
"""

FREE = {"infeasible", REPEAT, IMPORTED}
"""Facts of trials that take nothing from the total."""


def _guarded(method: F) -> F:
    """A method of Search that waits for a store that is away, and is then done again: doing it twice must be as once.
    What it changes is written together. Other store errors, and a store that stays away, are sentences.
    """

    @functools.wraps(method)
    def call(self: Search, *args: Any, **kwargs: Any) -> Any:
        def once() -> Any:
            with together(self._storage):
                return method(self, *args, **kwargs)

        return self.outage.through(once, f"the trial store {self._place} of study '{self.spec.name}'")

    return cast(F, call)


@dataclass(frozen=True)
class Asked:
    """A trial that may run: its number and its point; ``seed`` where it repeats another's settings with a new one;
    ``begun`` where a worker has had it before, in so many ``parts``.
    """

    number: int
    point: Point
    seed: int | None = None
    begun: bool = False
    parts: int | None = None


class Search:
    """One study in a store.

    Raises (on opening):
        StoreError: the store holds a study of this name with another trial, space, rules, milestones or metric.
    """

    def __init__(self, spec: StudySpec, storage: BaseStorage) -> None:
        self.spec = spec
        self.outage = Outage()
        self._storage = held(storage)
        self._unsure = False  # whether an ask was broken off, and may have left a trial behind
        engine = engine_of(storage)
        self._place = MEMORY_URL if engine is None else said(engine.url)
        with contextlib.nullcontext() if engine is None else legible(engine):
            self._load()

    @_guarded
    def _load(self) -> None:
        spec, self._past = self.spec, Past(self.spec)
        pruner = PRUNERS[spec.study.pruner](spec, self._past)
        self._study = optuna.create_study(
            storage=self._storage, study_name=spec.name, direction="minimize", load_if_exists=True, pruner=pruner
        )
        trials = self._study.get_trials(deepcopy=False)
        hold_identity(self._study, spec, fresh=not trials)
        if isinstance(pruner, HyperbandPruner):
            pruner._try_initialization(self._study)  # else the first asks of a new process see no brackets
        self._grid = grid_left(spec, trials) if spec.study.sampler == "grid" else None
        self._queued = sum(1 for t in trials if t.state is TrialState.WAITING)
        self._asked = len(trials) - self._queued
        self._runs = {t.number: str(t.user_attrs["mlflow_run"]) for t in trials if "mlflow_run" in t.user_attrs}
        # _choose gives them what they had not been given yet when their driver died
        self._open = {t.number: t._trial_id for t in trials if t.state is TrialState.RUNNING}
        self._before = self.seconds = float(self._study.user_attrs.get("seconds", 0.0))
        self.spent = sum(1 for t in trials if t.state.is_finished() and not FREE & set(t.user_attrs))

    @property
    @_guarded
    def origin(self) -> Origin:
        """Which study this is, and which of its copies."""
        return origin_of(self._study)

    @_guarded
    def hold_text(self, fingerprint: str) -> None:
        """Note which text the trials are trained on (see identity.hold_text)."""
        hold_text(self._study, self.spec, fingerprint, self._asked > 0)

    @_guarded
    def hold_device(self, kind: str) -> None:
        """Note what the trials run on (see identity.hold_device)."""
        hold_device(self._study, self.spec, kind, self._asked > 0)

    @_guarded
    def unfinished(self) -> list[Asked]:
        """Trials a dead driver left running, in order; they go on under the same number with the same values."""
        return [self._choose(Trial(self._study, self._open[number])) for number in sorted(self._open)]

    @property
    def exhausted(self) -> bool:
        """A grid has no point left that was never asked."""
        return self._grid is not None and not self._grid and not self._queued

    @property
    def left(self) -> bool:
        """Is there still work: an unfinished trial, a trial of the total not yet asked, or a repeat?"""
        end = self.enough()
        if self._open or (self.searching and end is None):
            return True
        return not (end is not None and end.spent) and bool(self._wanted(end is not None))

    @property
    def begun(self) -> bool:
        """Has it a trial of its own that was ever asked? Those of another study, and those queued, are none."""
        return any(IMPORTED not in t.facts and t.state != QUEUED for t in self.record().trials)

    @_guarded
    def enough(self, live: Mapping[int, Spent] | None = None) -> Enough | None:
        """Why the study ends before its trials are used up; None while it does not. ``live``: spent by running ones."""
        settings = self.spec.study
        if settings.totals is None and settings.stop is None:
            return None
        return enough(self.record(), settings, live or {}, self.seconds, self.searching)

    @_guarded
    def clock(self, seconds: float, keep: bool = True) -> None:
        """Hear that the study has run for ``seconds`` in this session; with ``keep`` the next one begins there."""
        self.seconds = self._before + seconds
        if keep:
            self._study.set_user_attr("seconds", self.seconds)

    @property
    def searching(self) -> bool:
        """Is a trial of the total still to be asked or ended? Repeats come after all of them."""
        return self.spent < self.spec.study.trials and not self.exhausted

    def ask(self) -> Asked:
        """The next point, recorded as running before it is returned."""
        return whole(self.asking())

    def asking(self) -> Pieces[Asked]:
        """``ask``, a piece at a time: trials may be reported and told in between, but no other asked for."""
        trial = self._ask()
        sampler = build_sampler(self.spec, trial.number, self._past)
        chosen: Point | None = None
        yield
        if isinstance(sampler, BayesSampler) and (trials := self._to_choose_by(trial._trial_id)):
            chosen = yield from sampler.choosing(trials, trial.number, self.seconds)
        return self._opened(*self._chosen(trial._trial_id, chosen))

    @_guarded
    def _to_choose_by(self, trial_id: int) -> list[FrozenTrial]:
        """The trials that a model chooses by, of hyperband those in the bracket; none where there is no choice."""
        trial = self._storage.get_trial(trial_id)
        if not len(self.spec.space) or trial.system_attrs.get("fixed_params"):
            return []
        return _filter_study(self._study, trial).get_trials(deepcopy=False)

    @_guarded
    def _chosen(self, trial_id: int, chosen: Point | None) -> tuple[Trial, Asked]:
        trial = Trial(self._study, trial_id)
        return trial, self._choose(trial, chosen)

    @_guarded
    def _ask(self) -> Trial:
        trial = self._left_behind()
        if trial is None:
            number = self._asked
            if self._queued:  # a driver died between the two steps below
                self._queued -= 1
            elif self._grid:
                self._study.enqueue_trial(dict(self._grid[0]))
            elif number == 0 and (guess := first_guess(self.spec)) is not None:
                self._study.enqueue_trial(dict(guess))
            trial = self._study.ask()
        return trial

    def ask_again(self, stopped: bool = False) -> Asked | None:
        """The next repeat of the best settings with a new seed, recorded as running; None where none is wanted.

        Repeats come once all trials are done, or the search has ``stopped`` before.
        """
        if (found := self._ask_again(stopped)) is not None:
            return self._opened(*found)
        self._unsure = False
        return None

    @_guarded
    def _ask_again(self, stopped: bool) -> tuple[Trial, Asked] | None:
        trial = self._left_behind()
        if trial is None:
            if not (wanted := self._wanted(stopped)):
                return None
            like = next(t for t in self._study.get_trials(deepcopy=False) if t.number == wanted[0].like)
            # made running at once: what others have enqueued waits for a total that allows it
            template = create_trial(
                state=TrialState.RUNNING,
                system_attrs={"fixed_params": dict(like.params)},
                user_attrs={REPEAT: like.number, SEED: wanted[0].seed},
            )
            template.datetime_start = datetime.now()
            trial = Trial(self._study, self._storage.create_new_trial(self._study._study_id, template))
        return trial, self._choose(trial)

    def _left_behind(self) -> Trial | None:
        """The trial of an ask that the store went away from, where it came as far as that."""
        unsure, self._unsure = self._unsure, True
        if not unsure:
            return None
        trials = self._study.get_trials(deepcopy=False)
        self._queued = sum(t.state is TrialState.WAITING for t in trials)
        lost = [t for t in trials if t.state is TrialState.RUNNING and t.number not in self._open]
        return Trial(self._study, lost[0]._trial_id) if lost else None

    def _opened(self, trial: Trial, asked: Asked) -> Asked:
        """Remember a trial whose point is in the store whole."""
        # numbers in between: others have enqueued
        self._unsure = trial.number > self._asked
        self._asked = max(self._asked, trial.number + 1)
        self._open[trial.number] = trial._trial_id
        if self._grid and asked.seed is None:
            self._grid = [point for point in self._grid if point != asked.point]
        return asked

    def _wanted(self, stopped: bool) -> list[Wanted]:
        """Repeats still to begin."""
        repeats = self.spec.study.repeats
        if repeats is None or (self.searching and not stopped):
            return []
        return wanted(read_study(self._storage, self.spec.name), repeats.top, repeats.seeds)

    def _choose(self, trial: Trial, chosen: Point | None = None) -> Asked:
        sampler = build_sampler(self.spec, trial.number, self._past)  # anew: done again, it draws what it drew before
        if isinstance(sampler, BayesSampler):
            sampler.chosen = chosen
        self._study.sampler = sampler
        before = trial.distributions  # none, unless it was left in the middle of this
        point = self.spec.walk(lambda path, dim: suggest(trial, path, dim, before.get(path)))
        attributes = trial.user_attrs
        seed = int(attributes[SEED]) if REPEAT in attributes else None
        return Asked(trial.number, point, seed, "spec_hash" in attributes, attributes.get("accumulate"))

    def _trial(self, number: int) -> FrozenTrial:
        """An open trial as it stands."""
        return self._storage.get_trial(self._open[number])

    @_guarded
    def note(self, number: int, facts: Mapping[str, Value]) -> None:
        """Keep facts with a running trial, as user attributes."""
        self._note(self._trial(number), facts)

    def _note(self, trial: FrozenTrial, facts: Mapping[str, Value]) -> None:
        for key, value in facts.items():
            if key not in trial.user_attrs or trial.user_attrs[key] != value:
                self._storage.set_trial_user_attr(trial._trial_id, key, value)

    @_guarded
    def report(self, number: int, measurement: Measurement) -> bool:
        """Record a milestone; true if the pruner ends the trial. The same milestone twice is one, with one answer."""
        if (milestone := measurement.milestone) is None:
            raise ValueError(f"trial {number}: only milestones are reported to the search")
        trial = self._trial(number)
        again = milestone in trial.intermediate_values  # sent again after a crash: judged once, answered the same
        value = measurement.metrics[self.spec.study.metric]
        if not again:
            self._storage.set_trial_intermediate_value(trial._trial_id, milestone, value)
        kept = {key: value for key, value in measurement.metrics.items() if key in KEPT}
        self._note(trial, {**asdict(measurement.spent), **kept})
        self._study.set_user_attr("seconds", self.seconds)
        return trial.user_attrs.get("stopped_at") == milestone if again else self._judge(number, milestone)

    def _judge(self, number: int, milestone: int) -> bool:
        """Ask the pruner."""
        trial = self._trial(number)
        repeated = REPEAT in trial.user_attrs  # its mean needs the whole budget
        last = milestone >= self.spec.study.milestones
        if last or repeated or not self._study.pruner.prune(self._study, trial):
            return False
        # written before the worker hears it: a rung is judged once, and a crash must not lose the judgement
        self._storage.set_trial_user_attr(trial._trial_id, "stopped_at", milestone)
        return True

    def tell(self, number: int, outcome: Outcome, value: float | None = None, spent: Spent | None = None) -> None:
        """Close a trial. ``value`` is the metric at the end of the budget, for COMPLETE only; ``spent`` in all."""
        counts = self._tell(number, outcome, value, spent)
        if isinstance(self._study.pruner, ForecastPruner):
            self._study.pruner.look_again()
        del self._open[number]
        self.spent += counts

    @_guarded
    def _tell(self, number: int, outcome: Outcome, value: float | None, spent: Spent | None) -> bool:
        """True where the trial takes one from the total."""
        trial = self._trial(number)
        if not trial.state.is_finished():  # else the store went away after it had heard
            self._close(trial, outcome, value, spent)
        return outcome.state is not State.INFEASIBLE and REPEAT not in trial.user_attrs

    def _close(self, trial: FrozenTrial, outcome: Outcome, value: float | None, spent: Spent | None) -> None:
        facts: dict[str, Value] = {} if spent is None else asdict(spent)
        facts |= {"outcome": outcome.state.value, "reason": outcome.reason}
        if outcome.checkpoint is not None:
            facts |= {"checkpoint": outcome.checkpoint, "checkpoint_sha256": outcome.sha256}
        if outcome.state is State.INFEASIBLE:
            facts["infeasible"] = True
        self._note(trial, facts)
        if constraint := _VIOLATED.get(outcome.state):
            Trial(self._study, trial._trial_id).set_constraint(constraint, 1.0)
        state = _STATES[outcome.state]
        self._study.tell(trial.number, value if state is TrialState.COMPLETE else None, state=state)

    def link_runs(self, runs: Mapping[int, str]) -> None:
        """Keep each trial's MLflow run id: with the trial while it runs, with the study once it is closed."""
        if new := {number: run for number, run in runs.items() if self._runs.get(number) != run}:
            self._link(new)
            self._runs |= new

    @_guarded
    def _link(self, runs: Mapping[int, str]) -> None:
        for number, run in runs.items():
            if number in self._open:
                self._note(self._trial(number), {"mlflow_run": run})
            else:
                self._study.set_user_attr(f"{LATE_RUN}{number}", run)

    @_guarded
    def requests(self) -> list[Request]:
        """What is asked of the study from outside and has no answer yet, oldest first."""
        return waiting(self._study.user_attrs)

    @_guarded
    def answer(self, request: Request, sentence: str) -> None:
        """Say what became of a request."""
        answer(self._storage, self.spec.name, request, sentence)

    @_guarded
    def importance(self) -> dict[str, float]:
        """Importance of each parameter so far (see history.parameter_importance)."""
        return parameter_importance(self._storage, self.spec.name)

    @_guarded
    def record(self) -> StudyRecord:
        """The study as it stands."""
        return read_study(self._storage, self.spec.name)
