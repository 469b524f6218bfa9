"""What every page is made of: states as icon, word and colour, headings, empty states, problems, tables.
Our own words may be markdown; text of trials, stores and links goes through st.text, st.code or ``plain``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import streamlit as st

from tuner.analysis.words import duration, loss


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

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def look(state: str) -> Look:
    return LOOKS.get(state, UNKNOWN)


def plain(text: str) -> str:
    """Markdown that shows ``text`` as it is: every ASCII punctuation mark escaped, lines joined."""
    return _PUNCTUATION.sub(r"\\\1", " ".join(text.split()))


def chips(counts: Mapping[str, int]) -> str:
    """States with their counts as coloured chips, in a fixed order."""
    order = ("running", "queued", "complete", "pruned", "infeasible", "diverged", "failed")
    shown = [(look(state), counts[state]) for state in order if counts.get(state)]
    return " ".join(f":{one.colour}-badge[{one.icon} {number} {one.word}]" for one, number in shown)


def state_words(state: str) -> str:
    """``● done``: for a table's cell."""
    return f"{look(state).icon} {look(state).word}"


def heading(title: str, question: str) -> None:
    """The page's title, and under it the one question that it answers."""
    st.title(title, anchor=False)
    st.caption(question)


def empty(title: str, sentence: str, command: str | None = None) -> None:
    """Nothing to show yet: why, and what to do."""
    with st.container(border=True):
        st.subheader(title, anchor=False)
        st.text(sentence)
        if command:
            st.code(command, language="bash", wrap_lines=True)


def problem(sentence: str, title: str = "This could not be read") -> None:
    """Something is wrong: the sentence as it came, never as markup."""
    with st.container(border=True):
        st.markdown(f":material/error: **{title}**")
        st.text(sentence)


def note(sentence: str, icon: str = "info") -> None:
    """A remark beside a picture, plain."""
    with st.container(horizontal=True, gap="xsmall", wrap=False, vertical_alignment="top"):
        st.markdown(f":gray[:material/{icon}:]", width="content")
        st.text(sentence, width="stretch")


def command(words: str, label: str = "") -> None:
    """A command to copy."""
    if label:
        st.caption(label)
    st.code(words, language="bash", wrap_lines=True)


def card(label: str, value: str, basis: str = "", why: str = "") -> None:
    """A number with its basis: at which budget, of which trial, from how many."""
    st.metric(
        plain(label),
        value,
        delta=basis or None,
        delta_color="off",
        delta_arrow="off",
        help=why or None,
        border=True,
        height="stretch",
    )


def cards(found: Sequence[tuple[str, ...]]) -> None:
    """A row of cards, which a phone puts one under another."""
    for column, one in zip(st.columns(len(found)), found, strict=True):
        with column:
            card(*one)


def data_behind(table: pd.DataFrame, label: str = "Show data") -> None:
    """The numbers of a picture, for those who cannot see it or want them exactly."""
    with st.expander(label):
        st.dataframe(table, hide_index=True, width="stretch", alt=label)


def ago(moment: datetime | None) -> str:
    """``3 min ago``; times without a zone are UTC or local as the store wrote them, so below a second is 'now'."""
    if moment is None or pd.isna(moment):
        return "-"
    now = datetime.now(UTC) if moment.tzinfo else datetime.now()
    seconds = max(0.0, (now - moment).total_seconds())
    if seconds < 2:
        return "now"
    if seconds >= 2 * 86400:
        return f"{seconds / 86400:.0f} days ago"
    return f"{duration(seconds if seconds < 600 else seconds // 60 * 60)} ago"


def number(value: Any) -> str:
    """A loss with four digits, ``-`` where there is none."""
    return loss(None if value is None or pd.isna(value) else float(value))


def loss_column(label: str, why: str = "") -> Any:
    return st.column_config.NumberColumn(label, format="%.4f", help=why or None)


def setting_column(label: str, values: pd.Series) -> Any:
    """A point's value: short in the table, whole in the download."""
    if pd.api.types.is_float_dtype(values):
        return st.column_config.NumberColumn(label, format="%.3g")
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return st.column_config.NumberColumn(label, format="%d")
    return st.column_config.TextColumn(label)


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Path -> its last word, the whole path where two would look alike."""
    ends = [path.rsplit(".", 1)[-1] for path in paths]
    return {path: end if ends.count(end) == 1 else path for path, end in zip(paths, ends, strict=True)}
