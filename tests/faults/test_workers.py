"""Workers killed, stopped, hung and crashed in every way a process can be; nothing else is changed by it."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from study_helpers import Hook, drive, record, results, yaml

from tuner.run.driver import Driver, Ending
from tuner.run.hands.fake import FakeWorkers
from tuner.run.hands.link import Alive, Message, PipeLink, TrialJob
from tuner.run.hands.workers import Died, Event
from tuner.search.asktell import Search
from tuner.search.store.address import MEMORY_URL
from tuner.search.store.storage import open_storage
from tuner.spec.load import parse
from tuner.spec.records import Measurement, Spent, Verdict
from tuner.tracking.base import NullTracker


@pytest.fixture(scope="module")
def text(text_file: Path) -> str:
    return yaml(text_file)


@pytest.fixture(scope="module")
def whole(text: str, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("whole")
    driver, _ = drive(text, folder)
    assert driver.run() is Ending.COMPLETE
    return results(folder)


def test_a_stopped_worker_is_ended_and_its_trial_completes_once(text: str, whole: list[Any], tmp_path: Path) -> None:
    """SIGSTOP for longer than the driver's patience; SIGCONT finds nobody to wake up."""
    stopped: list[int] = []

    def act(number: int, reached: int) -> None:
        if number == 1 and reached == 1 and not stopped:
            stopped.append(hands.pids()[1])
            os.kill(stopped[0], signal.SIGSTOP)

    hook = Hook(act)
    driver, hands = drive(text.replace("keep: 4", "keep: 4, patience: 6 s"), tmp_path, hook)
    assert driver.run() is Ending.COMPLETE
    assert any("said nothing for 6 s (study.patience)" in sentence for sentence in hook.said)
    with pytest.raises(ProcessLookupError):
        os.kill(stopped[0], signal.SIGCONT)
    assert sorted(number for number, _ in hook.ends) == [0, 1, 2, 3]
    assert results(tmp_path) == whole


@pytest.mark.faults
def test_a_worker_stopped_for_less_than_the_patience_is_left_alone(text: str, whole: list[Any], tmp_path: Path) -> None:
    def act(number: int, reached: int) -> None:
        if number == 1 and reached == 1:
            pid = hands.pids()[1]
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(1.5, os.kill, (pid, signal.SIGCONT)).start()

    hook = Hook(act)
    driver, hands = drive(text, tmp_path, hook)
    assert driver.run() is Ending.COMPLETE
    assert hook.said == []
    assert results(tmp_path) == whole


def test_a_driver_that_slept_itself_blames_nobody(text: str, whole: list[Any], tmp_path: Path) -> None:
    """A laptop's lid, Ctrl-Z: the clock has gone on, and the workers had no chance to speak."""
    clock = [0.0]

    def act(number: int, reached: int) -> None:
        clock[0] += 3600

    driver, _ = drive(text, tmp_path, Hook(act))
    driver.clock = lambda: clock[0] + time.monotonic()
    assert driver.run() is Ending.COMPLETE
    assert driver.watcher.said == []  # type: ignore[attr-defined]
    assert results(tmp_path) == whole


@pytest.mark.faults
@pytest.mark.parametrize(("number", "words"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGABRT, "SIGABRT")])
def test_deaths_are_told_apart_and_harm_no_other_trial(
    text: str, whole: list[Any], tmp_path: Path, number: int, words: str
) -> None:
    def act(trial: int, reached: int) -> None:
        if trial == 2 and reached == 1:
            os.kill(hands.pids()[2], number)

    driver, hands = drive(text, tmp_path, Hook(act))
    assert driver.run() is Ending.COMPLETE
    assert words in record(tmp_path).trials[2].reason
    assert [one for one in results(tmp_path) if one[0] != 2] == [one for one in whole if one[0] != 2]


