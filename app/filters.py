"""Filters of the leaderboard: states, and ranges or choices of parameters; kept in the link, applied to a frame.
A filter that leaves nothing is told which of them removes most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from app import link
from app.parts import short_names, state_words
from app.source import Snapshot


@dataclass(frozen=True)
class Filter:
    """One column and what it may be: ``low`` to ``high`` (infinite: whatever comes), or one of ``among`` (as text)."""

    column: str
    words: str
    low: float | None = None
    high: float | None = None
    among: tuple[str, ...] = ()

    def mask(self, table: pd.DataFrame) -> Any:
        values = table[self.column]
        if self.among:
            return values.astype(str).isin(self.among)
        return values.between(self.low, self.high)


def kept(table: pd.DataFrame, filters: Sequence[Filter]) -> tuple[pd.DataFrame, str]:
    """The rows that pass all, and where none does a sentence on the filter that removes most."""
    passed = pd.Series(True, index=table.index)
    for one in filters:
        passed &= one.mask(table)
    if passed.any() or not filters:
        return table[passed], ""
    worst = max(filters, key=lambda one: int((~one.mask(table)).sum()))
    gone = int((~worst.mask(table)).sum())
    return table[passed], f"“{worst.words}” alone removes {gone} of {len(table)} trials; widen or drop it."


def widgets(snapshot: Snapshot) -> list[Filter]:
    """The popover of filters; what is chosen stands in the link as ``states`` and ``where``."""
    frame, asked = snapshot.frame, _asked()
    paths = [name.removeprefix("point.") for name in frame.columns if name.startswith("point.")]
    names, found = short_names(paths), []
    with st.popover("Filters", icon=":material/filter_alt:"):  # a label that changed would close it
        present = [state for state in ("complete", "pruned") if (frame["state"] == state).any()]
        wanted = [state for state in (link.text("states") or "").split(",") if state in present]
        states = st.pills(
            "State",
            present,
            selection_mode="multi",
            default=wanted,
            format_func=state_words,
            key=_key(snapshot, "states"),
        )
        if states:
            found.append(Filter("state", "state", among=tuple(states)))
        where = []
        for path in paths:
            if one := _parameter(snapshot, path, names[path], asked.get(path, "")):
                found.append(one)
                where.append(f"{path}:{'|'.join(one.among) if one.among else f'{_end(one.low)}:{_end(one.high)}'}")
    if found:
        st.markdown(f":blue-badge[{len(found)} active]", width="content")
    link.write(states=",".join(states) or None, where=where or None)
    return found


def _parameter(snapshot: Snapshot, path: str, name: str, asked: str) -> Filter | None:
    """A range for numbers of many values, a choice for few; None where everything passes."""
    column = f"point.{path}"
    values = snapshot.frame[column].dropna()
    if values.nunique() < 2:
        return None
    key = _key(snapshot, path)
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values) or values.nunique() <= 5:
        options = sorted(values.unique(), key=lambda one: (isinstance(one, str), one))
        texts = [str(one) for one in options]
        wanted = [one for one in asked.split("|") if one in texts]
        picked = st.multiselect(name, texts, default=wanted, key=key, placeholder="any")
        return Filter(column, f"{name} in {', '.join(picked)}", among=tuple(picked)) if picked else None
    whole = bool((values % 1 == 0).all())
    low, high = (int(values.min()), int(values.max())) if whole else (float(values.min()), float(values.max()))
    start = _range(asked, low, high)
    shown = "%d" if whole else "%.3g"
    a, b = st.slider(name, low, high, start, step=1 if whole else (high - low) / 200, format=shown, key=key)
    step = 0 if whole else (high - low) / 200
    # an end that was not moved is none: trials beyond it, which may yet come, pass
    least, most = -math.inf if a <= low else float(a), math.inf if b >= high - step else float(b)
    if math.isinf(least) and math.isinf(most):
        return None
    return Filter(column, f"{name} {a:.3g} to {b:.3g}", least, most)


def _end(value: float | None) -> str:
    return "" if value is None or math.isinf(value) else repr(value)


def _range(asked: str, low: Any, high: Any) -> tuple[Any, Any]:
    try:
        first, last = asked.split(":")
        a, b = type(low)(float(first or low)), type(low)(float(last or high))
    except (ValueError, OverflowError):
        return low, high
    return (max(low, a), min(high, b)) if low <= b and a <= high and a <= b else (low, high)


def _asked() -> dict[str, str]:
    """Path -> what the link asks of it."""
    pairs = (one.partition(":") for one in link.texts("where"))
    return {path: rest for path, mark, rest in pairs if mark}


def _key(snapshot: Snapshot, name: str) -> str:
    return f"filter:{snapshot.name}:{name}"
