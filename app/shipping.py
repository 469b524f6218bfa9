"""Can this trial be shipped? Its checkpoints, seeds and MLflow run, the proposal, and a box that asks it to write.
A part of the page Trial; the ceremony itself is a dialog of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app import acting, prompt, source
from app.dialogs import promotion as ceremony
from app.parts import command, note, plain
from app.source import Snapshot
from tuner.analysis.mirror import LOCAL, run_link
from tuner.analysis.trials.checkpoints import Checkpoint, checkpoints
from tuner.analysis.words import size
from tuner.promotion.candidate import nominate
from tuner.spec.errors import TunerError


def panel(snapshot: Snapshot, trial: Any) -> None:
    """What there is to ship, its seeds, and the commands that propose it."""
    st.subheader("Can it be shipped?", anchor=False)
    facts, study = trial.facts, snapshot.name
    path, digest = facts.get("checkpoint"), facts.get("checkpoint_sha256")
    if path is None:
        st.text(
            "No checkpoint is recorded: the trial is not finished, or it was not among the best whose weights are kept."
        )
    else:
        st.code(str(path), language=None, wrap_lines=True)
        st.caption(f"sha256 {plain(str(digest or 'not recorded'))[:16]}: the one that would be promoted")
        if not Path(str(path)).is_dir():
            note(f"The checkpoint is not below {Path.cwd()}: it was deleted, or trained in another folder.", "warning")
    if kept := checkpoints(study, trial.number, source.RUNS):
        _kept(kept, digest)
    if trial.state == "complete" and path is not None:
        refused = acting.refusal()
        if st.button(
            "Propose for promotion",
            icon=":material/trophy:",
            disabled=bool(refused),
            help=refused or None,
            key="propose",
        ):
            ceremony.propose(study, trial.number, source.tracking(snapshot))
        st.caption(plain(refused) if refused else "Its gates are asked first; nothing moves without a reason.")
        command(f'tuner promote {study} {trial.number} --reason "…"', "The same in the terminal")
    elif trial.state != "complete":
        st.text("Only a complete trial can be promoted: the first gate asks for it.")
    try:
        values = nominate(snapshot.record, trial).values
    except (TunerError, ValueError):
        values = {}
    if len(values) > 1:
        st.caption(f"The same settings with {len(values)} seeds")
        repeats = pd.DataFrame({"seed": list(values), snapshot.record.metric: list(values.values())})
        st.dataframe(repeats, hide_index=True, alt="Final values of the same settings by seed")
    elif trial.state == "complete":
        st.caption("One seed only: how much of this is luck is not known.")
    _run(snapshot, facts.get("mlflow_run"))


def _kept(kept: list[Checkpoint], digest: Any) -> None:
    """Every checkpoint on this disk, with hash and size."""
    table = pd.DataFrame(
        {
            "step": [one.step for one in kept],
            "tokens": [one.tokens for one in kept],
            "sha256": [(one.sha256 or "no manifest")[:16] for one in kept],
            "size": [size(one.bytes) for one in kept],
            "recorded": ["✓" if one.sha256 and one.sha256 == digest else "" for one in kept],
        }
    )
    config = {"tokens": st.column_config.NumberColumn("tokens", format="compact")}
    words = f"{len(kept)} checkpoints on this disk"
    st.dataframe(table, hide_index=True, width="stretch", column_config=config, alt=words)


def writing(snapshot: Snapshot, trial: Any) -> None:
    """Ask its checkpoint to continue a text."""
    st.subheader("Ask it to write", anchor=False)
    checkpoint = acting.checkpoint_of(trial.facts)
    if checkpoint is None:
        st.text("Its checkpoint is not on this disk, so nothing can be asked of it.")
        return
    prompt.box(f"{snapshot.name}:{trial.number}", {trial.number: checkpoint})


def _run(snapshot: Snapshot, run: Any) -> None:
    if run is None:
        note("No MLflow run is recorded: its curves are in this folder's spool.")
        return
    uri = source.tracking(snapshot)
    where = run_link(uri, str(run))
    st.link_button("Open its MLflow run", where, icon=":material/open_in_new:", help=str(run))
    if where.startswith(LOCAL):
        command("mlflow ui", "MLflow's page must run in this folder for that")
