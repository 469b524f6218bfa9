"""The driver: the one loop that gives trials to workers, hears them, judges and closes them.
It is the only writer to the store; it trains nothing and draws nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from tuner.run.endings import Endings
from tuner.run.fitting import Fitting
from tuner.run.folder import checkpoints_folder, trial_folder
from tuner.run.hands.link import Alive, Exhausted, TrialJob
from tuner.run.hands.workers import Died, Event, Workers
from tuner.run.retention import Retention
from tuner.run.running import Running
from tuner.run.watcher import Watcher
from tuner.search.asktell import Asked, Search
from tuner.search.bayes.pieces import Pieces
from tuner.search.ending import Enough
from tuner.search.requests import Wish
from tuner.spec.errors import InfeasibleError, StudyStoppedError
from tuner.spec.records import Measurement, Outcome, Preparing, Spent, Started, State, Verdict
from tuner.spec.study import StudySpec
from tuner.spec.trial import TrialSpec
from tuner.tracking.base import Tracker
from tuner.train.machine.capacity import finer

ATTEMPTS = 3
"""A trial whose worker is killed this often without reaching a further milestone has failed."""

LISTENING = 1.0
"""Seconds between two looks at what is asked of the study from outside."""

AWAKE = 5.0
"""Seconds that count at most as silence between two looks: what is longer is a driver that slept itself."""

GRACE = 6.0
"""Seconds that workers have to write checkpoints when the study is interrupted."""


class Ending(StrEnum):
    COMPLETE = "complete"
    INTERRUPTED = "interrupted"


@dataclass
class Driver:
    """Runs a study until its total is spent, it is interrupted, or too many trials fail in a row."""

    spec: StudySpec
    search: Search
    workers: Workers
    tracker: Tracker
    watcher: Watcher
    folder: Path
    corpora: Path
    code_version: str = "unknown"
    fitting: Fitting | None = None
    clock: Callable[[], float] = time.monotonic
    _running: dict[int, Running] = field(default_factory=dict)
    _waiting: deque[Asked] = field(default_factory=deque)
    _choosing: Pieces[Asked] | None = None
    _recovered: set[int] = field(default_factory=set)
    _endings: Endings = field(init=False)
    _retention: Retention = field(init=False)
    _stopping: bool = False
    _halted: str | None = None
    _signals: int = 0
    _deadline: float = 0.0
    _listened: float = 0.0
    _looked: float = 0.0
    _reckoned: float = -LISTENING
    _began: float = 0.0
    _roomless: bool = False
    _enough: Enough | None = None
    _told: set[str] = field(default_factory=set)
    _condemned: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        study = self.spec.study
        self._endings = Endings(self.spec.name, study.max_failures, self.folder)
        self._retention = Retention(self.folder, study.keep, study.disk)

    def stop(self) -> None:
        """For signal handlers: the first call has checkpoints written, the second kills the workers."""
        self._signals += 1

    def run(self) -> Ending:
        """Drive the study to its end.

        Raises:
            StudyStoppedError: too many failures in a row, a full disk, or rules that forbid nearly every point.
        """
        self._began = self._looked = self.clock()
        self.search.outage.say, self.search.outage.hurried = self.watcher.say, lambda: self._signals > 0
        self._waiting.extend(self.search.unfinished())
        self._recovered = {asked.number for asked in self._waiting if asked.begun}
        self._tidy()  # the driver before may have died before it had
        self._reckon()
        more = self._fill()
        while self._running or more or self._without_room():
            for event in self.workers.wait(timeout=0.0 if more else 0.2):
                self._hear(event.number, event)
            self.search.link_runs(self.tracker.runs())
            self._obey_signals()
            self._lose_patience()
            self._obey_requests()
            self._reckon()
            more = self._fill()
        self.search.clock(self.clock() - self._began)
        if self._halted is not None:
            raise StudyStoppedError(self._halted)
        return Ending.INTERRUPTED if self._stopping else Ending.COMPLETE

    def _fill(self) -> bool:
        """Give an idle worker a trial: a recovered one first, then a new point while the total allows.

        One at a time, and a point is chosen in pieces: what workers say is heard in between. True where there may be
        more to give.
        """
        if not self.workers.idle or self._stopping or self._retention.crowded:
            return False
        if asked := self._next():
            self._begin(asked)
        return asked is not None or self._choosing is not None

    def _without_room(self) -> bool:
        """Is there work, and nowhere to do it: a cluster whose last node has gone, and may come back?"""
        if self._stopping or self.workers.idle or not (self._waiting or self.search.left):
            return False
        if not self._roomless:
            self.watcher.say("no worker is left: the study waits until there is one")
        self._roomless = True
        return True

    def _next(self) -> Asked | None:
        """A recovered trial, a new point of the search, or, when all of those have ended, a repeat of the best."""
        if self._waiting:
            return self._waiting.popleft()
        if self._choosing is not None:
            return self._choose_on(self._choosing)
        if self._enough is not None and self._enough.spent:
            return None
        searching = sum(running.asked.seed is None for running in self._running.values())
        wanted = self.search.spent + searching < self.spec.study.trials and not self.search.exhausted
        if wanted and self._enough is None:
            self._choosing = self.search.asking()
            return self._choose_on(self._choosing)
        return None if searching else self.search.ask_again(stopped=self._enough is not None)

    def _choose_on(self, choosing: Pieces[Asked]) -> Asked | None:
        """One more piece of choosing a point; the trial, once it is chosen."""
        try:
            next(choosing)
        except StopIteration as chosen:
            self._choosing = None
            asked: Asked = chosen.value
            return asked
        return None

    def _reckon(self) -> None:
        """End the search where it has had enough, for as long as it has; once a total is spent, what runs is pruned."""
        if self._stopping or (self._enough is not None and self._enough.spent):
            return
        if self.clock() - self._reckoned < LISTENING:
            return
        self._reckoned = self.clock()
        self.search.clock(self.clock() - self._began, keep=False)
        live = {number: running.spent for number, running in self._running.items() if running.spent is not None}
        self._enough = self.search.enough(live)
        if self._enough is None:
            return
        if self._enough.sentence not in self._told:
            self._told.add(self._enough.sentence)
            self.watcher.say(f"no further trials: {self._enough.sentence}")
        for number in self._running if self._enough.spent else ():
            self._condemn(number, self._enough.sentence)

    def _condemn(self, number: int, reason: str) -> None:
        """Have a running trial end where it is, as pruned."""
        self._condemned[number] = reason
        self.workers.interrupt(number)

    def _begin(self, asked: Asked) -> None:
        """Start a trial; a point that cannot be is told at once, and takes nothing from the total."""
        try:
            trial = self.spec.resolve(asked.point)
            if asked.seed is not None:
                trial = trial.model_copy(update={"seed": asked.seed})
            # one that ran before goes on as it was computed then, whatever memory is free today
            again = asked.number in self._recovered
            parts = asked.parts if again else None if self.fitting is None else self.fitting.parts(trial)
            must = asked.seed is not None or again
            if not self._retention.admit(asked.number, lambda: self._files(trial), must, self.search.record):
                self._waiting.appendleft(asked)
                return
        except StudyStoppedError as error:
            self._halt(f"study '{self.spec.name}' stopped at trial {asked.number}: {error}")
            return
        except InfeasibleError as error:
            outcome = Outcome(State.INFEASIBLE, str(error))
            self._remember(asked, outcome, started=False, spec={})
            self._close(asked, outcome, None)
            return
        self._running[asked.number] = Running(asked, trial, parts=parts)
        self._start(asked.number)
        self._reckoned = -LISTENING  # is there enough for another beside it?
        if self._enough is not None and self._enough.spent:  # left running by a driver that is gone
            self._condemn(asked.number, self._enough.sentence)

    def _files(self, trial: TrialSpec) -> int:
        return 0 if self.fitting is None else self.fitting.files(trial)

    def _start(self, number: int) -> None:
        folder = trial_folder(self.folder, number)
        running, study = self._running[number], self.spec.study
        running.silence = 0.0
        memory = None if self.fitting is None or number in self._recovered else self.fitting.limit
        self.workers.start(
            TrialJob(
                number,
                running.spec,
                study.milestones,
                folder,
                self.corpora,
                self.code_version,
                study.samples,
                memory,
                running.parts,
                study.metric,
            )
        )

    def _lose_patience(self) -> None:
        """End the workers that have said nothing for too long: hung, or stopped by somebody."""
        passed, self._looked = min(AWAKE, self.clock() - self._looked), self.clock()
        for number, running in self._running.items():
            running.silence += max(0.0, passed)
            if running.silence > self.spec.study.patience:
                self.workers.kill(number)

    def _hear(self, number: int, event: Event) -> None:
        if not isinstance(event.message, Died):  # how long it was silent says why
            self._running[number].silence = 0.0
        match event.message:
            case Alive():
                pass
            case Preparing() as work:
                self.watcher.preparing(number, work)
            case Started() as started:
                self._started(number, started)
            case Measurement() as measurement:
                self._measured(number, measurement)
            case Outcome() as outcome:
                self._ended(number, outcome)
            case Exhausted() as exhausted:
                self._exhausted(number, exhausted.reason, exhausted.known)
            case Died() as died if died.exhausted and self._running[number].silence <= self.spec.study.patience:
                self._exhausted(number, died.sentence, known=False)
            case Died() as died:
                self._died(number, died)

    def _started(self, number: int, started: Started) -> None:
        running = self._running[number]
        self.search.note(number, started.facts)
        told = {"study": self.spec.name, "number": number, **started.facts}
        self.tracker.start(number, running.asked.point, {f"tuner.{k}": str(v) for k, v in told.items()}, started.spec)
        running.started, running.parts = True, int(started.facts.get("accumulate") or running.parts or 1)
        self.watcher.started(number, running.asked.point, started)
        if (strange := self._endings.strange(started)) is not None:
            self.workers.kill(number)  # else it would save what it has learned of another text
            self._halt(strange)

    def _measured(self, number: int, measurement: Measurement) -> None:
        """Spool first, then the store, then the verdict: what a worker was answered is on disk."""
        self.tracker.row(number, measurement)
        running = self._running[number]
        running.spent = measurement.spent
        if measurement.milestone is not None:
            self.search.clock(self.clock() - self._began, keep=False)  # kept with the report
            running.value = measurement.metrics[self.spec.study.metric]
            if measurement.milestone > running.reached:  # not one that is sent again after a kill
                running.reached, running.kills = measurement.milestone, 0
            pruned = self.search.report(number, measurement)
            self.workers.answer(number, Verdict.STOP if pruned else Verdict.CONTINUE)
        self.watcher.measured(number, measurement)

    def _ended(self, number: int, outcome: Outcome) -> None:
        running = self._running.pop(number)
        self._retention.leave(number)
        if (reason := self._condemned.pop(number, None)) and outcome.state is State.INTERRUPTED:
            outcome = replace(outcome, state=State.PRUNED, reason=reason)
        if outcome.checkpoint is not None:
            folder = checkpoints_folder(self.folder, number) / outcome.checkpoint
            outcome = replace(outcome, checkpoint=str(folder))
        if outcome.state is not State.INTERRUPTED:
            self._remember(running.asked, outcome, running.started, running.spec.as_data())
            stood = outcome.metrics.get(self.spec.study.metric, running.value)
            value = stood if outcome.state is State.COMPLETE else None
            self._close(running.asked, outcome, value, running.spent)
            return
        if running.started:
            self.tracker.finish(number, outcome, {})
        self.watcher.ended(number, outcome, None)
        if not self._stopping:  # the worker left by itself: the machine, not the trial, has a problem
            self._halt(f"study '{self.spec.name}' stopped: {outcome.reason}. Run the same command again to go on.")

    def _remember(self, asked: Asked, outcome: Outcome, started: bool, spec: Mapping[str, Any]) -> None:
        """Spool the end, before the store hears of it: a crash in between only lets the trial end once more."""
        if not started:  # it ended before its data and model stood
            tags = {"tuner.study": self.spec.name, "tuner.number": str(asked.number)}
            self.tracker.start(asked.number, asked.point, tags, spec)
        self.tracker.finish(asked.number, outcome, {})

    def _died(self, number: int, died: Died) -> None:
        """A killed worker's trial goes on from its checkpoint; any other death is the trial's own failure."""
        running = self._running[number]
        running.kills += 1
        sentence = died.sentence
        if running.silence > self.spec.study.patience:
            sentence = f"the worker said nothing for {self.spec.study.patience:.0f} s (study.patience) and was ended"
        if self._stopping or number in self._condemned:
            self._ended(number, Outcome(State.INTERRUPTED, sentence))
        elif died.killed and running.kills < ATTEMPTS:
            self.watcher.say(f"trial {number}: {sentence}; it goes on from its last checkpoint.")
            self._start(number)
        else:
            times = f", {running.kills} times without reaching a milestone" if running.kills > 1 else ""
            self._ended(number, Outcome(State.FAILED, sentence + times))

    def _exhausted(self, number: int, reason: str, known: bool) -> None:
        """A trial that did not fit is tried once more, in smaller micro-batches; then it cannot be."""
        running = self._running[number]
        parts = running.parts or 1
        if self.fitting is not None and not known:
            self.fitting.exceeded(running.spec, parts)
        finer_parts = finer(running.spec.share, parts)
        if self._stopping or number in self._condemned:
            self._ended(number, Outcome(State.INTERRUPTED, reason))
        elif running.refined or finer_parts is None:
            reason = f"{reason}, in {parts} micro-batch{'es' * (parts > 1)} a step"
            self._ended(number, Outcome(State.INFEASIBLE, reason))
        else:
            running.refined, running.parts = True, finer_parts
            self.watcher.say(f"trial {number}: {reason}; it is tried once more, in {finer_parts} micro-batches a step.")
            self._start(number)

    def _close(self, asked: Asked, outcome: Outcome, value: float | None, spent: Spent | None = None) -> None:
        self.search.tell(asked.number, outcome, value, spent)
        self._reckoned = -LISTENING  # what a trial's end means is worked out before the next one begins
        self.watcher.ended(asked.number, outcome, value)
        self._halt(self._endings.take(outcome))
        self._tidy()

    def _tidy(self) -> None:
        """Delete the checkpoints that are not kept."""
        for sentence in self._retention.tidy(self.search.record()):
            self.watcher.say(sentence)

    def _obey_signals(self) -> None:
        if self._signals and not self._stopping:
            self._interrupt()
            self.watcher.say("stopping: each trial writes a checkpoint (press again to stop at once)")
        if self._stopping and (self._signals > 1 or self.clock() > self._deadline):
            self.workers.kill()

    def _obey_requests(self) -> None:
        """Do what commands and pages have asked of this study, and answer."""
        if self._stopping or self.clock() - self._listened < LISTENING:
            return
        self._listened = self.clock()
        self.search.outage.renew()  # the study's lock may be lost while the store itself is well
        for request in self.search.requests():
            match request.wish:
                case Wish.STOP:
                    self._interrupt()
                    self.watcher.say(f"stopping, asked {request.sentence}; each trial writes a checkpoint")
                    self.search.answer(request, "stopping; the study's command goes on")
                case Wish.PRUNE if request.trial in self._running:
                    self._condemn(request.trial, f"pruned {request.sentence}")
                    self.search.answer(request, f"trial {request.trial} is being pruned")
                case Wish.PRUNE:
                    self.search.answer(request, f"trial {request.trial} is not running")

    def _halt(self, sentence: str | None) -> None:
        """End the study for a reason of its own, where there is one; the trials that still run stay resumable."""
        self._halted = self._halted or sentence
        if sentence is not None and not self._stopping:
            self._interrupt()

    def _interrupt(self) -> None:
        self._stopping, self._deadline = True, self.clock() + GRACE
        self.workers.interrupt()
