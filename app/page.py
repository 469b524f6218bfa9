"""The frame of a page about one study: which study the link names, what is on the screen, and the live header.
New data announces itself in the header; only a click puts it on the page.
"""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

from app import link, source
from app.demo import banner, offer
from app.parts import ago, chips, empty, heading, look, note, number, plain, problem
from app.source import Snapshot
from tuner.analysis.study.frame import budget_at
from tuner.analysis.study.live import headline
from tuner.analysis.trials.curves import first_result
from tuner.analysis.words import duration
from tuner.spec.errors import TunerError

FIRST = "tuner study search_spaces/base.yaml"
LIVE_S, IDLE_S = 5.0, 30.0
QUIET = ("running", "queued")


def study_page(title: str, question: str) -> Snapshot | None:
    """Draw title, question and header; the snapshot to draw from, None where the page has said why there is none."""
    heading(title, question)
    try:
        known = source.names()
    except TunerError as error:
        return _without_store(error)
    if not known:
        no_study()
        return None
    name = _chosen(known)
    try:
        snapshot = source.seen(name)
    except TunerError as error:
        problem(str(error))
        return None
    _header(known, snapshot)
    banner(snapshot)
    if snapshot.frame.empty:
        empty(
            "No trial yet",
            f"The study “{name}” is in the store, but no trial of it has started. If a search runs, the first trial "
            "appears here within seconds; else start one. The same command goes on where a study stopped.",
            FIRST,
        )
        return None
    return snapshot


def no_study() -> None:
    """First start: how a study is made."""
    empty(
        "No study yet",
        "A study is one search: a YAML file says what a trial is and what may vary. This one trains small GPTs on "
        "Python's own source text, needs no download, and shows its first result here after about a minute. Run it "
        "in the folder where this dashboard was started:",
        FIRST,
    )
    offer()


def _without_store(error: TunerError) -> Snapshot | None:
    """No store: the last snapshot with its age, or how to make a first study."""
    kept: dict[str, Snapshot] = st.session_state.get("snapshots", {})
    wanted = link.text("study") or st.session_state.get("study")
    last = [one for one in kept.values() if one.name == wanted]
    if not last:
        problem(str(error), "No trial store was read")
        no_study()
        return None
    newest = max(last, key=lambda one: one.at)
    problem(str(error), f"The store is away; what follows was read {ago(newest.at)}")
    return newest


def _chosen(known: list[str]) -> str:
    """The study of the link, else the one looked at last, else the first; the link says it afterwards."""
    asked, last = link.text("study"), st.session_state.get("study")
    if asked is not None and asked not in known:
        note(f"The link asks for the study “{asked[:80]}”, which this store does not have.", "link_off")
        asked = None
        st.query_params.clear()  # what named trials or filters of that study means nothing in another
    name = asked or (last if last in known else known[0])
    st.session_state["study"] = name
    link.write(study=name)
    return name


def _switch(key: str) -> None:
    name = st.session_state[key]
    st.session_state["study"] = name
    # what named trials or filters of the other study means nothing in this one
    st.query_params.clear()
    st.query_params["study"] = name


def _header(known: list[str], snapshot: Snapshot) -> None:
    name, every = snapshot.name, _refresh(snapshot)
    with st.container(border=True, key="header", horizontal=True, vertical_alignment="center", gap="small"):
        if len(known) > 1:
            st.selectbox(
                "Study",
                known,
                index=known.index(name) if name in known else 0,
                key=f"study:{name}",
                on_change=_switch,
                args=(f"study:{name}",),
                label_visibility="collapsed",
                width=260,
            )
        else:
            st.markdown(f"**{plain(name)}**", width="content")
        with st.container(width="content"):
            st.fragment(_live, run_every=every)(name)
        _link()


def _refresh(snapshot: Snapshot) -> float | None:
    """Seconds between two looks: soon while trials run, seldom while some are left, never once all are done."""
    states = set(snapshot.frame["state"]) if not snapshot.frame.empty else {"queued"}
    if states & set(QUIET):
        return LIVE_S
    told = headline(snapshot.record, snapshot.frame, snapshot.noise)
    return IDLE_S if told["spent"] < told["total"] else None


def _live(name: str) -> None:
    """The header's numbers, which are new every few seconds, and the word that there is more than the page shows.

    One element: every browser that watches draws it again each time.
    """
    shown = source.seen(name)
    try:
        now = source.fresh(name)
    except TunerError:
        now = shown
    told, words = headline(now.record, now.frame, now.noise), [chips(_counts(now)) or ":gray-badge[no trial yet]"]
    if told["best"] is not None:
        budget = budget_at(now.record, now.milestones)
        words.append(f"best **{number(told['best'])}** ±{now.band:.2g} @ {plain(budget)}")
    words += [f":gray[{told['spent']} of {told['total']} trials]", f":gray[read {ago(now.at)}]"]
    st.markdown(" &nbsp; ".join(words), width="content", help=_band_words(now) if told["best"] is not None else None)
    new = max(0, now.finished - shown.finished)
    if new or len(now.frame) != len(shown.frame):
        label = f"{new} new {'trial' if new == 1 else 'trials'} · Show" if new else "New trials started · Show"
        if st.button(label, key=f"newest:{name}", icon=":material/refresh:"):
            source.show_newest(name)
            st.rerun(scope="app")
    now_running = set(now.frame["state"]) & set(QUIET)
    if set(shown.frame["state"]) & set(QUIET) and not now_running and not new:
        source.show_newest(name)
        st.rerun(scope="app")


def _link() -> None:
    """This very view as an address to send on."""
    with st.popover("Link", icon=":material/link:", type="tertiary"):
        st.caption("What is chosen on this page is in its address:")
        query = urlencode({name: st.query_params.get_all(name) for name in st.query_params}, doseq=True)
        st.code(f"{(st.context.url or '').partition('?')[0]}?{query}", language=None, wrap_lines=True)


def _counts(snapshot: Snapshot) -> dict[str, int]:
    return {str(state): int(count) for state, count in snapshot.frame["state"].value_counts().items()}


def _band_words(snapshot: Snapshot) -> str:
    noise = snapshot.noise
    how = "assumed: this study has no repeats yet" if noise.assumed else noise.basis
    return f"Two trials nearer than this differ by no more than their seeds do ({how})."


def _soon(snapshot: Snapshot) -> str:
    wait = first_result(snapshot.record, source.RUNS)
    return "" if wait is None else f"First result in about {duration(max(1.0, wait))}. "


def theme() -> str | None:
    """``light`` or ``dark`` as the visitor's browser has it; None before it has said so."""
    kind = st.context.theme.type
    return None if kind is None else str(kind)


def unfinished(snapshot: Snapshot) -> bool:
    """Say so where no trial has a result yet; True where the page has nothing else to show."""
    states = _counts(snapshot)
    if snapshot.frame["reached"].max() > 0:
        return False
    if any(state in states for state in QUIET):
        empty(
            "Waiting for a first result",
            f"{states.get('running', 0)} running, {states.get('queued', 0)} queued; none has reached its first "
            f"milestone ({budget_at(snapshot.record, 1)}) yet. {_soon(snapshot)}The header tells when one has.",
        )
    else:
        words = ", ".join(f"{count} {look(state).word}" for state, count in states.items())
        empty(
            "No trial has a result",
            f"All have ended without one: {words}. Look at the causes on the page Health first.",
        )
    return True
