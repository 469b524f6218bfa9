"""Workers killed, stopped, hung and crashed in every way a process can be; nothing else is changed by it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from study_helpers import Hook, drive, record, results, yaml

from tuner.run.driver import Ending


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
    driver, hands = drive(text.replace("keep: 4", "keep: 4, patience: 2 s"), tmp_path, hook)
    assert driver.run() is Ending.COMPLETE
    assert any("said nothing for 2 s (study.patience)" in sentence for sentence in hook.said)
    with pytest.raises(ProcessLookupError):
        os.kill(stopped[0], signal.SIGCONT)
    assert sorted(number for number, _ in hook.ends) == [0, 1, 2, 3]
    assert results(tmp_path) == whole


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
    """Kills a worker of ours every so often, until ``enough`` are or the study has ended."""

    def __init__(self, pids: Callable[[], list[int]], enough: int, pause: tuple[float, float], seed: int) -> None:
        super().__init__(daemon=True)
        self.pids, self.enough, self.pause, self.rng = pids, enough, pause, random.Random(seed)
        self.kills, self.over = 0, threading.Event()

    def run(self) -> None:
        while self.kills < self.enough and not self.over.wait(self.rng.uniform(*self.pause)):
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(self.rng.choice(self.pids()), signal.SIGKILL)
                self.kills += 1


def _until_killed(text: str, folder: Path, kills: int) -> tuple[int, list[Any]]:
    driver, hands = drive(text, folder)
    killer = _Killer(lambda: list(hands.pids().values()), kills, (0.35, 1.1), seed=5)
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
    text = yaml(text_file, trials=30, budget="60k tokens").replace("milestones: 4", "milestones: 12")
    driver, _ = drive(text, tmp_path / "whole")
    assert driver.run() is Ending.COMPLETE
    expected = results(tmp_path / "whole")
    total, studies = 0, 0
    while total < 200:
        studies += 1
        kills, found = _until_killed(text, tmp_path / str(studies), 200 - total)
        assert found == expected
        total += kills
    figures(f"{total} workers killed over {studies} studies of 30 trials: every value and weight as without")
