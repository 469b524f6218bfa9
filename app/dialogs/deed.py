"""One deed from a dialog: asked for once, done once, and told how it ended, however often a button is pressed.
The state lives in the session under the deed's key; what is done is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.parts import problem
from tuner.spec.errors import TunerError


@dataclass
class Deed:
    """``about`` is the frozen record that the dialog shows and acts on; ``answers`` is what the form said."""

    about: Any
    phase: str = "ask"  # ask, then work, then done or failed
    answers: tuple[Any, ...] = ()
    said: str = ""


def begin(key: str, about: Any) -> None:
    """Open the dialog of ``key`` at the next drawing, about this very record."""
    st.session_state[f"deed:{key}"] = Deed(about)


def open_deed(key: str) -> Deed | None:
    """What is open under ``key``."""
    found: Deed | None = st.session_state.get(f"deed:{key}")
    return found


def end(key: str) -> None:
    """Close it; the page is drawn anew without it."""
    st.session_state.pop(f"deed:{key}", None)


def submit(key: str, *fields: str) -> None:
    """For a form's callback: take its answers and go to work, unless that was done before."""
    deed = open_deed(key)
    if deed is not None and deed.phase == "ask":
        deed.answers = tuple(st.session_state.get(name) for name in fields)
        deed.phase = "work"


def settled(key: str, deed: Deed, doing: str, act: Callable[..., str], again: str = "") -> bool:
    """Do it if it was asked for; True once there is nothing left to ask, with how it ended on the screen.

    ``act`` gets the form's answers and returns the sentence to show; ``again`` names a button back to the question.
    """
    _work(deed, doing, act)
    if deed.phase == "ask":
        return False
    _outcome(key, deed, again)
    return True


def _work(deed: Deed, doing: str, act: Callable[..., str]) -> None:
    if deed.phase != "work":
        return
    deed.phase = "failed"  # whatever happens: it is done once, and the dialog can be closed
    with st.spinner(doing, show_time=True):
        try:
            deed.said, deed.phase = act(*deed.answers), "done"
        except TunerError as error:
            deed.said = str(error)
        except Exception as error:  # of a file, a database, a registry
            deed.said = f"{type(error).__name__}: {error}"


def _outcome(key: str, deed: Deed, again: str) -> None:
    """How it ended, and the way out."""
    if deed.phase == "done":
        st.markdown(":green[:material/check_circle:] **Done**")
        st.text(deed.said)
    else:
        problem(deed.said, "Nothing more was done")
    with st.container(horizontal=True):
        if deed.phase == "failed" and again and st.button(again, key=f"again:{key}"):
            deed.phase = "ask"
            st.rerun(scope="fragment")
        if st.button("Close", key=f"close:{key}"):
            end(key)
            st.rerun()


def cancel(key: str, label: str = "Cancel") -> None:
    """A button that closes the dialog with nothing done."""
    if st.button(label, key=f"cancel:{key}"):
        end(key)
        st.rerun()
