"""A whole study on fake hands: real driver, store, lock, spools and MLflow mirror; what it came to."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import typer

from tuner.run import folder as folders
from tuner.run.driver import Driver
from tuner.run.hands.landscape import SimulatedWorkers
from tuner.run.hands.link import TrialJob
from tuner.run.hands.local import LocalWorkers
from tuner.run.watcher import Silent
from tuner.search.asktell import Search
from tuner.search.history import read_study
from tuner.search.store.lock import study_lock
from tuner.search.store.storage import open_storage
from tuner.spec.load import parse
from tuner.study.command import errors_as_sentences
from tuner.study.mirror import sync_studies
from tuner.tracking.tracker import StudyTracker

URL, URI = "sqlite:///tuner.db", "sqlite:///mlflow.db"

YAML = """
name: crash
trial: {model: {depth: 4, width: 128}, batch: 16, budget: 1M tokens}
space:
  optim.lr: {float: [2e-3, 8e-3], log: true}
  batch:    {choice: [8, 16]}
study:
  {trials: 4, milestones: 3, sampler: random, pruner: none, prior: none, keep: 1, samples: 1,
   repeats: {top: 1, seeds: 2}}
"""


class Hands(SimulatedWorkers):
    """Fake hands that leave a folder where a checkpoint would be, so that retention has something to do."""

    def start(self, job: TrialJob) -> None:
        place = job.folder / "checkpoints" / "step-00000001"
        place.mkdir(parents=True, exist_ok=True)
        (place / "manifest.json").write_text("{}")
        super().start(job)


def told(folder: str, **how: Any) -> None:
    """As the study's command, for one that is to fail: its sentence is in the file ``said``, its exit code 3."""
    said = Path(folder) / "said"
    try:
        with said.open("w") as stream, contextlib.redirect_stderr(stream), errors_as_sentences():
            study(folder, **how)
    except typer.Exit:
        os._exit(3)


def study(folder: str, yaml: str = YAML, url: str = URL, real: bool = False, patience: float = 60.0) -> None:
    """Run the study of ``yaml`` in ``folder`` to its end, or go on with it; ``real``: with workers that train.

    MLflow is waited for at the end, for ``patience`` seconds.
    """
    os.chdir(folder)
    spec = parse(yaml)
    runs = Path("runs") / spec.name
    with study_lock(url, spec.name, runs) as renew:
        search = Search(spec, open_storage(url, create=True))
        search.outage.renew = renew
        folders.claim(runs, search.origin, URI)
        tracker = StudyTracker(runs, spec.name, URI, lambda sentence: None, interval=0.01)
        hands: Hands | LocalWorkers = LocalWorkers(["cpu", "cpu"], threads=1) if real else Hands(2)
        clock = hands.clock if isinstance(hands, Hands) else time.monotonic
        driver = Driver(spec, search, hands, tracker, Silent(), runs, Path("runs/.corpora"), clock=clock)
        driver.run()
        left = tracker.close(patience)
        search.link_runs(tracker.runs())
    if left and patience > 1:
        sync_studies(spec.name, URI, url)  # as the user is told


def outcome(folder: Path, name: str = "crash", url: str | None = None) -> list[tuple[Any, ...]]:
    """What no interruption may change, of every trial: its number, state, point, value, milestones and weights."""
    storage = open_storage(url or f"sqlite:///{folder / 'tuner.db'}")
    trials = read_study(storage, name).trials
    storage.remove_session()
    storage._backend.engine.dispose()  # type: ignore[attr-defined]
    facts = ("tokens", "checkpoint_sha256")
    return [(t.number, t.state, t.point, t.value, t.milestones, *(t.facts.get(key) for key in facts)) for t in trials]


def mirrored(folder: Path, metrics: str = "%_loss") -> dict[str, tuple[str, list[tuple[str, int, float]]]]:
    """Trial -> its one run's status in MLflow, and every point of ``metrics``.

    Of real trials the validation loss alone is the same twice: how often a row is logged depends on the clock.
    """
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store:
        runs = store.execute(
            "SELECT t.value, r.run_uuid, r.status FROM runs r JOIN tags t ON r.run_uuid = t.run_uuid "
            "WHERE t.key = 'tuner.number' AND r.lifecycle_stage = 'active'"
        ).fetchall()
        assert len(runs) == len({number for number, _, _ in runs}), "one run a trial"
        query = "SELECT key, step, value FROM metrics WHERE run_uuid = ? AND key LIKE ?"
        found = {number: (status, store.execute(query, (run, metrics)).fetchall()) for number, run, status in runs}
        return {number: (status, sorted(points)) for number, (status, points) in found.items()}


def hold_the_law(folder: Path, kept: int = 1) -> None:
    """Both databases are whole, nothing half done lies about, and so many trials have their checkpoints."""
    for name in ("tuner.db", "mlflow.db"):
        with contextlib.closing(sqlite3.connect(folder / name)) as store:
            assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",), name
    left = [path for path in folder.rglob("*") if ".tmp-" in path.name or path.name.endswith(".new")]
    assert not left
    assert len(list(folder.glob("runs/*/*/checkpoints"))) == kept
