"""How much better a candidate must be before it is not luck: seeds, windows, and the choice among many.
Pure arithmetic on losses; thresholds come from the settings, sentences from the gates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from tuner.search.repeats import luckiest


@dataclass(frozen=True)
class Seeds:
    """What is known of luck: the deviation between seeds (nats), the candidate's seeds, and how many settings it was
    chosen from.
    """

    deviation: float
    candidate: int = 1
    looked_at: int = 1


def needed(seeds: Seeds, error: float, confidence: float) -> float:
    """The gain in nats from which on the candidate is better than the champion with ``confidence``, one-sided.

    ``error`` is the standard error of the gain over the windows of the test part. A candidate with one seed is the
    luckiest of n = ``looked_at``: the largest of n normal values has a mean above zero (see
    ``luckiest``) and is below quantile c^(1/n) with probability c. One with more seeds is
    judged by the others (see ``fair_gain``), which nobody has selected. The champion is one checkpoint with a luck of
    its own, however many seeds its settings had. Means add up, what scatters adds in squares.
    """
    normal = NormalDist()
    z = normal.inv_cdf(confidence)
    mean, own = 0.0, z * seeds.deviation / math.sqrt(max(1, seeds.candidate - 1))
    if seeds.candidate == 1:
        n = max(1, seeds.looked_at)
        mean = luckiest(n) * seeds.deviation
        own = normal.inv_cdf(confidence ** (1 / n)) * seeds.deviation - mean
    rest = z * math.hypot(seeds.deviation, error)
    return mean + math.hypot(own, rest)


def fair_gain(gain: float, value: float, others: list[float]) -> float:
    """The gain without the candidate's own luck: its distance from the mean of the same settings with other seeds."""
    if not others:
        return gain
    return gain - (sum(others) / len(others) - value)
