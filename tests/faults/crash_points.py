"""A study, and a trial, killed at points between which state changes and started again: as if nothing had been."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from crashing import STUDY, SYSTEM, TRIAL, Point, chosen, counted, run
from study_job import hold_the_law, mirrored, outcome, study
from trial_job import left, trial


def every_study(tmp_path: Path, database: Path, each: int, picked: slice) -> int:
    """Kill a study at ``each`` calls of every label, before and after in turns, as far as these are ``picked``; the
    number of kills.
    """
    whole = tmp_path / "whole"
    whole.mkdir()
    shutil.copy(database, whole / "mlflow.db")
    assert run(study, str(whole), points=STUDY) == 0
    require_reached(whole, STUDY)
    expected, points = outcome(whole), mirrored(whole)
    assert {state for _, state, *_ in expected} == {"complete"}
    kills = 0
    for number, point in enumerate(chosen(counted(whole), each)[picked]):
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
    require_reached(whole, TRIAL)
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


def require_reached(folder: Path, points: Mapping[str, str]) -> None:
    """The platform's own words are all reached: one that nothing calls any more would be held to nothing."""
    missing = points.keys() - SYSTEM.keys() - counted(folder).keys()
    assert not missing, missing


def died(code: int, point: Point) -> bool:
    """The mirror is a thread of its own: how often it writes is not the same twice, so a late point may not come."""
    assert code in (0, -signal.SIGKILL), point
    return code != 0
