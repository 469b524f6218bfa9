"""The kinds of dimension: a float or whole number between two ends, or one of a list of values.
What one dimension can take, in itself; what its field allows and when it is active stands in space.py.
"""

from __future__ import annotations

import builtins
import math
import random
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from tuner.spec.errors import Mistake, Mistakes, said
from tuner.spec.parts.scalars import Count, Float, Frozen, Int, Positive
from tuner.spec.records import Value

MAX_STEPS = 10**9
End = Annotated[Int, Field(ge=-(2**53), le=2**53)]


def _single(value: object) -> object:
    if value is None or isinstance(value, str | int | builtins.float):
        return value
    raise ValueError(f"expected a single value, got {said(value)}")


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


Scalar = Annotated[Value, BeforeValidator(_single)]
Allowed = Annotated[tuple[Scalar, ...], BeforeValidator(_listed)]


class _Dimension(Frozen):
    """What every dimension may have: conditions, path -> the values it needs there."""

    when: Mapping[str, Allowed] = Field(default={})  # active only where every path has one of its values


class _Range(_Dimension):
    """What float and int dimensions share: two ends, and a log scale or a step but not both."""

    log: bool = False

    def _check(self, name: str, low: builtins.float, high: builtins.float, step: builtins.float | None) -> None:
        found = []

        def wrong(sentence: str, *where: str | builtins.int) -> None:
            found.append(Mistake(where or (name,), sentence))

        if low > high:
            wrong(f"the low end {said(low)} is above the high end {said(high)}; swap them")
        elif low == high:
            wrong(f"both ends are {said(low)}, so nothing varies; set the value under trial and remove the dimension")
        elif self.log and low <= 0:
            wrong(f"a log scale needs a low end above 0, got {said(low)}; raise it or remove log", name, 0)
        if self.log and step is not None:
            wrong("log and step exclude each other; remove one", "step")
        elif step is not None and low < high:
            if (high - low) / step > MAX_STEPS:
                wrong(f"the step {said(step)} makes more than {MAX_STEPS:,} values; remove it", "step")
            elif _steps(low, high, step) == 1:
                wrong(f"the step {said(step)} is larger than {said(low)} to {said(high)}", "step")
            elif (reached := stepped(low, step, _steps(low, high, step) - 1)) != high:
                wrong(
                    f"{said(low)} to {said(high)} is not a whole number of steps of {said(step)}: "
                    f"the high end would become {said(reached)}; write that, or change the step"
                )
        if found:
            raise Mistakes(found)


