"""How states, losses and paths are shown anywhere: icon, word, colour and shape of a state, digits, short names.
Words and marks only, and no streamlit: a report is made without a dashboard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tuner.analysis.words import loss


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


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Path -> its last word, the whole path where two would look alike."""
    ends = [path.rsplit(".", 1)[-1] for path in paths]
    return {path: end if ends.count(end) == 1 else path for path, end in zip(paths, ends, strict=True)}
