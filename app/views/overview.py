"""Overview: is the search still paying off? Best so far at equal budget, what a re-run would give, when to stop."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

import pandas as pd
import streamlit as st

from app import link
from app.charts import progress
from app.dialogs import control
from app.page import study_page, theme, unfinished
from app.parts import cards, command, data_behind, loss_column, number, picture
from app.source import Snapshot
from app.standing import advised, standing
from tuner.analysis.study.frame import budget_at
from tuner.analysis.study.noise import Standing, standings
from tuner.analysis.study.progress import Axis, best_so_far, funnel
from tuner.analysis.trials.sampling import history_left_out

TRIAL = str(Path(__file__).with_name("trial.py"))
AXES = ["tokens", "hours", "trials", "flops"]
RUNNING = 12  # running trials listed; of more the number is told


def draw() -> None:
    snapshot = study_page("Overview", "Is the search still paying off?")
    if snapshot is None:
        return
    if unfinished(snapshot):
        _running(snapshot)
        control.dialogs()
        return
    above = st.container()
    with st.container(border=True):
        _history(snapshot)
    with above:
        _numbers(snapshot)
    if again := standings(snapshot.record):
        with st.container(border=True):
            _again(snapshot, again)
    left, right = st.columns(2)
    with left.container(border=True, height="stretch"):
        _running(snapshot)
    with right.container(border=True, height="stretch"):
        _funnel(snapshot)
    control.dialogs()


def _numbers(snapshot: Snapshot) -> None:
    """The five numbers, each with its basis, and the advice that follows."""
    frame, noise = snapshot.frame, snapshot.noise
    cards(standing(snapshot.record, frame, noise))
    sentence = advised(snapshot.record, frame, noise)
    if sentence:
        with st.container(border=True, horizontal=True, vertical_alignment="center", wrap=False, gap="small"):
            st.markdown(":material/lightbulb:", width="content")
            st.text(sentence[:1].upper() + sentence[1:], width="stretch")
            if ": stop" in sentence:
                with st.popover("How", icon=":material/terminal:", type="tertiary"):
                    _commands(snapshot)


def _commands(snapshot: Snapshot) -> None:
    """What the advice comes to in the terminal."""
    if (snapshot.frame["state"] == "running").any():
        command(f'tuner stop {snapshot.name} --reason "gain below noise"', "Stop the search")
    again = "--set study.repeats='{top: 3, seeds: 3}'"
    command(f"python -m tuner.study YAML {again}", "Run the best again, with the study's own YAML")


def _history(snapshot: Snapshot) -> None:
    """The picture is written before the widgets above it: what draws it is the most that a browser has to fetch."""
    st.subheader("Loss at equal budget", anchor=False)
    milestones, total = list(range(snapshot.milestones, 0, -1)), snapshot.milestones
    above, plot = st.container(horizontal=True, vertical_alignment="bottom"), st.container()
    with plot:
        _plot(snapshot, link.peek(AXES, "axis", "tokens"), link.peek(milestones, "milestone", total))
    with above:
        link.choice("Across", AXES, "axis", "tokens", _axis_word)
        budget = partial(budget_at, snapshot.record)
        link.choice("At", milestones, "milestone", total, budget, wide=total > 4)


def _plot(snapshot: Snapshot, axis: str, milestone: int) -> None:
    frame = snapshot.frame
    whole = milestone == snapshot.milestones
    points = best_so_far(frame, cast(Axis, axis), None if whole else milestone)
    shown = points.merge(frame[["number", "last"]], on="number", how="left")
    if whole:  # a pruned trial stands where it stopped
        shown["value"] = shown["value"].fillna(shown["last"])
    shown = shown.dropna(subset=["value"])
    if shown.empty:
        st.text(f"No trial has reached {budget_at(snapshot.record, milestone)} yet; choose an earlier milestone.")
        return
    best = points["best"].dropna()
    metric = snapshot.record.metric
    words = f"{metric} of {len(shown)} finished trials across {progress.AXES[axis]}; " + (
        f"the best fell from {number(best.iloc[0])} to {number(best.iloc[-1])}." if len(best) else "no best yet."
    )
    picture(progress.history(shown, snapshot.band, axis, metric, theme()), words)
    hint = "▲ stands at the last loss of a pruned trial, which never counts as best. " if whole else ""
    st.caption(
        f"━ best so far, ▒ seed noise ±{snapshot.band:.2g}{' (assumed)' if snapshot.noise.assumed else ''}. {hint}"
        f"Points above the picture's top are drawn at its edge. {history_left_out(shown)}"
    )
    data_behind(shown[["x", "number", "state", "value", "best"]])


def _axis_word(axis: str) -> str:
    return "FLOPs" if axis == "flops" else axis.capitalize()


def _again(snapshot: Snapshot, found: list[Standing]) -> None:
    """The best settings run again with new seeds: who is the best, and how sure that is."""
    st.subheader("The best again, with new seeds", anchor=False)
    table = pd.DataFrame(
        {
            "trial": [one.first for one in found],
            "first": [snapshot.record.find(one.first).value for one in found],
            "again": [one.mean for one in found],
            "seeds": [len(one.values) for one in found],
            "best": [100 * one.probability for one in found],
            "word": ["leads" if i == 0 else "tie" if one.ties else "behind" for i, one in enumerate(found)],
        }
    )
    config = {
        "trial": st.column_config.NumberColumn("Settings of trial", width="small"),
        "first": loss_column("First run", "why it was chosen, so it flatters"),
        "again": loss_column("Mean of the others", "of the seeds that followed"),
        "seeds": st.column_config.NumberColumn("Seeds", width="small"),
        "best": st.column_config.ProgressColumn("Is the best of them", format="%.0f %%", min_value=0, max_value=100),
        "word": st.column_config.TextColumn(""),
    }
    top = found[0]
    words = f"The settings of trial {top.first} lead with {number(top.mean)}, the best with {top.probability:.0%}."
    st.dataframe(table, hide_index=True, width="stretch", column_config=config, alt=words)
    st.caption(f"{words} The trial to ship is {top.best}.")


def _running(snapshot: Snapshot) -> None:
    """Each running trial with its last loss against the median of the others at that milestone."""
    frame = snapshot.frame
    running = frame[frame["state"] == "running"]
    st.subheader("Running now", anchor=False)
    if running.empty:
        queued = int((frame["state"] == "queued").sum())
        st.text(f"Nothing is running{f'; {queued} trials wait for a worker' if queued else ''}.")
        st.caption("The same command goes on where the study stopped.")
        return
    rows = []
    for row in running.head(RUNNING).to_dict("records"):
        k = int(row["reached"])
        median = frame[f"m.{k}"].median() if k else float("nan")
        curve = [float(row[f"m.{i}"]) for i in range(1, k + 1) if pd.notna(row[f"m.{i}"])]
        rows.append({"trial": row["number"], "curve": curve, "loss": row["last"], "median": median, "at": k})
    table = pd.DataFrame(rows)
    st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        placeholder="–",
        column_config={
            "trial": st.column_config.NumberColumn("Trial", width="small"),
            "curve": st.column_config.LineChartColumn("Curve"),
            "loss": st.column_config.NumberColumn("Loss", format="%.4f"),
            "median": st.column_config.NumberColumn("Median there", format="%.4f"),
            "at": st.column_config.NumberColumn("Milestone", help=f"of {snapshot.milestones}", width="small"),
        },
        alt=f"{len(running)} running trials with their last loss and the median of all trials at that milestone",
    )
    if len(running) > RUNNING:
        st.caption(f"{len(running) - RUNNING} more are running.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        control.button(control.STOP, control.Stop(snapshot.name), "Stop the search…", ":material/stop_circle:")
        chosen = st.selectbox("Trial", running["number"].tolist(), key=f"prune:{snapshot.name}", width=110)
        control.button(
            control.PRUNE, control.Prune(snapshot.name, int(chosen)), f"Prune trial {chosen}…", ":material/content_cut:"
        )


def _funnel(snapshot: Snapshot) -> None:
    table = funnel(snapshot.frame, snapshot.milestones)
    st.subheader("How far trials came", anchor=False)
    pairs = zip(table["reached"], table["pruned"], strict=True)
    words = [f"{int(reached)}" + (f", {int(pruned)} pruned" if pruned else "") for reached, pruned in pairs]
    table = table.assign(budget=[budget_at(snapshot.record, int(k)) for k in table["milestone"]], words=words)
    reached = table["reached"]
    alt = f"{int(reached.iloc[0])} trials reached the first milestone, {int(reached.iloc[-1])} the full budget."
    picture(progress.funnel(table, theme()), alt)
    data_behind(table[["budget", "reached", "pruned"]])


draw()
