"""A small real study for tests that need real processes: a YAML, and what its trials came to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuner.analysis.table import open_study
from tuner.run.driver import Driver
from tuner.run.hands.local import LocalWorkers
from tuner.search.asktell import Search
from tuner.search.history import StudyRecord
from tuner.search.store.storage import open_storage
from tuner.spec.load import parse
from tuner.spec.records import Measurement, Outcome, Point, Preparing, Started
from tuner.tracking.base import NullTracker

URL = "sqlite:///tuner.db"


def yaml(text: Path, trials: int = 4, budget: str = "12k tokens") -> str:
    """Points that depend on seed and number alone, and no pruning: any interruption must change nothing."""
    return f"""
name: small
trial:
  data: {{source: text, path: "{text}", tokenizer: {{kind: char}}, context: 32, val_tokens: 2048}}
  model: {{depth: 1, width: 32, dropout: 0.1}}
  batch: 8
  budget: {budget}
space:
  optim.lr: {{float: [1e-3, 1e-2], log: true}}
  batch: {{choice: [4, 8]}}
study: {{trials: {trials}, milestones: 4, sampler: random, pruner: none, workers: 2, keep: {trials}, seed: 3}}
"""


class Hook:
    """A watcher that calls ``act(number, milestone)`` at milestones and keeps what is said."""

    def __init__(self, act: Any = None) -> None:
        self.act, self.said, self.ends, self.resumed = act, [], [], []

    said: list[str]
    ends: list[tuple[int, Outcome]]
    resumed: list[tuple[int, int]]

    def preparing(self, number: int, work: Preparing) -> None: ...

    def started(self, number: int, point: Point, started: Started) -> None:
        if started.resumed_from is not None:
            self.resumed.append((number, started.resumed_from))

    def measured(self, number: int, measurement: Measurement) -> None:
        if self.act is not None and measurement.milestone is not None:
            self.act(number, measurement.milestone)

    def ended(self, number: int, outcome: Outcome, value: float | None) -> None:
        self.ends.append((number, outcome))

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


def drive(text: str, folder: Path, hook: Hook | None = None) -> tuple[Driver, LocalWorkers]:
    """A driver on real worker processes, its store in ``folder``; ready to run."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = parse(text)
    hands = LocalWorkers(["cpu", "cpu"], threads=1)
    search = Search(spec, open_storage(f"sqlite:///{folder / 'tuner.db'}", create=True))
    runs = folder / "runs"
    driver = Driver(spec, search, hands, NullTracker(), hook or Hook(), runs / spec.name, runs / ".corpora")
    return driver, hands


def record(folder: Path) -> StudyRecord:
    return open_study(f"sqlite:///{folder / 'tuner.db'}", "small")


def results(folder: Path) -> list[tuple[int, str, float | None, Any]]:
    """Of every trial: number, state, value and the sha256 of its best weights."""
    return [(t.number, t.state, t.value, t.facts.get("checkpoint_sha256")) for t in record(folder).trials]