class _Killer(threading.Thread):
    """Kills workers at random instants, once between two milestones of a trial, as far as this thread knows.

    A kill may fall just before a milestone that is heard after it, so the driver counts two; a third is a failure.
    """

    def __init__(self, pids: Callable[[], dict[int, int]], enough: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.pids, self.enough, self.rng = pids, enough, random.Random(seed)
        self.since, self.reached = Counter[int](), Counter[int]()
        self.kills, self.over = 0, threading.Event()

    def act(self, number: int, reached: int) -> None:
        if reached > self.reached[number]:  # not one that is sent again
            self.reached[number], self.since[number] = reached, 0

    def run(self) -> None:
        while self.kills < self.enough and not self.over.wait(self.rng.uniform(0.3, 0.9)):
            alive = [(number, pid) for number, pid in self.pids().items() if self.since[number] < 1]
            if not alive:
                continue
            number, pid = self.rng.choice(alive)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.since[number] += 1
                self.kills += 1


def _until_killed(text: str, folder: Path, kills: int) -> tuple[int, list[Any]]:
    killer = _Killer(lambda: hands.pids(), kills, seed=5)
    driver, hands = drive(text, folder, Hook(killer.act))
    killer.start()
    assert driver.run() is Ending.COMPLETE
    killer.over.set()
    return killer.kills, results(folder)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_two_hundred_kills_of_workers_change_nothing(
    text_file: Path, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    """A long study, so that the kills fall on every stage of a trial's life; twelve milestones each."""
    text = yaml(text_file, trials=40, budget="60k tokens").replace("milestones: 4", "milestones: 12")
    driver, _ = drive(text, tmp_path / "whole")
    assert driver.run() is Ending.COMPLETE
    expected = results(tmp_path / "whole")
    total, studies = 0, 0
    while total < 200:
        studies += 1
        kills, found = _until_killed(text, tmp_path / str(studies), 200 - total)
        assert found == expected
        total += kills
    figures(f"{total} workers killed over {studies} studies of 40 trials: every value and weight as without")


def test_a_worker_that_only_works_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation longer than the patience measures nothing, and each of its batches is a sign of life."""
    ours, theirs = multiprocessing.Pipe()
    link = PipeLink(theirs)
    assert not link.interrupted()
    assert not ours.poll()
    monkeypatch.setattr("tuner.run.hands.link.QUIET", -1.0)
    assert not link.interrupted()
    assert ours.recv() == Alive()


class _Slow(FakeWorkers):
    """A thousand signs of life, 0.6 s of the virtual clock each, before anything is measured."""

    def story(self, job: TrialJob) -> Iterator[Message | Died]:
        said = super().story(job)
        yield next(said)
        yield from itertools.repeat(Alive(), 1000)
        yield from said


class _Hung(FakeWorkers):
    """Lives on the virtual clock and says nothing more, until it is killed."""

    def wait(self, timeout: float) -> list[Event]:
        self.now += 1.0
        return super().wait(timeout) if self._queue else []

    def story(self, job: TrialJob) -> Iterator[Message | Died]:
        yield next(super().story(job))
        yield Measurement(Spent(1, 1, 1.0, 1.0), {"val_loss": 1.0}, 1)

    def answer(self, number: int, verdict: Verdict) -> None: ...


@pytest.mark.parametrize(("hands", "states"), [(_Slow, {"complete"}), (_Hung, {"failed"})])
def test_signs_of_life_are_all_that_patience_asks_for(
    tmp_path: Path, hands: type[FakeWorkers], states: set[str]
) -> None:
    spec = parse(
        "name: slow\nspace: {optim.lr: {float: [1e-4, 1e-2]}}\n"
        "study: {trials: 2, milestones: 2, patience: 100 s, prior: none}"
    )
    search, workers = Search(spec, open_storage(MEMORY_URL)), hands(1)
    driver = Driver(spec, search, workers, NullTracker(), Hook(), tmp_path, tmp_path, clock=workers.clock)
    driver.run()
    trials = search.record().trials
    assert {trial.state for trial in trials} == states
    assert all(("said nothing for 100 s" in trial.reason) == (states == {"failed"}) for trial in trials)
