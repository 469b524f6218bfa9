"""Parameters: what should I change in the space? Slices with one brush, importance, edges, and the new YAML."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app import brush, link, source, tray
from app.charts import dimensions
from app.dialogs import control
from app.page import study_page, theme, unfinished
from app.parts import data_behind, note, number, picture, short_names
from app.source import Snapshot
from tuner.analysis.study.edges import NEEDED, edges, narrowed
from tuner.analysis.study.importance import ENOUGH, disagree, signs, way, witnesses
from tuner.analysis.study.ranking import by_path, leaderboard
from tuner.analysis.trials.sampling import board_left_out
from tuner.spec.dimensions.fields import write_point
from tuner.spec.errors import TunerError

COMPARE = str(Path(__file__).with_name("compare.py"))
MOST = 9  # slices drawn at once, the most important first


def draw() -> None:
    snapshot = study_page("Parameters", "What should I change in the space?")
    if snapshot is None or unfinished(snapshot):
        return
    paths = [name.removeprefix("point.") for name in snapshot.frame.columns if name.startswith("point.")]
    if not paths:
        st.text("This study searches nothing: its space is empty, so all trials differ in their seed alone.")
        return
    complete = witnesses(snapshot.frame)
    shares = _shares(snapshot) if complete >= ENOUGH else {}
    order = [path for path in shares if path in paths] + [path for path in paths if path not in shares]
    left, right = st.columns(2)
    with left.container(border=True, height="stretch"):
        _importance(snapshot, shares, complete)
    with right.container(border=True, height="stretch"):
        _advice(snapshot, complete)
    with st.container(border=True):
        _slices(snapshot, order)
    if len(paths) > 1:
        with st.container(border=True):
            _pair(snapshot, order)
    control.dialogs()


def _shares(snapshot: Snapshot) -> dict[str, float]:
    try:
        return dict(source.ped_anova(snapshot))
    except TunerError:  # the store is away, which stands above
        return {}


def _importance(snapshot: Snapshot, shares: dict[str, float], complete: int) -> None:
    st.subheader("What moves the loss", anchor=False)
    if complete < ENOUGH:
        st.text(f"Importance is hidden: it needs {ENOUGH} complete trials, this study has {complete}.")
        return
    if not shares:
        st.text("Importance cannot be judged: no parameter is in every complete trial, or all losses are equal.")
        return
    names, directions = short_names(list(shares)), signs(snapshot.frame)
    table = pd.DataFrame(
        {
            "parameter": [names[path] for path in shares],
            "share": list(shares.values()),
            "words": [f"{share:.0%}" for share in shares.values()],
            "direction": [way(directions.get(path)) for path in shares],
        }
    )
    table["words"] = table["words"] + "  " + table["direction"]
    top = table.iloc[0]
    words = f"By PED-ANOVA {top['parameter']} matters most, {top['share']:.0%}: {top['direction']}."
    picture(dimensions.importance(table, theme()), words)
    st.caption(
        f"PED-ANOVA over {complete} complete trials: what sets the best tenth apart. Direction by rank correlation."
    )
    data_behind(table[["parameter", "share", "direction"]])
    asked = st.toggle("Ask fANOVA too", value=link.text("fanova") == "1", help="The slower second method")
    link.write(fanova="1" if asked else None)
    if asked:
        ready = source.fanova_shares(snapshot).done()
        st.fragment(_second, run_every=None if ready else 1.0)(snapshot, shares, ready)


def _second(snapshot: Snapshot, shares: dict[str, float], ready: bool) -> None:
    """fANOVA beside PED-ANOVA once its trees have grown, with a warning where another parameter is first there."""
    growing = source.fanova_shares(snapshot)
    if not growing.done():
        st.text("fANOVA grows its trees on a sample of the trials; it appears here by itself.")
        return
    if not ready:
        st.rerun(scope="app")  # so that nobody asks every second any more
    try:
        second = dict(growing.result())
    except TunerError as error:
        source.forget_fanova()
        st.text(str(error))
        return
    if not second:
        st.text("fANOVA cannot judge these trials: too few, or all losses are equal.")
        return
    if sentence := disagree(shares, second):
        note(sentence, "warning")
    names = short_names(list(second))
    table = pd.DataFrame(
        {
            "parameter": [names[path] for path in second],
            "share": list(second.values()),
            "words": [f"{share:.0%}" for share in second.values()],
        }
    )
    words = f"By fANOVA {table['parameter'].iloc[0]} matters most, {table['share'].iloc[0]:.0%}."
    picture(dimensions.importance(table, theme()), words)
    st.caption("fANOVA: the share of the loss's variance over the whole space.")


def _advice(snapshot: Snapshot, complete: int) -> None:
    """Edges that are hit, and the block of YAML that follows from them."""
    st.subheader("Where to look next", anchor=False)
    if not complete:
        st.text("Too early: no complete trial says anything about the edges of the space.")
        return
    if block := narrowed(snapshot.record, snapshot.frame):
        hit = edges(snapshot.record, snapshot.frame)
        for edge in hit:
            note(edge.sentence[:1].upper() + edge.sentence[1:], "open_in_full")
        if not hit:
            note("No edge is hit: the best trials lie inside the space.", "check")
        st.caption("The space around the best, widened where an edge is hit. Copy it into the YAML under a new name:")
        st.code(block, language=None)
    else:
        st.text(
            f"From {NEEDED} complete trials on, the edges that are hit and the space to search next stand here; there "
            f"are {complete}."
        )
    best = leaderboard(snapshot.frame, None, snapshot.noise)["number"]
    lines = write_point(snapshot.record.find(int(best.iloc[0])).point)
    control.button(control.ENQUEUE, control.Enqueue(snapshot.name, tuple(lines)), "Enqueue a point…", ":material/add:")


def _logs(snapshot: Snapshot) -> dict[str, bool]:
    space = snapshot.record.spec.get("space", {})
    return {path: bool(dimension.get("log")) for path, dimension in space.items() if isinstance(dimension, dict)}


def _board(snapshot: Snapshot) -> pd.DataFrame:
    """Complete trials; pruned ones have no value at the full budget and would mislead here."""
    return by_path(leaderboard(snapshot.frame, None, snapshot.noise))


def _slices(snapshot: Snapshot, order: list[str]) -> None:
    board, shown = _board(snapshot), order[:MOST]
    st.subheader("The loss over each parameter", anchor=False)
    if board.empty:
        st.text("No trial is complete yet; the pruned ones stand on the page Trials at the milestones they reached.")
        return
    table = board[["number", "state", "value", *shown]]
    best = board.iloc[0]
    words = (
        f"{snapshot.record.metric} of {len(board)} complete trials over {len(shown)} parameters; "
        f"the best is trial {int(best['number'])} at {number(best['value'])}."
    )
    held = brush.read(table)
    if held is not None:
        table = table.assign(inside=held.inside(table))
    _pictures(snapshot, table, shown, words)
    if held is not None:
        _held(snapshot, held, table)
    hidden = len(snapshot.frame) - len(board)
    st.caption(
        "Drag in one picture: the same trials stay bright in all, and in the link. "
        + (f"{hidden} trials without a value at the full budget are hidden. " if hidden else "")
        + (f"{len(order) - MOST} less important parameters are left out. " if len(order) > MOST else "")
        + board_left_out(table)
    )
    data_behind(table)


def _pictures(snapshot: Snapshot, table: pd.DataFrame, shown: list[str], words: str) -> None:
    """One a parameter, side by side; a phone puts them under one another."""
    columns, logs, metric = 2 if len(shown) in (2, 4) else 3, _logs(snapshot), snapshot.record.metric
    for start in range(0, len(shown), columns):
        for place, path in zip(st.columns(columns), shown[start : start + columns], strict=False):
            key = f"slice:{snapshot.name}:{path}"
            chart = dimensions.slice_of(table, path, logs.get(path, False), metric, theme(), brushed=True)
            with place:
                picture(chart, f"{words} Here over {path}.", key, partial(brush.take, key, path))


def _held(snapshot: Snapshot, held: brush.Brush, table: pd.DataFrame) -> None:
    """What the brush holds, and where to go with it."""
    inside = [int(one) for one in table.loc[table["inside"], "number"]]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(f"{len(inside)} of {len(table)} trials are in the brush on {held.path}.", width="content")
        if len(inside) > 1:
            ids = {"study": snapshot.name, "compare": ",".join(map(str, inside[: tray.MOST]))}
            label = f"Compare {'them' if len(inside) <= tray.MOST else f'the best {tray.MOST}'}"
            st.page_link(COMPARE, label=label, icon=":material/compare:", query_params=ids)
        st.button("Clear", key="no-brush", icon=":material/close:", type="tertiary", on_click=brush.clear)


def _pair(snapshot: Snapshot, order: list[str]) -> None:
    board = _board(snapshot)
    st.subheader("Two together", anchor=False)
    if board.empty:
        st.text("No trial is complete yet.")
        return
    names = short_names(order)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        across = link.choice("Across", order, "across", order[0], lambda one: names[one], wide=True)
        rest = [path for path in order if path != across]
        up = link.choice("Up", rest, "up", rest[0], lambda one: names[one], wide=True)
    table: Any = board[["number", "state", "value", across, up]].dropna(subset=[across, up])
    if table.empty:
        st.text(f"No complete trial has both {names[across]} and {names[up]}: they are never active together.")
        return
    best = board.iloc[0]
    words = f"{names[up]} over {names[across]}; the best, trial {int(best['number'])}, is the largest point."
    chart = dimensions.pair(table, across, up, _logs(snapshot), snapshot.record.metric, theme())
    picture(chart, words)
    st.caption(f"Large and strong is a low loss. {board_left_out(table)}")
    data_behind(table)


draw()
