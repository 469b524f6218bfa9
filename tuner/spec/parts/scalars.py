"""The single values a trial is made of: numbers as YAML users write them, sizes, budgets, and the frozen record.
No field of a trial is named here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from tuner.spec.budget import Budget, Unit, parse_size, size_text


def _integer(value: object) -> object:
    """Let ``1e3`` and ``16.0`` stand for integers: YAML users write both."""
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return value
        if number.is_integer() and abs(number) < 2**53:
            return int(number)
    return value


def _budget(value: object) -> object:
    return Budget.parse(value) if isinstance(value, str) else value


def _in(unit: Unit) -> Callable[[object], object]:
    """Reader of a bare amount of ``unit``: 50M, 1e15, 25 min."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            budget = Budget.parse(value)
        except ValueError:
            budget = Budget.parse(f"{value} {unit}")
        if budget.unit is not unit:
            raise ValueError(f"expected an amount of {unit}, got {value!r}")
        return budget.amount

    return read


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


Int = Annotated[int, BeforeValidator(_integer)]
Float = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[Float, Field(gt=0)]
Count = Annotated[Int, Field(ge=1, le=2**53)]  # beyond it a float no longer tells neighbours apart
Fraction = Annotated[Float, Field(ge=0, le=1)]
Bits = Annotated[Literal[32, 8, 4], BeforeValidator(_integer)]
Size = Annotated[
    Count,
    BeforeValidator(_size),
    PlainSerializer(size_text, when_used="json-unless-none"),
    Field(description="a size such as '5 GB'"),
]
"""Bytes; YAML and JSON say "5 GB"."""
Tokens = Annotated[Float, Field(gt=0), BeforeValidator(_in(Unit.TOKENS))]
Flops = Annotated[Float, Field(gt=0), BeforeValidator(_in(Unit.FLOPS))]
Seconds = Annotated[Float, Field(gt=0), BeforeValidator(_in(Unit.SECONDS))]
BudgetField = Annotated[Budget, BeforeValidator(_budget), PlainSerializer(str)]


class Frozen(BaseModel):
    """The border: unknown keys are errors, and what passed never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, arbitrary_types_allowed=True)


def digest(data: object) -> str:
    """sha256 in hex of JSON-ready data, independent of key order."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
