"""How states, losses and paths are shown anywhere: icon, word, colour and shape of a state, digits, short names.
Words and marks only, and no streamlit: a report is made without a dashboard.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tuner.analysis.words import loss, names


@dataclass(frozen=True)
class Look:
    """How a state is shown: never by colour alone. ``colour`` is a theme name, ``shape`` a Vega symbol."""

    icon: str
    word: str
    colour: str
    shape: str


LOOKS = {
    "complete": Look("●", "done", "blue", "circle"),
    "running": Look("◐", "running", "green", "diamond"),
    "pruned": Look("▲", "pruned", "orange", "triangle-up"),
    "infeasible": Look("✕", "infeasible", "violet", "cross"),
    "diverged": Look("◆", "diverged", "violet", "triangle-down"),
    "failed": Look("■", "failed", "violet", "square"),
    "queued": Look("○", "queued", "gray", "circle"),
}
UNKNOWN = Look("?", "unknown", "gray", "circle")


def look(state: str) -> Look:
    return LOOKS.get(state, UNKNOWN)


def state_words(state: str) -> str:
    """``● done``: for a table's cell."""
    return f"{look(state).icon} {look(state).word}"


def number(value: Any) -> str:
    """A loss with four digits, ``-`` where there is none."""
    return loss(None if value is None or pd.isna(value) else float(value))


def short_names(paths: Sequence[str], taken: Collection[str] = ()) -> dict[str, str]:
    """Path -> its name beside the others, and beside what is ``taken``."""
    return dict(zip(paths, names(paths, taken), strict=True))
