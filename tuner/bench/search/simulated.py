"""Simulated studies for benches: a space, its best loss without luck, and a whole study on fake hands in a second.
The real driver, search and pruners; only the training is made up, and every bench that uses it says so.
"""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tuner.run.driver import Driver
from tuner.run.hands.landscape import SimulatedWorkers, expected_at, fits
from tuner.run.watcher import Silent
from tuner.search.asktell import Search
from tuner.search.history import StudyRecord, TrialRecord
from tuner.search.store.address import MEMORY_URL
from tuner.search.store.storage import open_storage
from tuner.spec.load import parse
from tuner.spec.records import Outcome
from tuner.spec.study import StudySpec
from tuner.tracking.base import NullTracker

YAML = """
name: simulated
trial: {model: {depth: 4, width: 128}, batch: 16, budget: 1M tokens}
space:
  optim.lr:     {float: [2e-4, 4e-2], log: true}
  optim.warmup: {float: [0.0, 0.2]}
  batch:        {choice: [8, 16, 32, 64]}
  model.depth:  {int: [2, 8]}
  model.width:  {int: [64, 384], step: 64}
study: {milestones: 8}
"""
WORKERS = 2


class Stopping(Silent):
    """A watcher that stops the driver after the first trial of which ``enough`` is true."""

    def __init__(self, enough: Callable[[int, float | None], bool]) -> None:
        self.enough = enough
        self.stop: Callable[[], None] = lambda: None

    def ended(self, number: int, outcome: Outcome, value: float | None) -> None:
        if self.enough(number, value):
            self.stop()


def simulated_spec(overrides: Sequence[str]) -> StudySpec:
    """The simulated study with some settings of its own."""
    return parse(YAML, overrides=list(overrides))


def simulate(spec: StudySpec, until: float | None = None) -> StudyRecord:
    """Run a whole study on fake hands; with ``until`` it ends once a complete trial's expected loss is as low."""
    search, hands = Search(spec, open_storage(MEMORY_URL)), SimulatedWorkers(WORKERS)

    def low(number: int, value: float | None) -> bool:
        if until is None or value is None:
            return False
        return expected_loss(spec, search.record().find(number)) <= until

    watcher = Stopping(low)
    with tempfile.TemporaryDirectory(prefix="tuner-bench-") as folder:
        place = Path(folder)
        driver = Driver(spec, search, hands, NullTracker(), watcher, place, place, clock=hands.clock)
        watcher.stop = driver.stop
        driver.run()
    return search.record()


def expected_loss(spec: StudySpec, trial: TrialRecord) -> float:
    """The loss of the trial's settings at the full budget, without the luck of its seed."""
    return expected_at(spec.resolve(trial.point), 1.0)


@functools.cache
def best_loss() -> float:
    """The lowest such loss of the space, over a fine grid of it; settings that do not fit into memory do not count."""
    spec = simulated_spec([])
    depths, widths = (spec.space[f"model.{name}"].grid() for name in ("depth", "width"))
    best = math.inf
    for depth in depths:
        for width in widths:
            for batch in spec.space["batch"].grid():
                shaped = spec.resolve({"model.depth": depth, "model.width": width, "batch": batch})
                for step in range(81) if fits(shaped) else ():
                    lr = 2e-4 * 200 ** (step / 80)
                    for warmup in (0.07, 0.08, 0.09):
                        optim = shaped.optim.model_copy(update={"lr": lr, "warmup": warmup})
                        best = min(best, expected_at(shaped.model_copy(update={"optim": optim}), 1.0))
    return best
