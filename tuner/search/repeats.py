"""Repeats: trials that differ in nothing but the seed, and what they tell of noise.
Reading only; how much noise a decision may bear is said in promotion/ and analysis/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import NormalDist

from tuner.search.history import StudyRecord
from tuner.spec.parts.scalars import digest
from tuner.spec.records import Point

SEED = "seed"
"""The path of a trial's seed, where it is a dimension."""

ASSUMED = 0.005
"""Deviation between seeds as a share of the loss, where a study has too few repeats to tell its own.

Measured on char-Shakespeare at 4 x 128: 0.2 to 0.3 % of the loss; smaller budgets scatter more.
"""

TRUSTED = 4
"""Repeats beyond the first of each settings from which on a study's own deviation is believed alone."""


def family(point: Point) -> str:
    """What the points of equal settings share, whatever their seed."""
    return digest({path: value for path, value in point.items() if path != SEED})


def families(record: StudyRecord) -> dict[str, dict[str, float]]:
    """Family -> seed -> final value, complete trials only."""
    fixed = str(record.spec["trial"]["seed"])
    found: dict[str, dict[str, float]] = {}
    for trial in record.trials:
        if trial.value is not None:
            found.setdefault(family(trial.point), {}).setdefault(str(trial.point.get(SEED, fixed)), trial.value)
    return found


def looked_at(record: StudyRecord) -> int:
    """Different settings of which something was seen: a pruned trial was looked at as well as a complete one."""
    return len({family(trial.point) for trial in record.trials if trial.value is not None or trial.milestones})


def pooled(groups: Iterable[Mapping[str, float]]) -> tuple[float | None, int]:
    """Standard deviation within families of repeats, pooled over them, and its degrees of freedom; None and 0 where
    nothing was repeated.
    """
    squares, freedom = 0.0, 0
    for values in groups:
        mean = sum(values.values()) / len(values)
        squares += sum((value - mean) ** 2 for value in values.values())
        freedom += len(values) - 1
    return ((squares / freedom) ** 0.5 if freedom else None), freedom


def deviation(set_: float | None, measured: float | None, repeats: int, loss: float) -> float:
    """The deviation between seeds in nats: as set, else as measured by ``repeats``, at least the assumed one where
    those are few.
    """
    if set_ is not None:
        return set_
    assumed = ASSUMED * loss
    if measured is None:
        return assumed
    return measured if repeats >= TRUSTED else max(measured, assumed)


def luckiest(n: int) -> float:
    """The mean of the largest of ``n`` standard normal values, in deviations: what the best of n owes to luck at most.

    Blom's approximation (1958): the quantile at (n - 3/8) / (n + 1/4); 0 for one value.
    """
    return NormalDist().inv_cdf((n - 0.375) / (n + 0.25))
