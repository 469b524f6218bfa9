"""Reading a store: studies and their trials as frozen records, for tables, summaries and pages.
Read only; whatever writes lives in asktell.py.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tuner.search.kinds.importance import fanova, ped_anova
from tuner.search.store.address import cause_of, said
from tuner.search.store.late import LATE_RUN
from tuner.search.store.own.held import Held
from tuner.search.store.reader import engine_of, read_head, read_names, read_trials
from tuner.spec.errors import StoreError, nearest, short
from tuner.spec.records import Point, Value

RUNNING, QUEUED = "running", "queued"

FINISHED = ("complete", "pruned", "diverged")
"""States with a result: a failed or infeasible trial is no attempt that brought nothing."""

IMPORTED = "imported_from"
"""The fact of a trial that another study has run: ``study/number`` there. It takes nothing from a total."""

REPEAT = "repeat_of"
"""The fact of a trial that runs another's settings again: that other's number."""

_WORDS = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: RUNNING,
    TrialState.WAITING: QUEUED,
}


@dataclass(frozen=True)
class TrialRecord:
    """One trial as stored. ``value`` is the metric at the end of the budget, None for all but complete ones."""

    number: int
    state: str
    reason: str
    point: Point
    value: float | None
    milestones: Mapping[int, float]
    facts: Mapping[str, Value] = field(default_factory=dict)
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def last(self) -> tuple[int, float] | None:
        """The last milestone and its value."""
        return max(self.milestones.items()) if self.milestones else None

    @property
    def order(self) -> tuple[int, float, int]:
        """Sorts best first: complete ones by value, then others by how far they came, then by value there."""
        if self.value is not None:
            return (-1_000_000, self.value, self.number)
        milestone, value = self.last or (0, float("inf"))
        return (-milestone, value, self.number)


@dataclass(frozen=True)
class StudyRecord:
    """A study as stored: its name, its spec as JSON-ready data, its trials by number."""

    name: str
    spec: Mapping[str, Any]
    trials: tuple[TrialRecord, ...]

    @property
    def metric(self) -> str:
        return str(self.spec["study"]["metric"])

    @property
    def task(self) -> str:
        return str(self.spec["trial"].get("task", "generate"))

    def find(self, number: int) -> TrialRecord:
        """One trial by number.

        Raises:
            StoreError: the study has no such trial.
        """
        for trial in self.trials:
            if trial.number == number:
                return trial
        last = f"0 to {len(self.trials) - 1}" if self.trials else "none yet"
        raise StoreError(f"study '{self.name}' has no trial {number}; it has {last}.")

    def ranked(self) -> list[TrialRecord]:
        """Complete and pruned trials, best first; a pruned trial never outranks a finished one."""
        return sorted((t for t in self.trials if t.state in ("complete", "pruned") and t.last), key=lambda t: t.order)

    def front(self, cost: str | None = None) -> list[int]:
        """The complete trials that no other beats in loss and ``cost`` at once, the cheapest first, equals all. With
        no cost given it is the one that ``study.against`` names; where that names none there is no front.
        """
        if (cost := cost or self.spec["study"].get("against")) is None:
            return []
        priced = [
            (float(price), trial.value, trial.number)
            for trial in self.trials
            if trial.value is not None and isinstance(price := trial.facts.get(cost), int | float)
        ]
        known = sorted(one for one in priced if all(map(math.isfinite, one)))
        beaten_by_none = unbeaten((price, value) for price, value, _ in known)
        return [number for (*_, number), one in zip(known, beaten_by_none, strict=True) if one]


def unbeaten(pairs: Iterable[tuple[float, float]]) -> list[bool]:
    """Of (cost, loss), sorted, which no other one beats: is at least as good in both, and better in one."""
    found, last = list[bool](), (math.nan, math.inf)
    for cost, loss in pairs:
        found.append(loss < last[1] or (cost, loss) == last)
        last = (cost, loss) if found[-1] else last
    return found


def study_names(storage: BaseStorage) -> list[str]:
    """The studies in the store, by name."""
    engine = engine_of(storage)
    if engine is None:
        return sorted(optuna.get_all_study_names(storage))
    with legible(engine), engine.connect() as connection:
        return read_names(connection)


def read_study(storage: BaseStorage, name: str) -> StudyRecord:
    """One study with all its trials. On a kept storage the next reading costs only what has changed since.

    Raises:
        StoreError: there is no such study, or it was not made by this platform.
    """
    return _read(storage, name).record


def parameter_importance(storage: BaseStorage, name: str) -> dict[str, float]:
    """PED-ANOVA importance (arXiv 2304.10255) of each parameter, most important first; empty below 4 complete trials
    of the search.

    Raises:
        StoreError: as ``read_study``.
    """
    return ped_anova(_read(storage, name).complete())


def fanova_importance(storage: BaseStorage, name: str, sample: int) -> dict[str, float]:
    """fANOVA importance (Hutter et al., 2014) of each parameter that all complete trials have, most important first;
    empty below 4 of them. Of more than ``sample``, that many are taken at random, the same ones every time.

    Raises:
        StoreError: as ``read_study``.
    """
    return fanova(_read(storage, name).complete(), sample)


@contextlib.contextmanager
def legible(engine: Engine) -> Iterator[None]:
    """Turn what reading a database raises into a sentence: it is away, or holds what was never written to it."""
    shown = said(engine.url)
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreError(f"the trial store {shown} cannot be read: {cause_of(error)}.") from error
    except UnicodeEncodeError as error:
        raise StoreError(f"no study {short(str(error.object))!r} in the store: no text can hold that name.") from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise StoreError(
            f"the trial store {shown} holds what no study writes ({type(error).__name__}: {error}); it may be "
            "damaged: put a copy of it in its place."
        ) from error


@dataclass(frozen=True)
class _Reading:
    """What was read of a study: its trials as Optuna has them and the records made of them, both by trial id.

    ``mark`` is the study's id in the store and for life: one made anew under an old name has another.
    """

    mark: tuple[int, Any]
    trials: Mapping[int, FrozenTrial]
    records: Mapping[int, TrialRecord]
    runs: Mapping[str, str]
    record: StudyRecord

    def complete(self) -> list[FrozenTrial]:
        """Those that the search chose: repeats of the best are no further witnesses for them."""
        found = (trial for trial in self.trials.values() if trial.state is TrialState.COMPLETE)
        return [trial for trial in found if REPEAT not in trial.user_attrs]


class _History:
    """The studies of a database. A finished trial never changes: it is read once. Threads may share it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._known: dict[str, _Reading] = {}

    def read(self, name: str) -> _Reading | None:
        """The study as it is now, the same object where nothing has changed; None where there is none."""
        with self._lock, legible(self._engine), self._engine.connect() as connection:
            head, known = read_head(connection, name), self._known.get(name)
            if head is None:
                self._known.pop(name, None)
                return None
            mark = (head.study_id, head.attributes.get("id"))
            if known is None or known.mark != mark:
                known, newer = None, read_trials(connection, head.study_id)
            else:
                unfinished = [id_ for id_, trial in known.trials.items() if not trial.state.is_finished()]
                newer = read_trials(connection, head.study_id, max(known.trials, default=-1), unfinished)
            reading = _renewed(known, mark, name, head.attributes, newer)
            self._known[name] = reading
            return reading


