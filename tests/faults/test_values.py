"""Strange values and strange clocks: told apart in the record, never best, no sort and no duration broken."""

from __future__ import annotations

import contextlib
import math
import os
import random
import sqlite3
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crashing import run
from study_job import URL, outcome, study

from tuner.analysis.table import open_study
from tuner.run.driver import Driver, Ending
from tuner.run.hands.fake import FakeWorkers
from tuner.run.watcher import Silent
from tuner.search.asktell import Search
from tuner.search.store.storage import open_storage
from tuner.spec.errors import SpecError
from tuner.spec.load import parse
from tuner.spec.records import Measurement, Spent
from tuner.tracking.spool import SPOOL, read_spool
from tuner.tracking.store import create
from tuner.tracking.tracker import Spooler

YAML = """
name: crash
space: {optim.lr: {float: [1e-4, 1e-2], log: true}}
study: {trials: 8, milestones: 2, sampler: random, pruner: median, prior: none, workers: 1}
"""

STRANGE: dict[str, tuple[Any, str]] = {
    "nan": (math.nan, "diverged"),
    "inf": (math.inf, "diverged"),
    "minus inf": (-math.inf, "diverged"),
    "1e400": (1e400, "diverged"),
    "float32": (np.float32(1.5), "complete"),
    "float64": (np.float64(1.25), "complete"),
    "array of one": (np.array(1.75), "complete"),
    "whole": (2, "complete"),
}


def test_strange_values_are_told_apart_and_never_best(tmp_path: Path) -> None:
    """One after the other, each at the end of a trial whose first milestone was as usual."""
    values = [value for value, _ in STRANGE.values()]
    number = iter(range(100))
    known: dict[str, Any] = {}

    def curve(spec: Any, share: float) -> Any:
        if share < 1:
            return 3.0
        return known.setdefault(spec.hash, values[next(number)])

    spec = parse(YAML)
    search = Search(spec, open_storage(URL, create=True))
    hands = FakeWorkers(1, curve)
    runs = tmp_path / "runs"
    tracker = Spooler(runs, lambda sentence: None)
    driver = Driver(spec, search, hands, tracker, Silent(), runs, runs, clock=hands.clock)
    assert driver.run() is Ending.COMPLETE
    trials = open_study(URL, "crash").trials
    assert [trial.state for trial in trials] == [state for _, state in STRANGE.values()]
    ranked = [trial.value for trial in search.record().ranked() if trial.value is not None]
    assert ranked == [1.25, 1.5, 1.75, 2.0]
    assert all(type(value) is float for value in ranked)
    assert all(read_spool(runs / str(trial.number) / SPOOL).damaged == 0 for trial in trials)


@pytest.mark.parametrize("text", ["1e400", ".nan", "-.inf", "null", "[1, 2]", "true", "0x10", "'3'", "1_000"])
@pytest.mark.parametrize("path", ["trial.optim.lr", "study.trials", "trial.batch", "study.patience"])
def test_strange_numbers_in_a_yaml_are_a_value_or_a_sentence(path: str, text: str) -> None:
    said = ""
    try:
        spec = parse(YAML, overrides=[f"{path}={text}"])
    except SpecError as error:
        said = str(error)
    if said:
        assert path.rpartition(".")[2] in said
        return
    value = spec.trial.optim.lr if path.endswith("lr") else getattr(spec.study, path[6:], spec.trial.batch)
    assert math.isfinite(value)
    assert type(value) in (int, float)


class _Clock:
    """A wall clock that is set by up to an hour whenever it is looked at."""

    def __init__(self) -> None:
        self.rng, self.ns = random.Random(3), time.time_ns

    def time_ns(self) -> int:
        return self.ns() + self.rng.randint(-3600, 3600) * 10**9

    def time(self) -> float:
        return self.time_ns() / 1e9


def stepping(folder: str, real: bool, yaml: str) -> None:
    """The study while the clock is set all the time, and the time zone moves."""
    import optuna.storages._rdb.models as models
    import optuna.storages._rdb.storage as storage

    clock = _Clock()
    time.time_ns, time.time = clock.time_ns, clock.time

    class Stepped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            os.environ["TZ"] = clock.rng.choice(["UTC", "Asia/Tokyo", "America/New_York"])
            time.tzset()
            return datetime.now(tz) + timedelta(seconds=clock.rng.randint(-3600, 3600))

    for module in (storage, models):
        if getattr(module, "datetime", None) is datetime:
            module.datetime = Stepped
    study(folder, yaml, real=real)


def negative(folder: Path) -> list[str]:
    """Runs of MLflow that ended before they began, and spools whose times go back."""
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store:
        found = [run for (run,) in store.execute("SELECT run_uuid FROM runs WHERE end_time < start_time")]
    for path in folder.glob("runs/*/*/spool.jsonl"):
        content = read_spool(path)
        times = [row.time_ms for row in content.rows] + ([content.finish.time_ms] if content.finish else [])
        if times != sorted(times) or (content.start and content.start.time_ms > times[0]):
            found.append(str(path))
    return found


def test_a_clock_that_is_set_all_the_time_kills_nobody(tmp_path: Path, figures: Callable[[str], None]) -> None:
    from study_job import YAML as CALM

    create(tmp_path / "mlflow.db")
    assert run(stepping, str(tmp_path), False, CALM) == 0
    assert {state for _, state, *_ in outcome(tmp_path)} == {"complete"}
    assert negative(tmp_path) == []


@pytest.mark.faults
def test_real_workers_under_a_clock_that_is_set_all_the_time(
    tmp_path: Path, text_file: Path, figures: Callable[[str], None]
) -> None:
    from study_helpers import yaml

    for name in ("whole", "stepped"):
        (tmp_path / name).mkdir()
        create(tmp_path / name / "mlflow.db")
    assert run(study, str(tmp_path / "whole"), yaml(text_file), real=True) == 0
    assert run(stepping, str(tmp_path / "stepped"), True, yaml(text_file)) == 0
    assert outcome(tmp_path / "stepped", "small") == outcome(tmp_path / "whole", "small")
    assert negative(tmp_path / "stepped") == []
    figures("clock and time zone set by up to an hour at every look: same values, no death, no negative duration")


def test_a_row_of_the_past_has_the_time_of_the_one_before(tmp_path: Path) -> None:
    """A worker's clock an hour behind the driver's, and a driver that starts again with another clock."""
    spooler = Spooler(tmp_path, lambda sentence: None)
    spooler.start(0, {}, {}, {})
    now = read_spool(tmp_path / "0" / SPOOL).start.time_ms  # type: ignore[union-attr]
    for step, ms in ((1, now + 5000), (2, now - 3_600_000), (3, now + 6000)):
        spooler.row(0, Measurement(Spent(step, step, 1.0, 1.0), {"train_loss": 1.0}, None, time_ms=ms))
    spooler.close()
    again = Spooler(tmp_path, lambda sentence: None)
    again.row(0, Measurement(Spent(4, 4, 1.0, 1.0), {"train_loss": 1.0}, None, time_ms=now))
    again.close()
    times = [row.time_ms - now for row in read_spool(tmp_path / "0" / SPOOL).rows]
    assert times == [5000, 5000, 6000, 6000]
