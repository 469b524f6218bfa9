"""Amounts with a unit: a training budget (tokens, FLOPs or seconds) and a size in bytes.
Text in, frozen records out; units never compare silently.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from tuner.spec.errors import short

_NUMBER = r"(\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"
_LONGEST = 100  # characters; the patterns below take cubic time over blanks
_SI = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
_AMOUNT = re.compile(rf"^\s*{_NUMBER}\s*([kKMGBT]?)\s*([A-Za-z]*)\s*$")
_SECONDS = {"s": 1, "sec": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hour": 3600}
_BYTES = {
    "B": 1,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_SIZE = re.compile(rf"^\s*{_NUMBER}\s*([A-Za-z]+)\s*$")


class Unit(StrEnum):
    """What a budget counts. Seconds are training seconds, evaluation apart."""

    TOKENS = "tokens"
    FLOPS = "flops"
    SECONDS = "s"


@dataclass(frozen=True)
class Budget:
    """How much one trial may spend: ``amount`` (above 0) of ``unit``."""

    amount: float
    unit: Unit

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read ``"2M tokens"``, ``"8e12 flops"``, ``"90 s"`` or ``"5 min"``.

        Raises:
            ValueError: with a sentence, when number or unit is missing, unknown, not above 0 or infinite.
        """
        match = _AMOUNT.match(text) if len(text) <= _LONGEST else None
        if not match:
            raise ValueError(
                f"expected an amount with a unit such as '2M tokens', '8e12 flops' or '90 s', got {short(text)!r}"
            )
        number, prefix, word = match.groups()
        value = float(number.replace("_", ""))
        whole = (prefix + word).lower()  # "Minutes" was read as the prefix M and "inutes"
        singular = whole if whole in _SECONDS else whole.removesuffix("s")
        if singular in _SECONDS:
            return cls(_positive(value * _SECONDS[singular], text), Unit.SECONDS)
        value *= _SI[prefix.lower()]
        match word.lower():
            case "token" | "tokens" | "tok":
                return cls(_positive(value, text), Unit.TOKENS)
            case "flop" | "flops":
                return cls(_positive(value, text), Unit.FLOPS)
        got = f"the unit '{word or prefix}'" if word or prefix else "no unit"
        raise ValueError(f"expected a unit of tokens, flops, s, min or h, got {got} in {text!r}")

    def __str__(self) -> str:
        if self.unit is Unit.FLOPS:
            return f"{_exact(self.amount)} flops"
        if self.unit is Unit.SECONDS:
            return f"{_exact(self.amount)} s"
        return f"{si(self.amount)} tokens"


def parse_size(text: str) -> int:
    """Read a size such as ``"5 GB"`` or ``"512 MiB"`` into bytes.

    Raises:
        ValueError: with a sentence, when number or unit is missing, unknown or not above 0.
    """
    match = _SIZE.match(text) if len(text) <= _LONGEST else None
    if not match or match[2] not in _BYTES:
        raise ValueError(f"expected a size such as '5 GB' or '512 MiB', got {short(text)!r}")
    return int(_positive(float(match[1].replace("_", "")) * _BYTES[match[2]], text))


def size_text(size: int) -> str:
    """The size as ``parse_size`` reads it back exactly: 5000000000 -> '5 GB', 1234 -> '1234 B'."""
    for suffix in ("TB", "GB", "MB", "kB"):
        if size % _BYTES[suffix] == 0:
            return f"{size // _BYTES[suffix]} {suffix}"
    return f"{size} B"


def _positive(value: float, text: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"expected an amount above 0 and finite, got {text!r}")
    return value


def si(value: float) -> str:
    """A short decimal with an SI suffix that reads back exactly: 1500000 -> '1.5M', 1234567 -> '1234567'."""
    for factor, suffix in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if value >= factor:
            short = f"{value / factor:.3f}".rstrip("0").rstrip(".")
            if float(short) * factor == value:
                return short + suffix
    return _exact(value)


def _exact(value: float) -> str:
    """The short form where it reads back exactly, else every digit."""
    short = f"{value:.6g}"
    return short if float(short) == value else repr(value)
