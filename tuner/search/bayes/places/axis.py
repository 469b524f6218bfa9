"""One dimension as numbers between 0 and 1: a column where its values have an order, else a column for each value.
Values in, numbers out and back, one at a time and by the thousand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.spec.dimensions.dimension import ChoiceDim, Dimension, IntDim, numeric, stepped
from tuner.spec.records import Value

Array = np.ndarray[Any, np.dtype[np.float64]]

INACTIVE = 0.5
"""Where a dimension stands in a point that does not have it."""


@dataclass(frozen=True)
class Axis:
    """A dimension, the first of its columns, and its ends, as logarithms where the scale is one."""

    dimension: Dimension
    first: int
    values: tuple[Value, ...]
    ordered: bool
    low: float = 0.0
    high: float = 1.0
    log: bool = False

    @property
    def columns(self) -> slice:
        return slice(self.first, self.first + (1 if self.ordered else len(self.values)))

    def place(self, value: Value) -> float:
        """Where a value of an ordered dimension stands, 0 to 1 within the space."""
        if isinstance(value, bool) or not isinstance(value, int | float) or (self.log and value <= 0):
            return INACTIVE  # "auto", or no value at all
        if self.values:
            nearest = min(range(len(self.values)), key=lambda k: abs(float(self.values[k] or 0) - value))
            return nearest / max(1, len(self.values) - 1)
        return ((math.log(value) if self.log else value) - self.low) / (self.high - self.low)

    def value(self, row: Array) -> Value:
        """The value nearest to a whole row's numbers, as it may be."""
        if not self.ordered:
            return self.values[int(np.argmax(row[self.columns]))]
        share = min(1.0, max(0.0, float(row[self.first])))
        if self.values:
            return self.values[round(share * (len(self.values) - 1))]
        dimension, number = self.dimension, self.low + share * (self.high - self.low)
        assert not isinstance(dimension, ChoiceDim)
        number = math.exp(number) if self.log else number
        if isinstance(dimension, IntDim):
            step = dimension.step or 1
            whole = dimension.low + step * round((number - dimension.low) / step)
            return int(min(dimension.high, max(dimension.low, whole)))
        if dimension.step is not None:
            return stepped(dimension.low, dimension.step, round((number - dimension.low) / dimension.step))
        return min(dimension.high, max(dimension.low, number))

    def snap(self, block: Array) -> Array:
        """(n, own columns) -> the places of the values nearest to them."""
        if not self.ordered:
            return np.asarray(np.eye(len(self.values))[block.argmax(1)])
        share = np.clip(block, 0.0, 1.0)
        if self.values:
            return np.asarray(np.rint(share * (len(self.values) - 1)) / max(1, len(self.values) - 1))
        dimension = self.dimension
        assert not isinstance(dimension, ChoiceDim)
        step = (dimension.step or 1) if isinstance(dimension, IntDim) else dimension.step
        if step is None:
            return share
        number = dimension.low + step * np.rint((self._unscaled(share) - dimension.low) / step)
        number = np.clip(number, dimension.low, dimension.high)
        return np.asarray(((np.log(number) if self.log else number) - self.low) / (self.high - self.low))

    def scatter(self, count: int, rng: np.random.Generator) -> Array:
        """(count, own columns): random values, even on the dimension's own scale, as places."""
        size = self.dimension.size()
        if not self.ordered or self.values:
            chosen = rng.integers(len(self.values), size=count)
            if self.ordered:
                return np.asarray(chosen[:, None] / max(1, len(self.values) - 1))
            return np.asarray(np.eye(len(self.values))[chosen])
        if self.log and isinstance(self.dimension, IntDim):  # half a step beyond the ends, which have as much as others
            low, high = math.log(self.dimension.low - 0.5), math.log(self.dimension.high + 0.5)
            return np.clip((rng.uniform(low, high, (count, 1)) - self.low) / (self.high - self.low), 0.0, 1.0)
        if size is None:
            return rng.random((count, 1))
        return np.asarray(rng.integers(size, size=(count, 1)) / max(1, size - 1))

    def numbers(self, block: Array) -> Array:
        """(n, own columns) of places -> the values (n,) that stand there; NaN for a word."""
        if not self.values:
            return self._unscaled(block[:, 0])
        known = np.array([float(v or 0) if v is None or isinstance(v, int | float) else math.nan for v in self.values])
        chosen = np.rint(block[:, 0] * (len(known) - 1)).astype(int) if self.ordered else block.argmax(1)
        return np.asarray(known[chosen])

    def _unscaled(self, share: Array) -> Array:
        number = self.low + share * (self.high - self.low)
        return np.asarray(np.exp(number) if self.log else number)


def axis_of(dimension: Dimension, first: int) -> Axis:
    """Numbers of a choice have an order of their own, whatever the sampler of a library thinks of them."""
    if not isinstance(dimension, ChoiceDim):
        low, high = float(dimension.low), float(dimension.high)
        if dimension.log:
            low, high = math.log(low), math.log(high)
        return Axis(dimension, first, (), True, low, high, dimension.log)
    if numeric(dimension):
        return Axis(dimension, first, tuple(sorted(dimension.choice, key=lambda v: float(v or 0))), ordered=True)
    return Axis(dimension, first, dimension.choice, ordered=False)
