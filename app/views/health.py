"""Health: why is something failing? Causes and where in the space, what is not mirrored, how old, which versions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from app import source
from app.page import study_page
from app.parts import ago, cards, command, look, note, state_words
from app.source import Snapshot
from app.standing import versions
from tuner.analysis.mirror import disagreements, lacking
from tuner.analysis.store import harmless, tracking_exists, trial_store
from tuner.analysis.study.failures import causes, region
from tuner.spec.errors import TunerError

TRIAL = str(Path(__file__).with_name("trial.py"))
PACKAGES = ("tuner", "optuna", "mlflow", "streamlit", "altair", "pandas", "torch", "lightning")
BAD = ("failed", "diverged", "infeasible")


def draw() -> None:
    snapshot = study_page("Health", "Why is something failing?")
    if snapshot is not None:
        _numbers(snapshot)
        left, right = st.columns(2)
        with left.container(border=True, height="stretch"):
            _causes(snapshot)
        with right.container(border=True, height="stretch"):
            _mirror(snapshot)
    with st.container(border=True):
        _places(snapshot)


def _numbers(snapshot: Snapshot) -> None:
    frame = snapshot.frame
    bad = frame[frame["state"].isin(BAD)]
    lost = frame[frame["state"].isin(("complete", "pruned")) & frame["run"].isna()]
    running = frame[frame["state"] == "running"]
    last = frame["ended"].max()
    cards(
        [
            ("Ended without a result", str(len(bad)), f"of {snapshot.finished} finished"),
            ("Without an MLflow run", str(len(lost)), "of the complete and pruned"),
            (
                "Running",
                str(len(running)),
                f"longest since {ago(running['started'].min())}" if len(running) else "none",
            ),
            ("Last trial ended", ago(last), f"read {ago(snapshot.at)}"),
        ]
    )


def _causes(snapshot: Snapshot) -> None:
    st.subheader("Failures by cause", anchor=False)
    table = causes(snapshot.frame)
    bad = table[table["state"].isin(BAD)] if not table.empty else table
    if bad.empty:
        pruned = int((snapshot.frame["state"] == "pruned").sum())
        st.text("No trial has failed, diverged or been refused.")
        if pruned:
            st.caption(f"{pruned} were pruned, which is the search at work, not a failure.")
        return
    for row in bad.to_dict("records"):
        state = look(str(row["state"]))
        with st.container(horizontal=True, vertical_alignment="top", gap="small", wrap=False):
            st.markdown(f":{state.colour}-badge[{state.icon} {int(row['count'])} {state.word}]", width="content")
            st.text(str(row["reason"]) or "no reason recorded", width="stretch")
        examples = [int(one) for one in list(row["examples"])[:3]]
        with st.container(horizontal=True, gap="small"):
            for one in examples:
                where = {"study": snapshot.name, "trial": str(one)}
                st.page_link(TRIAL, label=f"Trial {one}", query_params=where)
    where_ = region(snapshot.record, snapshot.frame)
    if where_:
        note(where_[:1].upper() + where_[1:], "my_location")


def _mirror(snapshot: Snapshot) -> None:
    """What MLflow lacks, by what the disk knows; MLflow itself is asked on request only, as that takes seconds."""
    st.subheader("The mirror in MLflow", anchor=False)
    frame = snapshot.frame
    lost = frame[frame["state"].isin(("complete", "pruned")) & frame["run"].isna()]
    uri = source.tracking(snapshot)
    if snapshot.simulated:
        st.text("A simulated study: MLflow never hears of it.")
        return
    if not tracking_exists(uri):
        note("MLflow's file is not there; the next run of the study makes it and writes what is missing.", "warning")
    if lost.empty:
        st.text("Every complete and pruned trial names its MLflow run.")
    else:
        some = ", ".join(str(int(one)) for one in lost["number"].head(8))
        st.text(f"{len(lost)} trials have no MLflow run: {some}{' …' if len(lost) > 8 else ''}.")
        st.caption(
            "Their curves are in their spools. The same command that ran the study mirrors them; nothing is lost."
        )
        shown = lost[["number", "state", "ended"]].head(50).assign(state=lost["state"].map(state_words))
        st.dataframe(shown, hide_index=True, alt="Trials without an MLflow run")
    left = lacking(snapshot.record, source.RUNS, uri)
    if left:
        note(f"{left} records of its spools are not mirrored yet.", "cloud_upload")
        command(f"tuner sync {snapshot.name}", "A running study mirrors by itself; afterwards this does")
    else:
        st.text("Every record of its spools is mirrored.")
    if st.button("Compare with MLflow", icon=":material/difference:", key="audit", help="Asks for every run"):
        _audit(snapshot, uri)


def _audit(snapshot: Snapshot, uri: str) -> None:
    try:
        with st.spinner("Reading every run", show_time=True):
            said = disagreements(snapshot.record, uri)
    except TunerError as error:
        st.text(str(error))
        return
    if not said:
        note("Trial store and MLflow tell the same story: states, values and runs agree.", "check")
    for sentence in said[:20]:
        note(sentence, "warning")
    if len(said) > 20:
        st.caption(f"{len(said) - 20} more.")


def _places(snapshot: Snapshot | None) -> None:
    st.subheader("Stores and versions", anchor=False)
    left, right = st.columns(2)
    with left:
        stores = pd.DataFrame(
            {
                "what": ["trials and ledger", "MLflow", "weights and curves"],
                "where": [
                    harmless(trial_store()),
                    harmless(source.tracking(snapshot)),
                    str(source.RUNS.absolute()),
                ],
            }
        )
        st.dataframe(stores, hide_index=True, width="stretch", alt="Where the stores are")
    with right:
        found = versions(PACKAGES)
        table = pd.DataFrame({"package": list(found), "version": list(found.values())})
        st.dataframe(table, hide_index=True, width="stretch", alt="Versions of the packages in use")
    if snapshot is not None:
        codes = {str(one.facts["code_version"]) for one in snapshot.record.trials if "code_version" in one.facts}
        if len(codes) > 1:
            note(
                f"Trials of this study ran under several versions of tuner: {', '.join(sorted(codes))}.",
                "warning",
            )


draw()
