"""Is the winner luck? Simulated studies, and the true rank of what one seed and what the repeats would ship.
On fake hands whose losses without luck are known; the first line says so.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tuner.run.driver import Driver, Silent
from tuner.run.hands.landscape import SEED_DEVIATION, SimulatedWorkers, expected_at
from tuner.search.asktell import Search
from tuner.search.history import StudyRecord, TrialRecord
from tuner.search.repeats import REPEAT, winner
from tuner.search.storage import MEMORY_URL, open_storage
from tuner.spec.load import parse
from tuner.spec.study import StudySpec
from tuner.tracking.base import NullTracker

_YAML = """
name: simulated
trial: {model: {depth: 4, width: 128}, batch: 16, budget: 1M tokens}
space:
  optim.lr:     {float: [2e-4, 4e-2], log: true}
  optim.warmup: {float: [0.0, 0.2]}
  batch:        {choice: [8, 16, 32, 64]}
  model.depth:  {int: [2, 8]}
  model.width:  {int: [64, 384], step: 64}
study: {milestones: 8, sampler: tpe, pruner: median}
"""


@dataclass(frozen=True)
class Ranks:
    """Of the trial with the lowest value of one seed, and of the one that the repeats chose; 1 is truly the best."""

    single: int
    repeated: int


def compare_repeats(studies: int, trials: int, top: int, seeds: int) -> None:
    """Print the median true rank of both over ``studies`` simulated studies of ``trials`` trials each."""
    print(
        f"simulated: {studies} studies of {trials} trials on a formula, seeds deviate by {SEED_DEVIATION} nats; "
        f"the best {top} run again until each has {seeds} seeds",
        flush=True,
    )
    repeats = f"study.repeats={{top: {top}, seeds: {seeds}}}"
    found = []
    for seed in range(studies):
        spec = parse(_YAML, overrides=[f"study.trials={trials}", f"study.seed={seed}", repeats])
        search, hands = Search(spec, open_storage(MEMORY_URL)), SimulatedWorkers(2)
        with tempfile.TemporaryDirectory(prefix="tuner-bench-") as folder:
            place = Path(folder)
            Driver(spec, search, hands, NullTracker(), Silent(), place, place, clock=hands.clock).run()
        found.append(_ranks(spec, search.record()))
    for name, ranks in (("one seed", [r.single for r in found]), ("repeats", [r.repeated for r in found])):
        first = sum(rank == 1 for rank in ranks)
        print(
            f"{name:<9} true rank of what is shipped: median {statistics.median(ranks):g}, mean "
            f"{statistics.fmean(ranks):.2f}, worst {max(ranks)}; truly the best in {first} of {studies}"
        )


def _ranks(spec: StudySpec, record: StudyRecord) -> Ranks:
    searched = [trial for trial in record.ranked() if trial.value is not None and REPEAT not in trial.facts]
    truth = sorted(_expected(spec, trial) for trial in searched)
    chosen = winner(record)
    assert chosen is not None
    return Ranks(*(1 + truth.index(_expected(spec, trial)) for trial in (searched[0], chosen)))


def _expected(spec: StudySpec, trial: TrialRecord) -> float:
    return expected_at(spec.resolve(trial.point), 1.0)
