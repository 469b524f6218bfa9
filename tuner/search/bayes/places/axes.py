"""A space as numbers between 0 and 1, in which a step has the same meaning everywhere.
Points in, arrays out and back; which point is chosen is decided elsewhere.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tuner.search.bayes.places.axis import INACTIVE, Array, Axis, axis_of
from tuner.spec.dimensions.fields import values_of
from tuner.spec.dimensions.space import RECIPE
from tuner.spec.records import Point, Value
from tuner.spec.study import StudySpec


class Places(NamedTuple):
    """Points as (n, columns) ``rows``; ``active``: which of them (n,) have a dimension, by its path."""

    rows: Array
    active: Mapping[str, np.ndarray]

    def only(self, kept: list[int]) -> Places:
        return Places(self.rows[kept], {path: active[kept] for path, active in self.active.items()})


class Axes:
    """The columns of a study's space."""

    def __init__(self, spec: StudySpec) -> None:
        self._space, self._written = spec.space, values_of(spec.trial)
        self._axes: dict[str, Axis] = {}
        self.columns = 0
        for path, dimension in spec.space.items():
            self._axes[path] = axis = axis_of(dimension, self.columns)
            self.columns = axis.columns.stop
        named = {name for _, dimension in spec.space.items() for name in (*dimension.when, RECIPE) if dimension.when}
        self._deciding = [column for path in self._axes if path in named for column in self._range(path)]

    def _range(self, path: str) -> range:
        columns = self._axes[path].columns
        return range(columns.start, columns.stop)

    def encode(self, point: Mapping[str, Value]) -> Array:
        """The point as (columns,) numbers; a dimension that it lacks stands in the middle."""
        row = np.full(self.columns, INACTIVE)
        for path, axis in self._axes.items():
            if path not in point:
                continue
            if axis.ordered:
                row[axis.first] = axis.place(point[path])
            else:
                row[axis.columns] = [float(value == point[path]) for value in axis.values]
        return row

    def place(self, path: str, value: Value) -> float:
        """Where a value of an ordered dimension stands, 0 to 1 within the space."""
        return self._axes[path].place(value)

    def ordered(self, path: str) -> bool:
        return path in self._axes and self._axes[path].ordered

    def column(self, path: str) -> int:
        """The first column of a dimension."""
        return self._axes[path].first

    def decode(self, row: Array) -> dict[str, Value]:
        """The point of the space that is nearest to a row: inactive dimensions left out, values as they may be."""
        return self._space.walk(lambda path, _: self._axes[path].value(row), self._written)

    def draw(self, rng: random.Random) -> Point:
        """A random point of the space."""
        return self._space.walk(lambda _, dimension: dimension.draw(rng), self._written)

    def scatter(self, count: int, rng: np.random.Generator) -> Array:
        """(count, columns): random points, those without a dimension not yet moved to where that stands then."""
        return np.hstack([axis.scatter(count, rng) for axis in self._axes.values()])

    def snap(self, rows: Array) -> Places:
        """The points nearest to (n, columns) rows, as ``encode`` places them, but for the last digits."""
        rows = np.hstack([axis.snap(rows[:, axis.columns]) for axis in self._axes.values()])
        every = np.ones(len(rows), dtype=bool)
        active = {path: every.copy() for path in self._axes}
        if self._deciding and len(rows):  # whatever agrees in what decides has the same dimensions
            _, first, which = np.unique(rows[:, self._deciding], axis=0, return_index=True, return_inverse=True)
            for group, example in enumerate(first):
                point = self.decode(rows[example])
                for path in self._axes.keys() - point.keys():
                    active[path][which.reshape(-1) == group] = False
            for path, axis in self._axes.items():
                rows[~active[path], axis.columns] = INACTIVE
        return Places(rows, active)

    def numbers(self, path: str, places: Places) -> Array:
        """The values (n,) of a dimension at these places; NaN where it is a word, or none."""
        found = self._axes[path].numbers(places.rows[:, self._axes[path].columns])
        return np.where(places.active[path], found, math.nan)


def keys(rows: Array) -> list[bytes]:
    """The rows (n, columns) as words that are equal where points are: the last digits do not count."""
    return [row.tobytes() for row in np.round(rows, 9) + 0.0]
