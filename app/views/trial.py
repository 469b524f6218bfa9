"""Trial: what happened in this run, and can it be shipped? Reached by a link that names a study and a trial."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
import yaml

from app import link, shipping, source
from app.charts import lines, matrix
from app.dialogs import control
from app.dialogs import promotion as ceremony
from app.page import study_page, theme
from app.parts import ago, cards, data_behind, look, note, number, picture, plain
from app.source import Snapshot
from tuner.analysis.study.frame import budget_at
from tuner.analysis.study.live import headline
from tuner.analysis.table import trained_as
from tuner.analysis.trials.confusion import Confusion, confusion
from tuner.analysis.trials.curves import samples
from tuner.analysis.words import count, duration
from tuner.spec.dimensions.fields import write_point
from tuner.spec.errors import TunerError

FIELDS = 25
"""Classes that a picture has room for; the table below it has all."""

TRIALS, COMPARE = (str(Path(__file__).with_name(name)) for name in ("trials.py", "compare.py"))


def draw() -> None:
    snapshot = study_page("Trial", "What happened in this run, and can it be shipped?")
    if snapshot is None:
        return
    chosen = _chosen(snapshot)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        numbers = [int(one) for one in snapshot.frame["number"]]
        st.selectbox(
            "Trial",
            numbers,
            index=numbers.index(chosen),
            key=f"trial:{snapshot.name}:{chosen}",
            on_change=_go,
            args=(f"trial:{snapshot.name}:{chosen}",),
            width=120,
        )
        back = {"study": snapshot.name}
        st.page_link(TRIALS, label="Back to trials", icon=":material/arrow_back:", query_params=back)
        best = _best(snapshot)
        if best is not None and best != chosen:
            ids = {"study": snapshot.name, "compare": f"{best},{chosen}"}
            st.page_link(COMPARE, label=f"Compare with the best, {best}", icon=":material/compare:", query_params=ids)
    trial = snapshot.record.find(chosen)
    row = snapshot.frame.set_index("number").loc[chosen]
    _story(snapshot, trial, row)
    left, right = st.columns([3, 2])
    with left.container(border=True, height="stretch"):
        _curve(snapshot, chosen)
    with right.container(border=True, height="stretch"):
        shipping.panel(snapshot, trial)
    left, right = st.columns(2)
    with left.container(border=True, height="stretch"):
        _config(snapshot, trial)
    seen = confusion(snapshot.record, chosen, source.RUNS)
    with right.container(border=True, height="stretch"):
        if snapshot.record.task == "classify":
            _confusion(snapshot, seen)
        else:
            _samples(snapshot, chosen)
    if seen is not None:
        with st.container(border=True):
            _classes(seen)
    elif snapshot.record.task == "generate":
        with st.container(border=True):
            shipping.writing(snapshot, trial)
    with st.expander("Every fact of this trial"):
        facts = pd.DataFrame({"fact": list(trial.facts), "value": [str(one) for one in trial.facts.values()]})
        st.dataframe(facts, hide_index=True, alt="Every recorded fact of this trial")
    ceremony.dialogs()
    control.dialogs()


def _go(key: str) -> None:
    link.write(trial=st.session_state[key])


def _best(snapshot: Snapshot) -> int | None:
    return headline(snapshot.record, snapshot.frame, snapshot.noise)["best_number"]


def _chosen(snapshot: Snapshot) -> int:
    """The trial of the link; the best, else the first, with a sentence where the link names none of this study."""
    known, asked = set(snapshot.frame["number"]), link.text("trial")
    if asked is not None and link.number("trial") in known:
        return int(asked)
    if asked is not None:
        with contextlib.suppress(TunerError):  # the store is away: what is on the screen is all there is
            if link.number("trial") in set(source.fresh(snapshot.name).frame["number"]):
                source.show_newest(snapshot.name)  # it began after what is on the screen was read
                st.rerun()
    best = _best(snapshot)
    chosen = int(snapshot.frame["number"].iloc[0]) if best is None else best
    if asked is not None:
        note(
            f"The link asks for trial “{asked[:40]}”; this study has {min(known)} to {max(known)}. "
            f"This is trial {chosen}.",
            "link_off",
        )
    link.write(trial=chosen)
    return chosen


def _story(snapshot: Snapshot, trial: Any, row: Any) -> None:
    """What happened, in a line of words and six numbers."""
    state = look(trial.state)
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"### Trial {trial.number}", width="content")
            st.markdown(f":{state.colour}-badge[{state.icon} {state.word}]", width="content")
            if source.champion(snapshot) == trial.number:
                st.badge("champion", icon=":material/trophy:", color="blue")
            st.text(trial.reason or "no reason recorded", width="stretch")
        when = f"Started {ago(trial.started)}" + (f", ended {ago(trial.ended)}" if trial.ended else "")
        seed = int(row["seed"]) if pd.notna(row["seed"]) else "–"
        st.caption(f"{when} · study {plain(snapshot.name)} · seed {seed} · {_place(snapshot, row)}")
    reached = int(row["reached"])
    budget = budget_at(snapshot.record, reached) if reached else "no milestone reached"
    cards(
        [
            (
                f"{snapshot.record.metric} @ {budget}",
                number(row["last"] if pd.isna(row["value"]) else row["value"]),
                f"milestone {reached} of {snapshot.milestones}",
            ),
            ("Tokens", _si(row["tokens"]), f"{_si(row['steps'])} steps"),
            ("Training time", "–" if pd.isna(row["seconds"]) else duration(float(row["seconds"])), _speed(row)),
            ("Compute", _si(row["flops"], "FLOP"), f"precision {trial.facts.get('precision', 'unknown')}"),
            ("Parameters", _si(row["parameters"]), str(trial.facts.get("device_kind", ""))),
            ("Generalization gap", _gap(trial.facts.get("generalization_gap")), "above training loss"),
        ]
    )


def _place(snapshot: Snapshot, row: Any) -> str:
    """Where it stands beside the one to ship."""
    told = headline(snapshot.record, snapshot.frame, snapshot.noise)
    if told["best"] is None or pd.isna(row["value"]):
        return "not finished: not ranked at the full budget"
    gap = row["value"] - told["best"]
    if row.name == told["best_number"]:
        return "the best of this study"
    if gap <= 0:
        return f"lower by no more than luck: run again, trial {told['best_number']} stood best"
    return f"{number(gap)} behind the best" + (", a tie" if gap <= snapshot.band else "")


def _gap(value: Any) -> str:
    return f"{value:+.3f}" if isinstance(value, float) else "–"


def _si(value: Any, unit: str = "") -> str:
    return "–" if pd.isna(value) else f"{count(float(value))}{unit}"


def _speed(row: Any) -> str:
    if pd.isna(row["tokens"]) or pd.isna(row["seconds"]) or not row["seconds"]:
        return ""
    return f"{count(row['tokens'] / row['seconds'])} tokens a second"


def _curve(snapshot: Snapshot, chosen: int) -> None:
    """Validation loss against the best trial and the median at each milestone."""
    st.subheader("Against the best, the champion and the median", anchor=False)
    frame, total = snapshot.frame, snapshot.milestones
    best = _best(snapshot)
    crowned = source.champion(snapshot)
    by_number = frame.set_index("number")
    wanted = [one for one in dict.fromkeys((chosen, best, crowned)) if one in by_number.index]
    roles = {best: "best", crowned: "champion", chosen: f"trial {chosen}"}
    rows = [
        {"label": roles[one], "milestone": k, "loss": by_number.loc[one, f"m.{k}"]}
        for one in wanted
        for k in range(1, total + 1)
    ]
    table = pd.DataFrame(rows).dropna()
    if table[table["label"] == f"trial {chosen}"].empty:
        st.text("This trial has no result at a milestone yet, so there is no curve.")
        return
    median = pd.DataFrame(
        {"label": "median", "milestone": k, "loss": frame[f"m.{k}"].median()} for k in range(1, total + 1)
    ).dropna()
    last = table[table["label"] == f"trial {chosen}"].iloc[-1]
    middle = median.loc[median["milestone"] == last["milestone"], "loss"].iloc[0]
    side = "below" if last["loss"] < middle else "above"
    words = f"At milestone {int(last['milestone'])} trial {chosen} stands at {number(last['loss'])}, {side} the median."
    chart = lines.curves(table, "milestone", "loss", snapshot.record.metric, theme(), faint=median)
    picture(chart, words)
    st.caption(f"{words} Milestones are equal shares of the budget; {total} is {budget_at(snapshot.record, total)}.")
    both = pd.concat([table, median])
    data_behind(both.pivot(index="milestone", columns="label", values="loss").reset_index())


def _config(snapshot: Snapshot, trial: Any) -> None:
    st.subheader("Settings", anchor=False)
    point = dict(trial.point)
    st.caption("What the search chose")
    st.code(yaml.safe_dump(point, sort_keys=False).strip() if point else "nothing: no space", language=None)
    try:
        whole = trained_as(snapshot.record, trial).as_data()
    except (TunerError, ValueError) as error:
        note(f"The whole trial cannot be resolved by this version of tuner: {str(error).splitlines()[0]}", "warning")
        return
    with st.container(horizontal=True):
        again = control.Enqueue(snapshot.name, tuple(write_point(point)))
        control.button(control.ENQUEUE, again, "Enqueue an edited copy…", ":material/content_copy:")
        if trial.state == "running":
            control.button(
                control.PRUNE, control.Prune(snapshot.name, trial.number), "Prune it…", ":material/content_cut:"
            )
    with st.expander("The whole trial as YAML"):
        st.code(yaml.safe_dump({"trial": whole}, sort_keys=False), language=None, height=420)
    st.download_button(
        "Trial as JSON",
        json.dumps({"study": snapshot.name, "number": trial.number, "trial": whole}, indent=1),
        f"{snapshot.name}-{trial.number}.json",
        "application/json",
        icon=":material/download:",
        on_click="ignore",
    )


def _confusion(snapshot: Snapshot, seen: Confusion | None) -> None:
    st.subheader("What it took for what", anchor=False)
    if seen is None:
        st.text("No answers are kept: the trial has reached no milestone, or its folder is elsewhere.")
        return
    words = seen.in_words(budget_at(snapshot.record, seen.milestone))
    if len(seen.classes) <= FIELDS:
        picture(matrix.confusion(seen.pairs, theme()), words)
    st.caption(f"{plain(words)}.")
    counts = seen.pairs["count"].to_numpy().reshape(len(seen.classes), -1)
    data_behind(pd.DataFrame(counts, seen.classes["class"], seen.classes["class"]), named=True)


def _classes(seen: Confusion) -> None:
    st.subheader("How it does on each class", anchor=False)
    _shares(seen.classes, "Precision, recall and F1 of each class")
    if not seen.auxiliary.empty:
        st.subheader("How it does on its auxiliary labels", anchor=False)
        _shares(seen.auxiliary, "Accuracy and F1 of each auxiliary label")


def _shares(table: pd.DataFrame, said: str) -> None:
    kinds = ("precision", "recall", "f1", "accuracy")
    columns = {name: st.column_config.NumberColumn(name, format="percent") for name in kinds}
    st.dataframe(table, hide_index=True, width="stretch", column_config=columns, alt=said)


def _samples(snapshot: Snapshot, chosen: int) -> None:
    st.subheader("What it wrote", anchor=False)
    try:
        table = samples(snapshot.record, chosen, source.RUNS)
    except TunerError as error:
        st.text(str(error))
        return
    if table.empty:
        st.text("No sample is kept: the trial has reached no milestone, or its folder is elsewhere.")
        return
    steps = sorted({int(k) for k in table["milestone"]}, reverse=True)
    at = link.choice("At", steps, "sample", steps[0], lambda k: budget_at(snapshot.record, k), wide=True)
    for text in table.loc[table["milestone"] == at, "text"].head(3):
        st.code(str(text), language=None, wrap_lines=True)


draw()
