"""What the doctor's tests share: where the study lies, and how it is hurt by hand."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuner.doctor.command import run_doctor
from tuner.promotion.ledger import Entry, Stage

URL, URI = "sqlite:///tuner.db", "sqlite:///mlflow.db"
RUNS = Path("runs")
SMALL = RUNS / "small"

Told = tuple[int, str]
Ask = Callable[..., Told]


def told(capsys: pytest.CaptureFixture[str], fix: bool = False) -> dict[str, Any]:
    capsys.readouterr()
    run_doctor(URL, RUNS, (), fix, as_json=True)
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def store(statement: str, *values: object) -> None:
    """Change the trial store behind everybody's back."""
    with sqlite3.connect("tuner.db") as database:
        assert database.execute(statement, values).rowcount != 0
    database.close()


def mlflow_store(statement: str) -> None:
    with sqlite3.connect("mlflow.db") as database:
        assert database.execute(statement).rowcount != 0
    database.close()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def files() -> dict[str, bytes]:
    """Every file of the study, but for those that only say who works on it."""
    passing = ("driver.json", ".lock")
    return {str(path): path.read_bytes() for path in SMALL.rglob("*") if path.is_file() and path.name not in passing}


def unname() -> None:
    """As after a driver that left before the mirror had made the runs of a trial."""
    with sqlite3.connect("tuner.db") as database:
        database.execute("DELETE FROM trial_user_attributes WHERE key = 'mlflow_run' AND trial_id = 2")
        database.execute("DELETE FROM study_user_attributes WHERE key = 'mlflow_run:1'")
    database.close()


def keep(best: int) -> None:
    """As if the study's command had been run with study.keep changed."""
    with sqlite3.connect("tuner.db") as database:
        (spec,) = database.execute("SELECT value_json FROM study_user_attributes WHERE key = 'spec'").fetchone()
        parsed = json.loads(spec)
        parsed["study"]["keep"] = best
        database.execute("UPDATE study_user_attributes SET value_json = ? WHERE key = 'spec'", (json.dumps(parsed),))
    database.close()


def entry(stage: Stage, after: int | None) -> Entry:
    return Entry("ann", "tiny", "promote", stage, None, after, "r1", "because", candidate={"study": "small"})
