"""Every point between which state changes: killed there, the same command ends as if nothing had been."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from crashing import STUDY, TRIAL, Point, chosen, counted, run
from study_job import hold_the_law, mirrored, outcome, study
from trial_job import left, trial


def every_study(tmp_path: Path, database: Path, each: int, stride: int = 1) -> int:
    """Kill a study at ``each`` calls of every label, or at every ``stride``-th of those; the number of kills."""
    whole = tmp_path / "whole"
    whole.mkdir()
    shutil.copy(database, whole / "mlflow.db")
    assert run(study, str(whole), points=STUDY) == 0
    expected, points = outcome(whole), mirrored(whole)
    assert {state for _, state, *_ in expected} == {"complete"}
    kills = 0
    for number, point in enumerate(chosen(counted(whole), each)[::stride]):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(database, folder / "mlflow.db")
        kills += died(run(study, str(folder), points=STUDY, kill=point), point)
        assert run(study, str(folder)) == 0, point
        assert outcome(folder) == expected, point
        assert mirrored(folder) == points, point
        hold_the_law(folder)
        shutil.rmtree(folder)
    return kills


def every_trial(tmp_path: Path, text: Path, each: int, stride: int = 1) -> int:
    """The same for a trial in its worker."""
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run(trial, str(whole), str(text), points=TRIAL) == 0
    expected = left(whole)
    kills = 0
    for number, point in enumerate(chosen(counted(whole), each)[::stride]):
        folder = tmp_path / str(number)
        folder.mkdir()
        kills += died(run(trial, str(folder), str(text), points=TRIAL, kill=point), point)
        assert run(trial, str(folder), str(text)) == 0, point
        assert left(folder) == expected, point
        shutil.rmtree(folder)
    return kills


def died(code: int, point: Point) -> bool:
    """The mirror is a thread of its own: how often it writes is not the same twice, so a late point may not come."""
    assert code in (0, -signal.SIGKILL), point
    return code != 0


def test_a_study_killed_at_a_few_points_ends_as_if_it_had_not_been(tmp_path: Path, database: Path) -> None:
    assert every_study(tmp_path, database, 1, stride=5) >= 6


def test_a_trial_killed_at_a_few_points_ends_bit_identical(tmp_path: Path, text_file: Path) -> None:
    assert every_trial(tmp_path, text_file, 1, stride=2) >= 6


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_study_killed_at_every_crash_point_ends_as_if_it_had_not_been(
    tmp_path: Path, database: Path, figures: Callable[[str], None]
) -> None:
    kills = every_study(tmp_path, database, 6)
    figures(f"{kills} crash points of a study: {kills} times the same trials, values and MLflow points")


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_trial_killed_at_every_crash_point_ends_bit_identical(
    tmp_path: Path, text_file: Path, figures: Callable[[str], None]
) -> None:
    kills = every_trial(tmp_path, text_file, 12)
    figures(f"{kills} crash points of a trial: {kills} times the same weights, no torn checkpoint")
