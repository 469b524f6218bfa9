"""One brush over many pictures: a range dragged in one of them, kept in the link, applied to all by the page.
What is inside is decided here, on the table; the pictures only fade the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from app import link
from app.charts.dimensions import field

NAME = "brush"


@dataclass(frozen=True)
class Brush:
    """A range of ``path`` (or some of its words) and a range of the loss."""

    path: str
    among: tuple[str, ...]
    loss: tuple[float, float]

    def inside(self, table: pd.DataFrame) -> pd.Series:
        """Which rows of ``table`` (columns ``value`` and the paths) it holds."""
        column = table[self.path]
        if pd.api.types.is_numeric_dtype(column):
            low, high = map(float, self.among)
            held = column.between(low, high)
        else:
            held = column.astype(str).isin(self.among)
        return held & table["value"].between(*self.loss)

    @property
    def text(self) -> str:
        return "~".join((self.path, "|".join(self.among), *(f"{one:.6g}" for one in self.loss)))


def read(table: pd.DataFrame) -> Brush | None:
    """The brush of the link; None where there is none, or none that fits this table."""
    words = (link.text(NAME) or "").split("~")
    if len(words) != 4 or words[0] not in table:
        return None
    try:
        brush = Brush(words[0], tuple(words[1].split("|")), (float(words[2]), float(words[3])))
        brush.inside(table)
    except (ValueError, TypeError):
        return None
    return brush


def take(key: str, path: str) -> None:
    """For a picture's callback: what was dragged there goes into the link; an empty brush takes its own out."""
    held: dict[str, Any] = st.session_state[key].get("selection", {}).get(NAME) or {}
    drawn, loss = held.get(field(path)), held.get("value")
    if drawn and loss:
        among = tuple(f"{one:.6g}" if isinstance(one, int | float) else str(one) for one in drawn)
        link.write(brush=Brush(path, among, (min(loss), max(loss))).text)
    elif (link.text(NAME) or "").partition("~")[0] == path:
        clear()


def clear() -> None:
    """No brush."""
    link.write(brush=None)