_HISTORIES: WeakKeyDictionary[BaseStorage, _History] = WeakKeyDictionary()
_READINGS: WeakKeyDictionary[BaseStorage, dict[str, _Reading]] = WeakKeyDictionary()
"""Kept with each open storage, as Optuna's own cache is: a driver reads its study after every trial."""


def _read(storage: BaseStorage, name: str) -> _Reading:
    """From its tables where the store has some; through Optuna where it is in memory, or known to its driver."""
    engine = engine_of(storage)
    if engine is None or isinstance(storage, Held):
        found = _from_memory(storage, name)
    else:
        found = _HISTORIES.setdefault(storage, _History(engine)).read(name)
    if found is None:
        hint = nearest(name, study_names(storage)) or " The store is empty."
        raise StoreError(f"no study '{name}' in the store.{hint}")
    return found


def _from_memory(storage: BaseStorage, name: str) -> _Reading | None:
    """A trial that has changed there is another object."""
    try:
        study = storage.get_study_id_from_name(name)
    except KeyError:
        return None
    attributes, known = storage.get_study_user_attrs(study), _READINGS.setdefault(storage, {})
    mark, before = (study, attributes.get("id")), known.get(name)
    if before is not None and before.mark != mark:
        before = None
    old = {} if before is None else before.trials
    trials = storage.get_all_trials(study, deepcopy=False)
    newer = [trial for trial in trials if old.get(trial._trial_id) is not trial]
    known[name] = _renewed(before, mark, name, attributes, newer)
    return known[name]


def _renewed(
    known: _Reading | None,
    mark: tuple[int, Any],
    name: str,
    attributes: Mapping[str, Any],
    newer: Sequence[FrozenTrial],
) -> _Reading:
    """``known`` with the trials that are newer than it; itself where they say nothing new."""
    if "spec" not in attributes:
        raise StoreError(
            f"study '{name}' was not made by this platform; it has no spec. Use Optuna's own tools for it."
        )
    runs = {key: value for key, value in attributes.items() if key.startswith(LATE_RUN)}
    old = known or _Reading(mark, {}, {}, {}, StudyRecord(name, {}, ()))
    changed = {trial._trial_id: trial for trial in newer if old.trials.get(trial._trial_id) != trial}
    trials = {**old.trials, **{trial._trial_id: trial for trial in newer}}
    if linked := {key for key, _ in runs.items() ^ old.runs.items()}:
        changed |= {id_: trial for id_, trial in trials.items() if f"{LATE_RUN}{trial.number}" in linked}
    if not changed and attributes["spec"] == old.record.spec:
        return replace(old, trials=trials) if newer else old
    records = {id_: _record(trial, runs.get(f"{LATE_RUN}{trial.number}")) for id_, trial in changed.items()}
    records = {**old.records, **records}
    ordered = tuple(sorted(records.values(), key=lambda record: record.number))
    return _Reading(mark, trials, records, runs, StudyRecord(name, attributes["spec"], ordered))


def _record(trial: FrozenTrial, run: str | None) -> TrialRecord:
    """``run`` is an MLflow run id that became known after the trial was closed: newer than one that it noted itself."""
    facts = {**trial.user_attrs, "mlflow_run": run} if run else trial.user_attrs
    word = _WORDS[trial.state]
    if trial.state.is_finished():
        word = str(facts.get("outcome", word))
    return TrialRecord(
        number=trial.number,
        state=word,
        reason=str(facts.get("reason", "")),
        point=trial.params,
        value=trial.value if trial.state is TrialState.COMPLETE else None,
        milestones=trial.intermediate_values,
        facts=facts,
        started=trial.datetime_start,
        ended=trial.datetime_complete,
    )
