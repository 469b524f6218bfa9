"""The ceremonies: promote a judged trial, bring a former champion back, end what a crash has left. Each is a dialog
that gets a frozen record as its argument, wants a reason, and acts once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import streamlit as st

from app import acting, source
from app.dialogs.deed import Deed, begin, cancel, open_deed, settled, submit
from app.parts import gate_rows, note, number, plain, problem
from tuner.promotion.promote import Judged, Return, consider, promote, rollback, take_back, way_back
from tuner.promotion.truth import named
from tuner.spec.errors import TunerError

PROMOTE, ROLLBACK, ENDING = "promote", "rollback", "ending"


@dataclass(frozen=True)
class Proposed:
    """A judged trial, and the registry that it would be promoted in."""

    judged: Judged
    uri: str


@dataclass(frozen=True)
class Back:
    """A way back, in the registry at ``uri``."""

    way: Return
    uri: str


@dataclass(frozen=True)
class Interrupted:
    """A ceremony that has not ended, and whether it is to be taken back."""

    model: str
    uri: str
    sentence: str
    undo: bool


def propose(study: str, trial: int, uri: str) -> None:
    """Judge a trial now, and open the dialog on what the gates said; a sentence where they could not be asked."""
    try:
        with st.spinner("The gates look at the checkpoint, in a process of its own", show_time=True):
            judged = consider(acting.desk(uri), study, trial)
    except TunerError as error:
        problem(str(error), "The gates could not be asked")
        return
    begin(PROMOTE, Proposed(judged, uri))


def go_back(model: str, to: int, uri: str) -> None:
    """Open the dialog on a way back to version ``to``; a sentence where there is none."""
    try:
        way = way_back(acting.desk(uri), model, to)
    except TunerError as error:
        problem(str(error), "There is no way back")
        return
    begin(ROLLBACK, Back(way, uri))


def dialogs() -> None:
    """Draw the dialog that is open, if one is."""
    if (deed := open_deed(PROMOTE)) is not None:
        _promote(deed)
    elif (deed := open_deed(ROLLBACK)) is not None:
        _rollback(deed)
    elif (deed := open_deed(ENDING)) is not None:
        _end(deed)


@st.dialog("Promote to champion", width="large", dismissible=False)
def _promote(deed: Deed) -> None:
    about: Proposed = deed.about
    judged, one = about.judged, about.judged.candidate
    if judged.crowned is not None:
        st.text(f"Trial {one.trial} of {one.study} is the champion already: {one.model} version {judged.crowned}.")
        cancel(PROMOTE, "Close")
        return
    if settled(PROMOTE, deed, "Packaging, registering, verifying, moving the alias", partial(_promoting, about)):
        return
    before = None if judged.champion is None else judged.champion.version
    _change(one.model, named(before) if before else "nobody", f"trial {one.trial} of {one.study}")
    st.text(
        f"{one.metric} {number(one.value)} at {one.budget}; record {one.record[:16]}, sha256 {(one.sha256 or '')[:16]}"
    )
    gate_rows(tuple(judged.answers))
    if closed := judged.blocking():
        names = ", ".join(answer.gate for answer in closed)
        note(
            f"Not promoted: {names} {'does' if len(closed) == 1 else 'do'} not pass. Mend the cause and propose it "
            f"again; `tuner promote {one.study} {one.trial} --override` goes against its gates, marked for ever.",
            "block",
        )
        cancel(PROMOTE, "Close")
        return
    _reason(PROMOTE, "Promote")


def _promoting(about: Proposed, reason: str) -> str:
    try:
        version = promote(acting.desk(about.uri), about.judged, reason)
    finally:
        source.forget_books()
    return f"{about.judged.candidate.model} version {version} is champion now."


@st.dialog("Roll back", width="large", dismissible=False)
def _rollback(deed: Deed) -> None:
    about: Back = deed.about
    way = about.way
    if settled(ROLLBACK, deed, f"Verifying version {way.to} and moving the alias", partial(_returning, about)):
        return
    _change(way.model, named(way.now), named(way.to))
    one = way.told.candidate
    st.text(
        f"Version {way.to} is trial {one.get('trial')} of {one.get('study')}, {one.get('metric')} "
        f"{number(one.get('value'))} at {one.get('budget')}, promoted by {way.told.actor}: {way.told.reason}"
    )
    note("Its package is fetched, checked by hash and asked to write before the alias moves.", "verified")
    _reason(ROLLBACK, "Roll back")


def _returning(about: Back, reason: str) -> str:
    try:
        rollback(acting.desk(about.uri), about.way, reason)
    finally:
        source.forget_books()
    return f"{about.way.model}: version {about.way.to} is champion again (before: {named(about.way.now)})."


@st.dialog("End an interrupted promotion", width="large", dismissible=False)
def _end(deed: Deed) -> None:
    about: Interrupted = deed.about
    if settled(ENDING, deed, "Verifying", partial(_ending, about)):
        return
    st.text(about.sentence)
    if about.undo:
        st.text("Taken back: the aliases return to where they were, and a registered version is marked as undone.")
        _reason(ENDING, "Take it back")
    else:
        st.text("Going on: the registered version is verified, and becomes champion if that did not move meanwhile.")
        _reason(ENDING, "Go on", wanted=False)


def _ending(about: Interrupted, reason: str) -> str:
    desk = acting.desk(about.uri)
    try:
        if about.undo:
            ended = take_back(desk, about.model, reason)
        else:
            ended = desk.ceremony.resume(about.model, desk.actor) is not None
        champion = named(desk.registry.champion(about.model))
    finally:
        source.forget_books()
    if not ended:
        return f"Nothing was interrupted any more; the champion of {about.model} is {champion}."
    return f"{'Taken back' if about.undo else 'Ended'}; the champion of {about.model} is {champion}."


def _change(model: str, before: str, after: str) -> None:
    """Before and after, side by side, never by colour alone."""
    with st.container(border=True, horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"champion of **{plain(model)}**", width="content")
        st.markdown(f":gray-badge[before] {plain(before)}", width="content")
        st.markdown(":material/arrow_forward:", width="content")
        st.markdown(f":blue-badge[after] **{plain(after)}**", width="content")


def _reason(key: str, label: str, wanted: bool = True) -> None:
    """The form that ends a dialog: a reason, the deed, and the way out."""
    field = f"reason:{key}"
    with st.form(f"form:{key}", border=False, enter_to_submit=False):
        if wanted:
            st.text_area("Why? It stays in the ledger.", key=field, height=80, max_chars=2000)
        st.caption(f"Recorded as {plain(acting.who())}.")
        st.form_submit_button(label, on_click=_checked, args=(key, field, wanted))
    if st.session_state.get(f"missing:{key}"):
        note("A champion is never moved without a reason.", "error")
    cancel(key)


def _checked(key: str, field: str, wanted: bool) -> None:
    """To work, once a reason is given."""
    missing = wanted and not str(st.session_state.get(field) or "").strip()
    st.session_state[f"missing:{key}"] = missing
    if not missing:
        submit(key, field)
