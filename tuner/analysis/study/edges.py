"""Where the best trials press against an end of the space, and the space that they suggest instead, as YAML.
Suggestions only: a study keeps its space for life, and another space is another study.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from tuner.analysis import words
from tuner.analysis.study.ranking import leaderboard
from tuner.analysis.widen import Side, inside, numbers_of, widened
from tuner.search.history import StudyRecord
from tuner.search.repeats import family
from tuner.spec.dimensions.dimension import ChoiceDim, Dimension
from tuner.spec.dimensions.space import Space
from tuner.spec.records import Point, Value
from tuner.spec.study import lean

SIDES: tuple[Side, ...] = ("lower", "upper")

NEEDED = 5
"""Complete trials below which the best of them tell nothing of an edge."""

_NEAR = 0.05
"""The share of a range without steps that counts as its edge."""

_CHANCE = 0.05
"""Hits that even values would bring this often are no finding."""


@dataclass(frozen=True)
class Edge:
    """``hits`` of the ``of`` best trials stand at one end of a dimension; ``yaml`` is its line, widened there."""

    path: str
    side: Side
    hits: int
    of: int
    sentence: str
    yaml: str


def edges(record: StudyRecord, frame: pd.DataFrame, top: int = 10) -> list[Edge]:
    """The ends that the best ``top`` complete trials press against, most hits first.

    An end counts where at least half of the best stand there, 3 or more, and trials spread evenly would do so in
    less than 1 of 20 studies. Ends that their field cannot pass (a warmup of 0) and choices in words have none.
    """
    found = []
    for path, dimension, best in _best(record, frame, top):
        for side in SIDES:
            if (edge := _edge(path, dimension, best, side)) is not None:
                found.append(edge)
    return sorted(found, key=lambda edge: -edge.hits)


def narrowed(record: StudyRecord, frame: pd.DataFrame) -> str:
    """The ``space:`` block to copy: the range of the best 10 with a quarter of it as margin on both sides, within
    the old space, widened where the best press against an end; of choices those that the best have.

    Empty below 5 complete trials.
    """
    if len(leaderboard(frame, None, 0.0)) < NEEDED:
        return ""
    fresh: dict[str, Dimension] = {}
    for path, dimension, best in _best(record, frame, 10):
        when = _conditions(dimension.when, fresh, set(record.spec["space"]))
        if when is None:
            continue
        pressed = [side for side in SIDES if _edge(path, dimension, best, side)]
        near = inside(dimension, best, [side for side in SIDES if side not in pressed]) if best else dimension
        for side in pressed:
            near = widened(path, near, side) or near
        fresh[path] = near.model_copy(update={"when": when})
    lines = [_line(path, dimension) for path, dimension in fresh.items()]
    return "\n".join(["space:  # of a new study: give it another name", *(f"  {line}" for line in lines), ""])


def _best(record: StudyRecord, frame: pd.DataFrame, top: int) -> Iterator[tuple[str, Dimension, list[Value]]]:
    """Each dimension with the values that the best complete trials have there, the inactive left out."""
    known = {trial.number: trial for trial in record.trials}
    ranked = [known[number] for number in leaderboard(frame, None, 0.0)["number"]]
    different: dict[str, Point] = {}
    for trial in ranked:
        different.setdefault(family(trial.point), trial.point)  # a repeat is no second witness
    points = list(different.values())[:top]
    for path, dimension in Space.model_validate(record.spec["space"]).items():
        yield path, dimension, [point[path] for point in points if path in point]


def _edge(path: str, dimension: Dimension, best: Sequence[Value], side: Side) -> Edge | None:
    known = numbers_of(dimension)
    if known is None or len(best) < NEEDED:
        return None
    wide = widened(path, dimension, side)
    if wide is None:
        return None
    end = known[0] if side == "lower" else known[-1]
    share = _share(dimension)
    hits = sum(1 for value in best if isinstance(value, int | float) and _at(dimension, float(value), end))
    if hits < 3 or 2 * hits < len(best) or _tail(hits, len(best), share) >= _CHANCE:
        return None
    sentence = f"{hits} of the best {len(best)} at {path} {words.number(end)}, the {side} edge: widen"
    return Edge(path, side, hits, len(best), sentence, _line(path, wide))


def _share(dimension: Dimension) -> float:
    """How much of the dimension one of its ends is."""
    size = dimension.size()
    return _NEAR if size is None else max(_NEAR, 1 / size)


def _at(dimension: Dimension, value: float, end: float) -> bool:
    known = numbers_of(dimension)
    assert known is not None
    low, high = known[0], known[-1]
    if isinstance(dimension, ChoiceDim):
        return value == end
    if dimension.log:
        return abs(math.log(value / end)) <= _NEAR * math.log(high / low) + 1e-12
    return abs(value - end) <= _NEAR * (high - low) + 1e-12


def _tail(hits: int, of: int, share: float) -> float:
    """The probability of so many hits or more where each comes with ``share``: binomial."""
    return sum(math.comb(of, k) * share**k * (1 - share) ** (of - k) for k in range(hits, of + 1))


def _conditions(
    when: Mapping[str, tuple[Value, ...]], fresh: Mapping[str, Dimension], searched: set[str]
) -> dict[str, tuple[Value, ...]] | None:
    """The conditions as far as they can still be met; None where one cannot."""
    left: dict[str, tuple[Value, ...]] = {}
    for path, values in when.items():
        if path in fresh:
            values = tuple(value for value in values if fresh[path].holds(value))
        elif path in searched:
            values = ()
        if not values:
            return None
        left[path] = values
    return left


def _line(path: str, dimension: Dimension) -> str:
    data: dict[str, Any] = lean(dimension)
    return f"{path}: {yaml.safe_dump(data, default_flow_style=True, sort_keys=False, width=10_000).strip()}"
