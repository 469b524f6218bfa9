"""A space as numbers between 0 and 1, in which a step has the same meaning everywhere.
Points in, arrays out and back; which point is chosen is decided elsewhere.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.spec.dimensions.dimension import ChoiceDim, Dimension, IntDim, numeric, stepped
from tuner.spec.dimensions.fields import values_of
from tuner.spec.records import Point, Value
from tuner.spec.study import StudySpec

Array = np.ndarray[Any, np.dtype[np.float64]]

INACTIVE = 0.5
"""Where a dimension stands in a point that does not have it."""


@dataclass(frozen=True)
class _Axis:
    """One dimension: its columns, and for a choice of words one column each."""

    dimension: Dimension
    first: int
    values: tuple[Value, ...]
    ordered: bool
    low: float = 0.0
    high: float = 1.0
    log: bool = False

    @property
    def width(self) -> int:
        return 1 if self.ordered else len(self.values)


def _axis(dimension: Dimension, first: int) -> _Axis:
    """Numbers of a choice have an order of their own, whatever the sampler of a library thinks of them."""
    if not isinstance(dimension, ChoiceDim):
        low, high = float(dimension.low), float(dimension.high)
        if dimension.log:
            low, high = math.log(low), math.log(high)
        return _Axis(dimension, first, (), True, low, high, dimension.log)
    if numeric(dimension):
        return _Axis(dimension, first, tuple(sorted(dimension.choice, key=lambda v: float(v or 0))), ordered=True)
    return _Axis(dimension, first, dimension.choice, ordered=False)


class Axes:
    """The columns of a study's space."""

    def __init__(self, spec: StudySpec) -> None:
        self._space, self._written = spec.space, values_of(spec.trial)
        self._axes: dict[str, _Axis] = {}
        self.columns = 0
        for path, dimension in spec.space.items():
            self._axes[path] = _axis(dimension, self.columns)
            self.columns += self._axes[path].width

    def encode(self, point: Mapping[str, Value]) -> Array:
        """The point as (columns,) numbers; a dimension that it lacks stands in the middle."""
        row = np.full(self.columns, INACTIVE)
        for path, axis in self._axes.items():
            if path not in point:
                continue
            if axis.ordered:
                row[axis.first] = self.place(path, point[path])
            else:
                row[axis.first : axis.first + axis.width] = [float(value == point[path]) for value in axis.values]
        return row

    def place(self, path: str, value: Value) -> float:
        """Where a value of an ordered dimension stands, 0 to 1 within the space."""
        axis = self._axes[path]
        if isinstance(value, bool) or not isinstance(value, int | float) or (axis.log and value <= 0):
            return INACTIVE  # "auto", or no value at all
        if axis.values:
            nearest = min(range(len(axis.values)), key=lambda k: abs(float(axis.values[k] or 0) - value))
            return nearest / max(1, len(axis.values) - 1)
        return ((math.log(value) if axis.log else value) - axis.low) / (axis.high - axis.low)

    def ordered(self, path: str) -> bool:
        return path in self._axes and self._axes[path].ordered

    def column(self, path: str) -> int:
        """The first column of a dimension."""
        return self._axes[path].first

    def decode(self, row: Array) -> dict[str, Value]:
        """The point of the space that is nearest to a row: inactive dimensions left out, values as they may be."""
        return self._space.walk(lambda path, _: self._value(self._axes[path], row), self._written)

    def draw(self, rng: random.Random) -> Point:
        """A random point of the space."""
        return self._space.walk(lambda _, dimension: dimension.draw(rng), self._written)

    def _value(self, axis: _Axis, row: Array) -> Value:
        if not axis.ordered:
            return axis.values[int(np.argmax(row[axis.first : axis.first + axis.width]))]
        share = min(1.0, max(0.0, float(row[axis.first])))
        if axis.values:
            return axis.values[round(share * (len(axis.values) - 1))]
        dimension = axis.dimension
        assert not isinstance(dimension, ChoiceDim)
        number = axis.low + share * (axis.high - axis.low)
        number = math.exp(number) if axis.log else number
        if isinstance(dimension, IntDim):
            step = dimension.step or 1
            whole = dimension.low + step * round((number - dimension.low) / step)
            return int(min(dimension.high, max(dimension.low, whole)))
        if dimension.step is not None:
            return stepped(dimension.low, dimension.step, round((number - dimension.low) / dimension.step))
        return min(dimension.high, max(dimension.low, number))


def snapped(axes: Axes, row: Array) -> tuple[Point, Array]:
    """The point nearest to a row, and where that stands."""
    point = axes.decode(row)
    return point, axes.encode(point)
