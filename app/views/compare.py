"""Compare: why is this one better? Curves, only the settings that differ, deltas against a base, samples, cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app import acting, link, prompt, source, tray
from app.charts import lines
from app.page import study_page, theme, unfinished
from app.parts import data_behind, empty, note, number, picture, plain, problem, state_words
from app.source import Snapshot
from tuner.analysis.study.frame import budget_at
from tuner.analysis.trials.compare import comparable, deltas, differences
from tuner.analysis.trials.curves import curves, samples
from tuner.analysis.words import count
from tuner.spec.errors import TunerError

TRIAL = str(Path(__file__).with_name("trial.py"))
AXES = {"tokens": "Tokens", "step": "Steps", "seconds": "Time", "flops": "FLOPs"}


def draw() -> None:
    snapshot = study_page("Compare", "Why is this one better?")
    if snapshot is None or unfinished(snapshot):
        return
    if gone := tray.unknown(snapshot):
        note(f"The link names trials that this study does not have: {', '.join(map(str, gone))}.", "link_off")
    numbers, base = _choose(snapshot)
    if len(numbers) < 2:
        empty(
            "Pick at least two trials",
            "Choose them above, or tick them on the page Trials. Two to six can be read at a glance.",
        )
        return
    refused = comparable(snapshot.record, numbers)
    if refused:
        problem(refused, "Their losses do not compare, so no difference is computed")
    with st.container(border=True):
        _curves(snapshot, numbers)
    left, right = st.columns(2)
    with left.container(border=True, height="stretch"):
        _differences(snapshot, numbers, base)
    with right.container(border=True, height="stretch"):
        if not refused:
            _deltas(snapshot, numbers, base)
    if snapshot.record.task == "classify":
        return
    with st.container(border=True):
        _samples(snapshot, numbers)
    _ask(snapshot, numbers)


def _choose(snapshot: Snapshot) -> tuple[list[int], int]:
    """The trials and the base, by id, in the link."""
    frame = snapshot.frame
    picked = tray.read(snapshot)
    states = dict(zip(frame["number"], frame["state"], strict=True))
    options = [int(one) for one in frame.loc[frame["reached"] > 0, "number"]]
    options += [one for one in picked if one not in options]
    if not picked:
        ranked = frame.dropna(subset=["value"]).sort_values("value")["number"].head(2)
        options = [int(one) for one in ranked] + [one for one in options if one not in set(ranked)]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        key = f"compare:{snapshot.name}"
        if st.session_state.get(key) != picked:  # the link or the leaderboard chose since
            st.session_state[key] = picked
        st.multiselect(
            "Trials",
            options,
            key=key,
            format_func=lambda one: f"{one} {state_words(states[one])}",
            max_selections=tray.MOST,
            on_change=_keep,
            args=(key, snapshot.name),
            placeholder="Choose trials",
        )
        if len(picked) < 2:
            return picked, picked[0] if picked else -1
        base = link.choice("Base", picked, "base", picked[0], lambda one: f"trial {one}", wide=True)
    return picked, base


def _keep(key: str, study: str) -> None:
    tray.keep(study, list(st.session_state[key]))


def _curves(snapshot: Snapshot, numbers: list[int]) -> None:
    st.subheader("Curves", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        axis = link.choice("Across", list(AXES), "axis", "tokens", lambda one: AXES[one])
        which = link.choice("Loss", ["validation", "training"], "loss", "validation", str.capitalize)
    column = snapshot.record.metric if which == "validation" else "train_loss"
    try:
        table = curves(snapshot.record, numbers, source.RUNS)
    except TunerError as error:
        st.text(str(error))
        return
    rows = table.dropna(subset=[axis, column]) if column in table else table.iloc[0:0]
    if rows.empty:
        st.text(f"No {which} curve is kept for these trials: their folders are elsewhere.")
        return
    rows = rows.assign(label=rows["number"].map(lambda one: f"trial {one}"))
    ends = rows.sort_values(axis).groupby("number").tail(1).sort_values(column)
    words = (
        f"{column} of {len(ends)} trials across {AXES[axis].lower()}; "
        f"trial {int(ends['number'].iloc[0])} ends lowest at {number(ends[column].iloc[0])}."
    )
    picture(lines.curves(rows, axis, column, column, theme()), words)
    missing = [one for one in numbers if one not in set(rows["number"])]
    st.caption(words + (f" No curve is kept for {', '.join(map(str, missing))}." if missing else ""))
    data_behind(rows[["number", axis, column]])


def _differences(snapshot: Snapshot, numbers: list[int], base: int) -> None:
    st.subheader("What differs", anchor=False)
    table = differences(snapshot.record, numbers, base)
    if table.empty:
        st.text("Nothing that is recorded: the same settings, perhaps with other seeds.")
        return
    shown = table.astype(object).where(table.notna(), "–").map(_cell)
    config = {one: st.column_config.TextColumn(f"Trial {one}") for one in shown.columns if one != "path"}
    config["path"] = st.column_config.TextColumn("", pinned=True)
    st.dataframe(
        shown,
        hide_index=True,
        width="stretch",
        column_config=config,
        alt=f"{len(table)} settings and facts that differ; base is trial {base}",
    )
    st.caption(f"Equal settings are left out. Base: trial {base}.")


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if abs(value) >= 10_000:
        return count(value)
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _deltas(snapshot: Snapshot, numbers: list[int], base: int) -> None:
    st.subheader("How much better", anchor=False)
    table = deltas(snapshot.frame[snapshot.frame["number"].isin(numbers)], base)
    table = table.set_index("number").loc[[base, *(one for one in numbers if one != base)]].reset_index()
    steps = sorted((name for name in table.columns if str(name).startswith("m.")), key=lambda name: int(name[2:]))
    table = table[["number", "value", *steps[:-1]]]  # the last milestone is the full budget
    config: dict[str, Any] = {"number": st.column_config.NumberColumn("Trial", pinned=True)}
    for name in table.columns:
        if name == "value" or str(name).startswith("m."):
            label = "full budget" if name == "value" else budget_at(snapshot.record, int(str(name)[2:]))
            config[str(name)] = st.column_config.NumberColumn(label, format="%+.4f")
    st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        placeholder="–",
        column_config=config,
        alt=f"Differences to trial {base}",
    )
    others = table.loc[table["number"] != base, "value"].dropna()
    better = int((others < -snapshot.band).sum())
    if pd.isna(table["value"].iloc[0]):
        said = f"Trial {base} did not come to the full budget: compare at a milestone."
    elif others.empty:
        said = "None of the others came to the full budget: compare at a milestone."
    else:
        said = f"At the full budget {better} of {len(others)} beat it by more than noise (±{snapshot.band:.2g})."
    st.caption(plain(f"Below zero is better than trial {base}. {said}"))


def _ask(snapshot: Snapshot, numbers: list[int]) -> None:
    """The same prompt to each checkpoint that is still on this disk."""
    facts = {one: acting.checkpoint_of(snapshot.record.find(one).facts) for one in numbers[:4]}
    there = {one: folder for one, folder in facts.items() if folder is not None}
    if there:
        with st.container(border=True):
            st.subheader("Ask them to write", anchor=False)
            prompt.box(f"{snapshot.name}:{','.join(map(str, there))}", there)


def _samples(snapshot: Snapshot, numbers: list[int]) -> None:
    """The same prompt, seed and temperature for all: what a trial wrote at its milestones."""
    st.subheader("What they write", anchor=False)
    found = {}
    for one in numbers:
        try:
            table = samples(snapshot.record, one, source.RUNS)
        except TunerError:
            table = pd.DataFrame()
        if not table.empty:
            found[one] = table
    if not found:
        st.text("No samples are kept for these trials: their folders are elsewhere, or none has reached a milestone.")
        return
    reached = sorted({int(k) for table in found.values() for k in table["milestone"]}, reverse=True)
    at = link.choice(
        "At",
        ["last", *map(str, reached)],
        "sample",
        "last",
        lambda k: "the last each reached" if k == "last" else budget_at(snapshot.record, int(k)),
        wide=True,
    )
    st.caption("Same prompt, seed and temperature for all.")
    shown = list(found)[:4]
    for start in range(0, len(shown), 2):
        for column, one in zip(st.columns(2), shown[start : start + 2], strict=False):
            table = found[one]
            last = int(table["milestone"].max()) if at == "last" else int(at)
            texts = table.loc[table["milestone"] == last, "text"]
            text = str(texts.iloc[0]) if len(texts) else "(it did not come so far)"
            with column:
                link_to = {"study": snapshot.name, "trial": str(one)}
                with st.container(horizontal=True, vertical_alignment="center"):
                    st.page_link(TRIAL, label=f"Trial {one}", query_params=link_to)
                    st.caption(f"@ {plain(budget_at(snapshot.record, last))}")
                st.code(text, language=None, wrap_lines=True)


draw()
