"""Where a trial will end, judged by how those ended that were as far: for the pruner, and for the sampler's model.
Values at milestones only; what follows from a forecast is decided elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tuner.search.bayes.places.axis import Array

NEEDED = 6
"""Complete trials below which nothing is forecast."""

CURVES = 300
"""Complete trials that are looked at, the newest, which lie where the search is now."""

BELIEF = 2.0
"""So many trials' worth of belief that curves run parallel, before the trials themselves say otherwise."""

Curve = Mapping[int, float]
"""Milestone -> value there; that of a complete trial has the last one."""


class Forecast(NamedTuple):
    """The value expected at the full budget, and its standard deviation."""

    mean: float
    deviation: float

    def chance_below(self, value: float) -> float:
        """Of ending below ``value``."""
        return 0.5 * math.erfc((self.mean - value) / (self.deviation * math.sqrt(2)))


class _Way(NamedTuple):
    """What was still gained after one milestone: a ridge regression of ``known`` complete trials on (features,)."""

    centre: Array
    scale: Array
    inverse: Array
    slopes: Array
    rest: float
    scatter: float
    known: int

    def on(self, value: float, row: Array) -> Forecast:
        asked = (np.r_[value, row] - self.centre) / self.scale
        few = self.known / (self.known - 2)  # so few cannot tell their own scatter (Student's t)
        variance = few * self.scatter * (1 + 1 / self.known + float(asked @ self.inverse @ asked))
        return Forecast(value + self.rest + float(asked @ self.slopes), math.sqrt(variance) + 1e-4)


class Forecasts:
    """How ``complete`` trials, (where in the space, curve) each, went on from every milestone to the ``last``.

    Ridge regression of what was still gained on the value at the milestone and on where the trial lies in the space:
    a high rate hovers until it decays. The deviation is that of leaving each out in turn, so a line that explains
    nothing is not believed.
    """

    def __init__(self, complete: Sequence[tuple[Array, Curve]], last: int) -> None:
        self._complete, self._last = complete[-CURVES:], last
        self._ways: dict[int, _Way | None] = {}

    def of(self, curve: Curve, row: Array) -> Forecast | None:
        """The end of ``curve`` of the trial at ``row``; None where fewer than ``NEEDED`` tell of the way from there."""
        if not curve:
            return None
        at = max(curve)
        if at not in self._ways:
            self._ways[at] = self._from(at)
        way = self._ways[at]
        return None if way is None else way.on(curve[at], row)

    def _from(self, at: int) -> _Way | None:
        last = self._last
        known = [(where, one[at], one[last]) for where, one in self._complete if at in one and last in one]
        known = [one for one in known if math.isfinite(one[1]) and math.isfinite(one[2])]
        if len(known) < NEEDED:
            return None
        here, end = np.array([one[1] for one in known]), np.array([one[2] for one in known])
        features = np.c_[here, [one[0] for one in known]]
        centre, scale = features.mean(0), features.std(0) + 1e-9
        standard, rest = (features - centre) / scale, end - here
        inverse = np.linalg.inv(standard.T @ standard + BELIEF * np.eye(standard.shape[1]))
        slopes = inverse @ standard.T @ (rest - rest.mean())
        leverage = ((standard @ inverse) * standard).sum(1) + 1 / len(known)
        left_out = (rest - rest.mean() - standard @ slopes) / np.maximum(1 - leverage, 0.05)
        scatter = float((left_out**2).mean())
        return _Way(centre, scale, inverse, slopes, float(rest.mean()), scatter, len(known))
