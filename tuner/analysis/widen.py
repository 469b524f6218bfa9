"""One dimension made wider at an end, or narrower around some of its values; always one that the spec accepts.
Arithmetic on dimensions; which to change, and why, is said in edges.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from tuner.spec.dimensions.dimension import ChoiceDim, Dimension, FloatDim
from tuner.spec.dimensions.fields import LEAVES
from tuner.spec.records import Value

Side = Literal["lower", "upper"]

_MARGIN = 0.25
"""Beyond the best values, as a share of their range, the new range goes on."""


def numbers_of(dimension: Dimension) -> list[float] | None:
    """Its values in order where they are listed, else its two ends; None where they are no numbers."""
    if not isinstance(dimension, ChoiceDim):
        return [float(dimension.low), float(dimension.high)]
    found = [v for v in dimension.choice if isinstance(v, int | float) and not isinstance(v, bool)]
    return sorted(map(float, found)) if len(found) == len(dimension.choice) > 1 else None


def widened(path: str, dimension: Dimension, side: Side) -> Dimension | None:
    """The dimension with one end moved out by about half its range, as far as the field allows.

    Listed numbers get one more, in the same ratio or at the same distance. None where the end cannot move.
    """
    known = numbers_of(dimension)
    if known is None:
        return None
    if isinstance(dimension, ChoiceDim):
        end, before = (known[0], known[1]) if side == "lower" else (known[-1], known[-2])
        ratio = end / before if before and end * before > 0 else 0.0
        for guess in (end * ratio, 2 * end - before):
            value = _whole(guess) if all(isinstance(v, int) for v in dimension.choice) else _tidy(guess)
            if value is not None and guess not in known and (guess < end) == (side == "lower") and _takes(path, value):
                choice = (value, *dimension.choice) if side == "lower" else (*dimension.choice, value)
                return dimension.model_copy(update={"choice": choice})
        return None
    for share in (0.5, 0.25, 0.1):
        moved = _moved(dimension, side, share)
        if _takes(path, moved):
            low, high = (moved, dimension.high) if side == "lower" else (dimension.low, moved)
            return _with(dimension, low, high)
    return None


def inside(dimension: Dimension, best: Sequence[Value], sides: Iterable[Side]) -> Dimension:
    """The dimension brought near to the ``best`` of its values, on the given sides, with a margin; never wider."""
    if isinstance(dimension, ChoiceDim):
        return _choices(dimension, best, list(sides))
    numbers = [float(value) for value in best if isinstance(value, int | float)]
    low, high = min(numbers), max(numbers)
    if dimension.log:
        margin = max(_MARGIN * math.log(high / low), 0.05 * math.log(dimension.high / dimension.low))
        low, high = low / math.exp(margin), high * math.exp(margin)
    else:
        margin = max(_MARGIN * (high - low), 0.05 * (dimension.high - dimension.low))
        low, high = low - margin, high + margin
    sides = list(sides)
    low = max(_outward(dimension, low, math.floor), dimension.low) if "lower" in sides else dimension.low
    high = min(_outward(dimension, high, math.ceil), dimension.high) if "upper" in sides else dimension.high
    return _with(dimension, low, high) if low < high else dimension


def _choices(dimension: ChoiceDim, best: Sequence[Value], sides: list[Side]) -> ChoiceDim:
    """The choices that the best have; of numbers also those between, and all on a side that stays."""
    known = numbers_of(dimension)
    numbers = [float(value) for value in best if isinstance(value, int | float)]
    if known is None or not numbers:
        kept = tuple(value for value in dimension.choice if value in best)
    else:
        low = min(numbers) if "lower" in sides else known[0]
        high = max(numbers) if "upper" in sides else known[-1]
        kept = tuple(v for v in dimension.choice if isinstance(v, int | float) and low <= v <= high)
    return dimension.model_copy(update={"choice": kept or dimension.choice})


def _moved(dimension: Dimension, side: Side, share: float) -> float:
    assert not isinstance(dimension, ChoiceDim)
    low, high = float(dimension.low), float(dimension.high)
    sign = -1 if side == "lower" else 1
    end = low if side == "lower" else high
    if dimension.log:
        factor = min(10.0, max(1.5, (high / low) ** share))
        return _outward(dimension, end * factor**sign, math.ceil if sign > 0 else math.floor)
    if (size := dimension.size()) is not None:
        step = dimension.step or 1
        return _tidy(end + sign * max(1, round(share * (size - 1))) * step)
    return _outward(dimension, end + sign * share * (high - low), math.ceil if sign > 0 else math.floor)


def _outward(dimension: Dimension, value: float, rounded: Callable[[float], int]) -> float:
    """The next value that the dimension can end at: on its grid, a whole number, or with two significant digits."""
    assert not isinstance(dimension, ChoiceDim)
    if not isinstance(dimension, FloatDim) or dimension.step is not None:
        step = dimension.step or 1
        return _tidy(dimension.low + rounded(round((value - dimension.low) / step, 9)) * step)
    if value == 0:
        return 0.0
    digit = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return _tidy(rounded(round(value / digit, 9)) * digit)


def _with(dimension: Dimension, low: float, high: float) -> Dimension:
    assert not isinstance(dimension, ChoiceDim)
    if isinstance(dimension, FloatDim):
        return dimension.model_copy(update={"float": (float(low), float(high))})
    return dimension.model_copy(update={"int": (int(low), int(high))})


def _tidy(value: float) -> float:
    """Without the last digits of binary arithmetic: 0.30000000000000004 is 0.3."""
    return float(f"{value:.12g}")


def _whole(value: float) -> int | None:
    return int(value) if value == int(value) else None


def _takes(path: str, value: Value) -> bool:
    """Whether the field allows the value; a whole number may come as a float."""
    whole = int(value) if isinstance(value, float) and value == int(value) else value
    for one in (value, whole):
        try:
            LEAVES[path].read(one)
        except ValueError:
            continue
        return True
    return False
