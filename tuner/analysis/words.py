"""How numbers are said to people: four digits for a loss, two for a rate, humane durations and sizes.
Text out only; full precision stays in JSON, downloads and the stores.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tuner.spec.budget import Budget, Unit
from tuner.spec.records import Value


def loss(value: float | None) -> str:
    """Four significant digits; ``-`` where there is none."""
    return "-" if value is None else f"{value:.4g}" if abs(value) >= 1000 or abs(value) < 1e-3 else f"{value:#.4g}"


def setting(value: Value) -> str:
    """A point's value: two significant digits for a fraction, everything else as it is."""
    if isinstance(value, bool) or not isinstance(value, float):
        return "none" if value is None else str(value)
    return f"{value:.2g}"


def number(value: float) -> str:
    """A number of a dimension: a whole one as it is, else two significant digits."""
    return setting(int(value) if value == int(value) else value)


def point(values: dict[str, Value]) -> str:
    """``lr 0.003  batch 16``: each path by its name."""
    return "  ".join(f"{name} {setting(value)}" for name, value in zip(names(values), values.values(), strict=True))


def names(paths: Iterable[str], taken: Collection[str] = ()) -> list[str]:
    """The last word of each path; where two would look alike, or it is ``taken``, without ``optim.`` or ``model.``
    alone, or whole.
    """
    paths = list(paths)
    ends = [path.rsplit(".", 1)[-1] for path in paths]
    cut = [path.removeprefix("optim.").removeprefix("model.") for path in paths]
    return [
        next((name for name, all_ in ((end, ends), (short, cut)) if all_.count(name) == 1 and name not in taken), path)
        for path, end, short in zip(paths, ends, cut, strict=True)
    ]


def count(value: float) -> str:
    """SI: 1234567 -> '1.23M'."""
    for factor, suffix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.3g}"


def size(value: float) -> str:
    """Bytes: 1234567 -> '1.23 MB'."""
    for factor, suffix in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= factor:
            return f"{value / factor:.3g} {suffix}"
    return f"{value:.0f} B"


def duration(seconds: float) -> str:
    """'42 s', '3 min 5 s', '2 h 10 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def budget(whole: Budget, share: float = 1.0) -> str:
    """A share of a trial's budget: '267k tokens', '8T flops', '1 min 30 s'."""
    amount = whole.amount * share
    return duration(amount) if whole.unit is Unit.SECONDS else f"{count(amount)} {whole.unit.value}"


_CONTROLS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"}
_CONTROLS |= {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def printable(text: str) -> str:
    """The text with a picture for each control character: one that a model has learned must not drive a terminal."""
    return text.translate(_CONTROLS)
