"""The link is the view: reading and writing the query part of the address, explicitly, in one place.
Text that came by a link is checked by whoever asks for it; nothing here believes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import streamlit as st

T = TypeVar("T")
WIDE = 240  # pixels of a select box
_LONGEST = 200  # ids in a link; more are cut, and no page shows more


def text(name: str) -> str | None:
    """The value of ``name`` in the link, None where it is absent or empty."""
    return st.query_params.get(name) or None


def texts(name: str) -> list[str]:
    """Every value of a name that may be repeated."""
    return st.query_params.get_all(name)


def number(name: str) -> int | None:
    """A number of the link; None where it is absent or no number (``text`` tells the two apart)."""
    asked = text(name)
    return int(asked) if asked is not None and asked.isascii() and asked.isdigit() and len(asked) < 10 else None


def numbers(name: str) -> list[int]:
    """Trial numbers separated by commas, each once, in order; what is no number is left out."""
    words = (text(name) or "").split(",")[:_LONGEST]
    return list(dict.fromkeys(int(one) for one in words if one.isascii() and one.isdigit() and len(one) < 10))


def write(**values: str | int | Sequence[str] | None) -> None:
    """Put values into the address, take out those that are None or empty; an equal address is left alone."""
    for name, value in values.items():
        if value is None or value == "" or value == []:
            if name in st.query_params:
                del st.query_params[name]
        elif isinstance(value, str | int):
            if st.query_params.get_all(name) != [str(value)]:
                st.query_params[name] = str(value)
        elif st.query_params.get_all(name) != list(value):
            st.query_params[name] = list(value)


def peek(options: Sequence[T], name: str, default: T) -> T:
    """What ``choice`` with these arguments will say, before it is drawn."""
    by_text = {str(option): option for option in options}
    held: T | None = st.session_state.get(_key(name, by_text))
    return by_text.get(text(name) or "", default) if held is None else held


def _key(name: str, by_text: Mapping[str, object]) -> str:
    return f"{name}:{','.join(by_text)}"


def choice(
    label: str, options: Sequence[T], name: str, default: T, word: Callable[[T], str] = str, wide: bool = False
) -> T:
    """One of a few, as a segmented control (a select box where ``wide``), kept in the link under ``name``.

    A link that names none of them gets a sentence and the default.
    """
    asked = text(name)
    by_text = {str(option): option for option in options}
    if asked is not None and asked not in by_text:
        st.text(f"The link asks for {name} “{asked[:60]}”, which this page does not have; it shows {word(default)}.")
        del st.query_params[name]
        asked = None
    start = by_text.get(asked, default) if asked is not None else default
    key = _key(name, by_text)
    picked: Any
    if wide:
        picked = st.selectbox(label, options, index=list(options).index(start), format_func=word, key=key, width=WIDE)
    else:
        picked = st.segmented_control(label, options, default=start, required=True, format_func=word, key=key)
    chosen: T = start if picked is None else picked
    write(**{name: None if chosen == default else str(chosen)})
    return chosen
