"""What every page is made of: states as icon, word and colour, headings, empty states, problems, tables.
Our own words may be markdown; text of trials, stores and links goes through st.text, st.code or ``plain``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import streamlit as st

from app.looks import LOOKS as LOOKS  # pages take the words of states and numbers from here
from app.looks import look as look
from app.looks import number as number
from app.looks import short_names as short_names
from app.looks import state_words as state_words
from tuner.analysis.words import duration
from tuner.promotion.gates import Answer, Result

MARKS = {
    Result.PASS: ("✓", "green", "pass"),
    Result.FAIL: ("✕", "violet", "fail"),
    Result.COULD_NOT_RUN: ("?", "orange", "could not run"),
}

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def plain(text: str) -> str:
    """Markdown that shows ``text`` as it is: every ASCII punctuation mark escaped, lines joined."""
    return _PUNCTUATION.sub(r"\\\1", " ".join(text.split()))


def chips(counts: Mapping[str, int]) -> str:
    """States with their counts as coloured chips, in a fixed order."""
    order = ("running", "queued", "complete", "pruned", "infeasible", "diverged", "failed")
    shown = [(look(state), counts[state]) for state in order if counts.get(state)]
    return " ".join(f":{one.colour}-badge[{one.icon} {number} {one.word}]" for one, number in shown)


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
            st.code(command, language=None, wrap_lines=True)


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
    st.code(words, language=None, wrap_lines=True)


def card(label: str, value: str, basis: str = "", why: str = "") -> None:
    """A number with its basis: at which budget, of which trial, from how many."""
    with st.container(border=True, height="stretch", gap="xxsmall", key=f"card-{label}"):
        st.markdown(f":small[{plain(label)}]", help=why or None)
        st.markdown(f"## {plain(value)}")
        st.markdown(f":gray-badge[{plain(basis)}]" if basis else "")


def cards(found: Sequence[tuple[str, ...]]) -> None:
    """A row of cards, which a phone puts one under another."""
    for column, one in zip(st.columns(len(found)), found, strict=True):
        with column:
            card(*one)


def picture(chart: Any, words: str, key: str | None = None, dragged: Callable[[], None] | None = None) -> None:
    """A chart as wide as its place. ``words`` are its takeaway for a reader who cannot see it: the chart as a whole has
    them, so that its thousands of marks need not speak for themselves. ``dragged`` hears of its brush.
    """
    quiet = chart.configure_mark(aria=False)
    st.altair_chart(quiet, width="stretch", alt=words, key=key, on_select="ignore" if dragged is None else dragged)


def gate_rows(answers: Sequence[Answer]) -> None:
    """What each gate said, with its mark and word."""
    for answer in answers:
        mark, colour, word = MARKS[answer.result]
        with st.container(horizontal=True, gap="small", vertical_alignment="top", wrap=False):
            st.markdown(f":{colour}-badge[{mark} {word}]", width="content")
            st.markdown(f"**{plain(answer.gate)}**", width=110)
            st.text(answer.sentence, width="stretch")


def data_behind(table: pd.DataFrame, label: str = "Show data", named: bool = False) -> None:
    """The numbers of a picture, for those who cannot see it or want them exactly; ``named``: its rows have names."""
    with st.popover(label, icon=":material/table:", type="tertiary"):  # an expander would load its table unopened
        st.dataframe(table, hide_index=not named, width="stretch", alt=label)


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


def loss_column(label: str, why: str = "") -> Any:
    return st.column_config.NumberColumn(label, format="%.4f", help=why or None)


def setting_column(label: str, values: pd.Series) -> Any:
    """A point's value: short in the table, whole in the download."""
    if pd.api.types.is_float_dtype(values):
        return st.column_config.NumberColumn(label, format="%.3g")
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return st.column_config.NumberColumn(label, format="%d")
    return st.column_config.TextColumn(label)
