"""Is the winner luck? Simulated studies, and the true rank of what one seed and what the repeats would ship.
On fake hands whose losses without luck are known; the first line says so.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from tuner.bench.search.simulated import expected_loss, simulate, simulated_spec
from tuner.run.hands.landscape import SEED_DEVIATION
from tuner.search.history import StudyRecord
from tuner.search.repeats import REPEAT, winner
from tuner.spec.study import StudySpec


@dataclass(frozen=True)
class Ranks:
    """Of the trial with the lowest value of one seed, and of the one that the repeats chose; 1 is truly the best.

    ``tenth``: how far the tenth best truly lies above the best, in nats.
    """

    single: int
    repeated: int
    tenth: float


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
        settings = [f"study.trials={trials}", f"study.seed={seed}", "study.sampler=tpe", "study.pruner=median", repeats]
        spec = simulated_spec([*settings, "study.prior=none"])
        found.append(_ranks(spec, simulate(spec)))
    for name, ranks in (("one seed", [r.single for r in found]), ("repeats", [r.repeated for r in found])):
        first = sum(rank == 1 for rank in ranks)
        print(
            f"{name:<9} true rank of what is shipped: median {statistics.median(ranks):g}, mean "
            f"{statistics.fmean(ranks):.2f}, worst {max(ranks)}; truly the best in {first} of {studies}"
        )
    print(f"the tenth best truly lies {statistics.median(r.tenth for r in found):.5f} nats above the best (median)")


def _ranks(spec: StudySpec, record: StudyRecord) -> Ranks:
    searched = [trial for trial in record.ranked() if trial.value is not None and REPEAT not in trial.facts]
    truth = sorted(expected_loss(spec, trial) for trial in searched)
    chosen = winner(record)
    assert chosen is not None
    single, repeated = (1 + truth.index(expected_loss(spec, trial)) for trial in (searched[0], chosen))
    return Ranks(single, repeated, truth[min(9, len(truth) - 1)] - truth[0])