def _steps(low: builtins.float, high: builtins.float, step: builtins.float) -> int:
    """How many values low, low + step, ... high are; in decimals, as Optuna counts them."""
    return int((Decimal(str(high)) - Decimal(str(low))) // Decimal(str(step))) + 1


def stepped(low: builtins.float, step: builtins.float, count: int) -> builtins.float:
    """``low`` and ``count`` steps, in decimals, as Optuna has them."""
    return float(Decimal(str(low)) + count * Decimal(str(step)))


class FloatDim(_Range):
    """A number between two ends, both included."""

    float: tuple[Float, Float]
    step: Positive | None = None

    @property
    def low(self) -> builtins.float:
        return self.float[0]

    @property
    def high(self) -> builtins.float:
        return self.float[1]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._check("float", self.low, self.high, self.step)
        return self

    def size(self) -> builtins.int | None:
        """How many values it has; None without a step."""
        return None if self.step is None else _steps(self.low, self.high, self.step)

    def grid(self) -> tuple[Value, ...]:
        """Every value; empty without a step."""
        return tuple(stepped(self.low, self.step, k) for k in range(self.size() or 0)) if self.step else ()

    def draw(self, rng: random.Random) -> Value:
        """One value at random, even on the dimension's own scale."""
        if self.step is not None:
            return stepped(self.low, self.step, rng.randrange(_steps(self.low, self.high, self.step)))
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
            return min(self.high, max(self.low, value))
        return rng.uniform(self.low, self.high)

    def holds(self, value: Value) -> bool:
        """Whether the dimension can take the value."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.step is not None and self.low <= value <= self.high:
            near = stepped(self.low, self.step, round((value - self.low) / self.step))
            return math.isclose(value, near, rel_tol=1e-9, abs_tol=1e-12)
        return self.low <= value <= self.high


class IntDim(_Range):
    """A whole number between two ends, both included."""

    int: tuple[End, End]
    step: Count | None = None

    @property
    def low(self) -> builtins.int:
        return self.int[0]

    @property
    def high(self) -> builtins.int:
        return self.int[1]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._check("int", self.low, self.high, self.step)
        return self

    def size(self) -> builtins.int:
        """How many values it has."""
        return (self.high - self.low) // (self.step or 1) + 1

    def grid(self) -> tuple[Value, ...]:
        """Every value."""
        return tuple(range(self.low, self.high + 1, self.step or 1))

    def draw(self, rng: random.Random) -> Value:
        """One value at random, even on the dimension's own scale."""
        if self.log:
            value = round(math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5))))
            return min(self.high, max(self.low, value))
        return rng.randrange(self.low, self.high + 1, self.step or 1)

    def holds(self, value: Value) -> bool:
        """Whether the dimension can take the value."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high and (value - self.low) % (self.step or 1) == 0


class ChoiceDim(_Dimension):
    """One of the listed values, in no order."""

    choice: tuple[Scalar, ...]

    def size(self) -> int:
        """How many values it has."""
        return len(self.choice)

    def grid(self) -> tuple[Value, ...]:
        """Every value."""
        return self.choice

    def draw(self, rng: random.Random) -> Value:
        """One value at random."""
        return rng.choice(self.choice)

    def holds(self, value: Value) -> bool:
        """Whether the dimension can take the value."""
        return value in self.choice


DIMENSIONS: Mapping[str, type[FloatDim | IntDim | ChoiceDim]] = {
    "float": FloatDim,
    "int": IntDim,
    "choice": ChoiceDim,
}
"""The key that names the kind of a dimension -> its record."""


def _kind(value: Any) -> str | None:
    if isinstance(value, _Dimension):
        return f"<{next(name for name, kind in DIMENSIONS.items() if isinstance(value, kind))}>"
    named = [name for name in DIMENSIONS if isinstance(value, dict) and name in value]
    return f"<{named[0]}>" if len(named) == 1 else None


Dimension = FloatDim | IntDim | ChoiceDim
AnyDimension = Annotated[
    Annotated[FloatDim, Tag("<float>")] | Annotated[IntDim, Tag("<int>")] | Annotated[ChoiceDim, Tag("<choice>")],
    Discriminator(
        _kind,
        custom_error_type="dimension",
        custom_error_message="expected exactly one of float: [low, high], int: [low, high] or choice: [...]",
    ),
]


def proportional(dimension: Dimension) -> bool:
    """Whether equal ratios are equal steps in it: on a log scale, and among positive numbers to choose from."""
    if isinstance(dimension, ChoiceDim):
        return numeric(dimension) and all(isinstance(value, int | float) and value > 0 for value in dimension.choice)
    return dimension.log


def numeric(dimension: Dimension) -> bool:
    """Whether all its values are numbers, which have an order."""
    if not isinstance(dimension, ChoiceDim):
        return True
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in dimension.choice)


def in_words(dimension: Dimension) -> str:
    """A dimension in words: ``0.0001 to 0.03 (log)``, ``64 to 256 in steps of 32``, ``'adamw', 'muon'``."""
    if isinstance(dimension, ChoiceDim):
        return ", ".join("null" if value is None else repr(value) for value in dimension.choice)
    step = f" in steps of {said(dimension.step)}" if dimension.step is not None else ""
    return f"{said(dimension.low)} to {said(dimension.high)}{step}{' (log)' if dimension.log else ''}"
