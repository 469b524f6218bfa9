"""The dialogs that steer a search: stop it, prune one running trial, enqueue a point or a trial's edited copy.
Through the same functions as the commands, each with its actor; nothing is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import streamlit as st

from app import acting
from app.dialogs.deed import Deed, begin, cancel, open_deed, settled, submit
from app.parts import plain
from tuner.analysis.store import trial_store
from tuner.run.control.study import enqueue, prune, stop
from tuner.spec.dimensions.fields import read_point

STOP, PRUNE, ENQUEUE = "stop", "prune", "enqueue"


@dataclass(frozen=True)
class Stop:
    """A running study."""

    study: str


@dataclass(frozen=True)
class Prune:
    """One running trial."""

    study: str
    trial: int


@dataclass(frozen=True)
class Enqueue:
    """A point to start from, as ``path=value`` lines."""

    study: str
    lines: tuple[str, ...]


def button(key: str, about: Stop | Prune | Enqueue, label: str, icon: str) -> None:
    """The button that opens a dialog; where nothing may be changed it is off and says why."""
    refused = acting.refusal()
    st.button(
        label,
        key=f"open:{key}",
        icon=icon,
        disabled=bool(refused),
        help=refused or None,
        on_click=begin,
        args=(key, about),
    )


def dialogs() -> None:
    """Draw the dialog that is open, if one is."""
    if (deed := open_deed(STOP)) is not None:
        _stop(deed)
    elif (deed := open_deed(PRUNE)) is not None:
        _prune(deed)
    elif (deed := open_deed(ENQUEUE)) is not None:
        _enqueue(deed)


@st.dialog("Stop the search", dismissible=False)
def _stop(deed: Deed) -> None:
    about: Stop = deed.about
    if settled(STOP, deed, "Asking the driver", partial(_stopping, about), "Ask again"):
        return
    st.text(
        f"Every running trial of {about.study} writes a checkpoint and the search leaves; its command goes on later."
    )
    _form(STOP, "Stop the search", "Why? (optional)")


def _stopping(about: Stop, reason: str) -> str:
    return _sentence(stop(trial_store(), about.study, acting.who(), reason))


@st.dialog("Prune a trial", dismissible=False)
def _prune(deed: Deed) -> None:
    about: Prune = deed.about
    if settled(PRUNE, deed, "Asking the driver", partial(_pruning, about), "Ask again"):
        return
    st.text(
        f"Trial {about.trial} of {about.study} ends where it is and counts as pruned; the worker takes the next point."
    )
    _form(PRUNE, f"Prune trial {about.trial}", "Why? (optional)")


def _pruning(about: Prune, reason: str) -> str:
    return _sentence(prune(trial_store(), about.study, about.trial, acting.who(), reason))


@st.dialog("Enqueue a point", dismissible=False)
def _enqueue(deed: Deed) -> None:
    about: Enqueue = deed.about
    if settled(ENQUEUE, deed, "Writing it to the store", partial(_enqueuing, about), "Edit it"):
        return
    st.text("One setting a line; what is left out the sampler chooses. A running search takes it next.")
    lines = deed.answers[0] if deed.answers else "\n".join(about.lines)
    _form(ENQUEUE, "Enqueue", "Point", str(lines), code=True)


def _enqueuing(about: Enqueue, text: str) -> str:
    point = read_point([line.strip() for line in text.splitlines() if line.strip()])
    number = enqueue(trial_store(), about.study, point, acting.who())
    return f"Queued as trial {number} of {about.study}."


def _form(key: str, label: str, question: str, start: str = "", code: bool = False) -> None:
    field = f"field:{key}"
    with st.form(f"form:{key}", border=False, enter_to_submit=False):
        if code:
            st.text_area(question, value=start, key=field, height=max(100, 30 + 24 * (start.count("\n") + 2)))
        else:
            st.text_input(question, key=field, max_chars=400)
        st.caption(f"Recorded as {plain(acting.who())}.")
        st.form_submit_button(label, on_click=submit, args=(key, field))
    cancel(key)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")
