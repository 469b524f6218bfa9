"""The demo study: made on request for newcomers, marked as simulated wherever it is shown, and removed as easily.
Its trials come from fake hands; this room only asks for it and says what it is.
"""

from __future__ import annotations

import streamlit as st

from app import acting, source
from app.parts import note, problem
from app.source import Snapshot
from tuner.analysis.store import trial_store
from tuner.run.control.demo import NAME, make_demo, remove_demo
from tuner.spec.errors import TunerError


def offer() -> None:
    """A button that makes the demo study and opens it."""
    refused = acting.refusal()
    with st.container(border=True):
        st.subheader("Or look around first", anchor=False)
        st.text(
            "A demo study fills the pages in a few seconds: 48 simulated trials, drawn by a formula. Nothing is "
            "trained, and every page says so. It can be removed on the page Studies."
        )
        if st.button("Make the demo study", key="demo", icon=":material/science:", disabled=bool(refused)):
            _make()
        if refused:
            st.caption(refused)


def _make() -> None:
    try:
        with st.spinner("Simulating 48 trials", show_time=True):
            make_demo(trial_store(), source.RUNS)
    except TunerError as error:
        problem(str(error), "The demo could not be made")
        return
    source.forget_studies()
    st.session_state["study"] = NAME
    st.rerun()


def banner(snapshot: Snapshot) -> None:
    """Over every page of a simulated study."""
    if snapshot.simulated:
        note("Simulated: these trials come from a formula, nothing here was trained.", "science")


def removal(names: list[str]) -> None:
    """The way to be rid of it."""
    if NAME not in names or acting.refusal():
        return
    if st.button("Remove the demo study", key="no-demo", icon=":material/delete:", type="tertiary"):
        try:
            remove_demo(trial_store(), source.RUNS)
        except TunerError as error:
            problem(str(error), "The demo could not be removed")
            return
        source.forget_studies()
        st.session_state.pop("study", None)
        st.rerun()
