"""Studies: which deserves a look, and is anything running? A card a study, the most recently active first."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from app import source
from app.demo import removal
from app.page import no_study
from app.parts import ago, chips, heading, number, plain, problem
from app.source import Snapshot
from tuner.analysis.study.frame import budget_at
from tuner.analysis.study.live import headline
from tuner.spec.errors import TunerError

OVERVIEW = str(Path(__file__).with_name("overview.py"))
CARDS = 24  # beyond, a table is easier to read


def draw() -> None:
    heading("Studies", "Which study deserves a look, and is anything running?")
    try:
        names = source.names()
    except TunerError as error:
        st.text(str(error))
        no_study()
        return
    if not names:
        no_study()
        return
    read, refused = [], []
    for name in names:
        try:
            read.append(source.fresh(name))
        except TunerError as error:
            refused.append((name, str(error)))
    read.sort(key=_latest, reverse=True)
    running = sum(int((one.frame["state"] == "running").sum()) for one in read)
    st.markdown(
        f"{len(names)} {'study' if len(names) == 1 else 'studies'}, "
        + (f":green[◐ {running} trials running now]" if running else "nothing running")
    )
    for start in range(0, min(len(read), CARDS), 2):
        for column, one in zip(st.columns(2), read[start : start + 2], strict=False):
            with column:
                _card(one)
    if len(read) > CARDS:
        _rest(read[CARDS:])
    removal(names)
    for name, sentence in refused:
        problem(sentence, f"The study {plain(name)} could not be read")


def _latest(snapshot: Snapshot) -> float:
    moment = headline(snapshot.record, snapshot.frame, snapshot.noise)["last_activity"]
    return 0.0 if moment is None or pd.isna(moment) else float(pd.Timestamp(moment).timestamp())


def _card(snapshot: Snapshot) -> None:
    told = headline(snapshot.record, snapshot.frame, snapshot.noise)
    with st.container(border=True, height="stretch"):
        st.page_link(
            OVERVIEW,
            label=f"**{plain(snapshot.name)}**",
            icon=":material/arrow_forward:",
            icon_position="right",
            query_params={"study": snapshot.name},
        )
        st.markdown(chips(told["counts"]) or ":gray-badge[○ no trial yet]")
        best, budget, activity = st.columns([5, 4, 4])
        with best:
            st.caption(f"Best {plain(snapshot.record.metric)}")
            if told["best"] is None:
                st.markdown("–")
            else:
                st.markdown(
                    f"**{number(told['best'])}** ±{snapshot.band:.2g}",
                    help="± is seed noise: two trials nearer than this are a tie."
                    + (" Assumed, as nothing was repeated." if snapshot.noise.assumed else ""),
                )
        with budget:
            st.caption("At the budget of")
            st.markdown(plain(budget_at(snapshot.record, snapshot.milestones)))
        with activity:
            st.caption("Last activity")
            st.markdown(ago(told["last_activity"]))
        if total := told["total"]:
            share = min(1.0, told["spent"] / total)
            st.progress(share, text=f":gray[{told['spent']} of {total} trials finished]")


def _rest(snapshots: list[Snapshot]) -> None:
    table = pd.DataFrame(
        {
            "study": one.name,
            "best": headline(one.record, one.frame, one.noise)["best"],
            "trials": len(one.frame),
            "running": int((one.frame["state"] == "running").sum()),
        }
        for one in snapshots
    )
    st.caption("Older studies")
    st.dataframe(table, hide_index=True, alt="Older studies with their best value and number of trials")


draw()
