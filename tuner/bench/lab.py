"""A bench's workplace: a throw-away folder and a small real study in it, driven by the platform's own rooms.
Measuring only; what is compared with what is said in the benches beside.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tuner.run.driver import Driver
from tuner.run.link import DataJob
from tuner.run.local import LocalWorkers, call
from tuner.search.asktell import Search
from tuner.search.storage import MEMORY_URL, open_storage
from tuner.spec.load import parse
from tuner.spec.records import Measurement, Outcome, Point, Preparing, Started
from tuner.tracking.base import Tracker


def two_trials(milestones: int) -> str:
    """A study of two trials of 150 steps each at width 128, whether side by side or one after the other."""
    return f"""
name: bench
trial:
  data: {{source: stdlib, tokenizer: {{kind: byte}}, context: 64, val_tokens: 4096}}
  model: {{depth: 4, width: 128}}
  batch: 12
  budget: 115k tokens
study: {{trials: 2, milestones: {milestones}, sampler: random, pruner: none}}
"""


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """A temporary folder as the working folder; everything in it is gone afterwards."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="tuner-bench-") as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


class Quiet:
    """A watcher that notes when the first training step and the last outcome were heard."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.last = 0.0
        self.training: dict[int, float] = {}
        self.tokens: dict[int, int] = {}

    def preparing(self, number: int, work: Preparing) -> None: ...

    def started(self, number: int, point: Point, started: Started) -> None:
        self.first = self.first or time.perf_counter()

    def measured(self, number: int, measurement: Measurement) -> None:
        self.last = time.perf_counter()
        self.training[number] = measurement.spent.seconds
        self.tokens[number] = measurement.spent.tokens

    def ended(self, number: int, outcome: Outcome, value: float | None) -> None: ...

    def say(self, sentence: str) -> None: ...


@dataclass(frozen=True)
class Measured:
    """A run of a study: seconds from the first start to the last row, training seconds and tokens of all trials,
    processor seconds of the driver.
    """

    wall: float
    training: float
    tokens: int
    driver: float


def run_study(yaml: str, workers: int, threads: int, tracker: Tracker, folder: Path) -> Measured:
    """Drive the study of ``yaml`` in ``folder`` with ``workers`` processes of ``threads`` threads."""
    spec, watcher = parse(yaml), Quiet()
    corpora = Path(".corpora")
    call(DataJob(spec.trial.data, corpora))
    search = Search(spec, open_storage(MEMORY_URL))
    hands = LocalWorkers(["cpu"] * workers, threads)
    before = time.process_time()
    Driver(spec, search, hands, tracker, watcher, folder, corpora).run()
    driver = time.process_time() - before
    wall = watcher.last - (watcher.first or watcher.last)
    return Measured(wall, sum(watcher.training.values()), sum(watcher.tokens.values()), driver)
