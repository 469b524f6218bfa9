"""Trials: which are best, and is the difference real? A leaderboard at one budget, with ties, filters and a tray."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app import link, tray
from app.charts import front
from app.filters import kept, widgets
from app.page import study_page, theme, unfinished
from app.parts import data_behind, loss_column, number, picture, plain, setting_column, short_names, state_words
from app.source import Snapshot
from tuner.analysis.prefixes import truncated
from tuner.analysis.study.frame import budget_at
from tuner.analysis.study.ranking import hidden, leaderboard
from tuner.analysis.trials.pareto import COSTS, SAID, bargain, hypervolume, pareto, unweighed
from tuner.analysis.trials.sampling import front_left_out

COMPARE, TRIAL = (str(Path(__file__).with_name(name)) for name in ("compare.py", "trial.py"))


def draw() -> None:
    snapshot = study_page("Trials", "Which trials are best, and is the difference real?")
    if snapshot is None or unfinished(snapshot):
        return
    record, k = snapshot.record, snapshot.milestones
    with st.container(horizontal=True, vertical_alignment="bottom"):
        milestone = link.choice(
            "Compare at",
            list(range(k, 0, -1)),
            "milestone",
            k,
            lambda one: f"{budget_at(record, one)}{' (full)' if one == k else ''}",
            wide=True,
        )
        chosen = widgets(snapshot)
    at = None if milestone == k else milestone
    board = leaderboard(snapshot.frame, at, snapshot.noise)
    found, blame = kept(board, chosen)
    if found.empty:
        _none(snapshot, board, blame, milestone)
        return
    if chosen:  # who ties with whom is asked of those that are left
        found = leaderboard(snapshot.frame[snapshot.frame["number"].isin(found["number"])], at, snapshot.noise)
    if at is not None and (warning := truncated(record.spec)):
        st.caption(warning)
    _verdict(found, snapshot, milestone)
    _table(found, snapshot, milestone)
    st.caption(_hiding(snapshot, board, found, at))
    _tray(snapshot)
    _downloads(found, snapshot)
    with st.container(border=True):
        _against_cost(snapshot)


def _verdict(found: pd.DataFrame, snapshot: Snapshot, milestone: int) -> None:
    """The answer in a sentence."""
    first = found.iloc[0]
    ties = int((found["tie"] == first["tie"]).sum())
    said = (
        f"Trial **{int(first['number'])}** leads alone with **{number(first['value_at'])}**"
        if ties == 1
        else f"**{ties} trials tie** for the lead, from **{number(first['value_at'])}** on"
    )
    budget = plain(budget_at(snapshot.record, milestone))
    st.markdown(f"{said} at {budget}: differences under ±{snapshot.band:.2g} are no more than {snapshot.noise.basis}.")


_OWN = ("rank", "number", "state", "value", "gap", "parameters", "tokens", "seconds")
"""Columns of the table itself, and what they are called."""


def _table(found: pd.DataFrame, snapshot: Snapshot, milestone: int) -> None:
    paths = [name.removeprefix("point.") for name in found.columns if name.startswith("point.")]
    names = short_names(paths, _OWN)
    sizes = found.groupby("tie")["number"].transform("count")
    ranks = [f"{tie}" if size == 1 else f"{tie} =" for tie, size in zip(found["tie"], sizes, strict=True)]
    shown = pd.DataFrame(
        {
            "rank": ranks,
            "number": found["number"],
            "state": found["state"].map(state_words),
            "value": found["value_at"],
            "gap": found["gap"],
            **{names[path]: found[f"point.{path}"] for path in paths},
            "parameters": found["parameters"],
            "tokens": found["tokens"],
            "seconds": found["seconds"],
        }
    ).reset_index(drop=True)
    config: dict[str, Any] = {
        "rank": st.column_config.TextColumn("Rank", help="= is a tie: seeds alone differ as much", width="small"),
        "number": st.column_config.NumberColumn("Trial", width="small", pinned=True),
        "state": st.column_config.TextColumn("State", width="small"),
        "value": loss_column(snapshot.record.metric, f"at {budget_at(snapshot.record, milestone)}"),
        "gap": st.column_config.NumberColumn("Gap", format="%.4f", help="to the best at this budget"),
        "parameters": st.column_config.NumberColumn("Parameters", format="compact"),
        "tokens": st.column_config.NumberColumn("Tokens", format="compact"),
        "seconds": st.column_config.NumberColumn("Seconds", format="%.0f"),
    }
    config |= {names[path]: setting_column(names[path], found[f"point.{path}"]) for path in paths}
    ids = [int(one) for one in found["number"]]
    # a table of other rows is another widget: a tick never comes to mean another trial
    key = f"board:{snapshot.name}:{hashlib.sha256(repr(ids).encode()).hexdigest()[:12]}"
    picked = tray.read(snapshot)
    st.dataframe(
        shown,
        key=key,
        hide_index=True,
        width="stretch",
        height="content" if len(shown) <= 15 else 560,
        column_config=config,
        selection_mode="multi-row",
        on_select=partial(tray.take, key, tuple(ids), snapshot.name),
        selection_default={"selection": {"rows": [row for row, one in enumerate(ids) if one in picked]}},
        alt=f"Leaderboard of {len(shown)} trials, best first; the first is trial {ids[0]}",
    )


def _hiding(snapshot: Snapshot, board: pd.DataFrame, found: pd.DataFrame, at: int | None) -> str:
    """What this view does not show."""
    said = [hidden(snapshot.frame, at)] if hidden(snapshot.frame, at) else []
    if len(found) < len(board):
        said.append(f"{len(board) - len(found)} more hidden by the filters")
    return plain(" · ".join(said)) if said else f"All {len(found)} trials are shown."


def _tray(snapshot: Snapshot) -> None:
    """What is ticked, by id, and where to go with it."""
    picked = tray.read(snapshot)
    with st.container(border=True, horizontal=True, vertical_alignment="center", gap="small"):
        if not picked:
            st.markdown(":gray[Tick trials to compare them; one to open it.]", width="content")
            return
        st.markdown(f"Picked: **{', '.join(map(str, picked))}**", width="content")
        ids = ",".join(map(str, picked))
        if len(picked) == 1:
            link_to = {"study": snapshot.name, "trial": ids}
            st.page_link(TRIAL, label=f"Open trial {ids}", icon=":material/description:", query_params=link_to)
        else:
            link_to = {"study": snapshot.name, "compare": ids}
            st.page_link(COMPARE, label=f"Compare {len(picked)}", icon=":material/compare:", query_params=link_to)
        st.button("Clear", icon=":material/close:", type="tertiary", on_click=tray.clear, args=(snapshot.name,))


def _downloads(found: pd.DataFrame, snapshot: Snapshot) -> None:
    with st.container(horizontal=True):
        st.download_button(
            "CSV",
            lambda: found.to_csv(index=False).encode(),
            f"{snapshot.name}-trials.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
            help="The trials above with every column, in full precision",
        )
        st.download_button(
            "JSON",
            lambda: found.to_json(orient="records", date_format="iso", double_precision=15).encode(),
            f"{snapshot.name}-trials.json",
            "application/json",
            icon=":material/download:",
            on_click="ignore",
            help="The trials above with every column, in full precision",
        )


def _against_cost(snapshot: Snapshot) -> None:
    """Every complete trial by its loss and what it cost; the filters above do not reach here."""
    st.subheader("Loss against cost", anchor=False)
    wanted = snapshot.record.spec["study"].get("against") or COSTS[0]
    cost = link.choice("Cost", COSTS, "cost", wanted, lambda one: SAID[one].capitalize())
    table = pareto(snapshot.frame, cost, snapshot.band)
    if sentence := unweighed(table, cost):
        st.text(sentence)
        return
    on_front = int(table["on_front"].sum())
    none = f"No trial within ±{snapshot.band:.2g} of the best is clearly cheaper by its {SAID[cost]}."
    st.text(bargain(table, cost, snapshot.band) or none)
    if (share := hypervolume(table)) is not None:
        st.text(f"Hypervolume: {share:.0%} of the box between the best and the worst in loss and {SAID[cost]}.")
    words = f"{len(table)} complete trials by {SAID[cost]}; {on_front} of them are beaten by none in loss and cost."
    picture(front.pareto(table, cost, snapshot.record.metric, theme()), words)
    st.caption(
        "━ the least loss for its cost. ▲ is better than a cheaper trial by no more than noise. "
        f"Points above the picture's top are drawn at its edge. {front_left_out(table)}"
    )
    data_behind(table)


def _none(snapshot: Snapshot, board: pd.DataFrame, blame: str, milestone: int) -> None:
    with st.container(border=True):
        if board.empty:
            st.subheader("No trial came so far", anchor=False)
            st.text(f"None has reached {budget_at(snapshot.record, milestone)}; choose an earlier milestone above.")
            return
        st.subheader("The filters leave no trial", anchor=False)
        st.text(blame)
        st.button("Drop all filters", on_click=_drop, args=(snapshot.name,), icon=":material/filter_alt_off:")


def _drop(study: str) -> None:
    for key in [key for key in st.session_state if str(key).startswith(f"filter:{study}:")]:
        del st.session_state[key]
    link.write(states=None, where=None)


draw()
