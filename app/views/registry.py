"""Registry: what is live, who changed it, and how is it undone? Ledger and registry side by side, and the commands."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app import acting, link, source
from app.dialogs import promotion as ceremony
from app.dialogs.deed import begin
from app.parts import ago, command, empty, gate_rows, heading, note, number, plain, problem
from app.source import Books
from tuner.analysis.store import harmless
from tuner.promotion.ledger import Entry, Stage
from tuner.promotion.truth import CHALLENGER, CHAMPION, announced, unfinished
from tuner.promotion.truth import named as who
from tuner.spec.errors import TunerError

TRIAL = str(Path(__file__).with_name("trial.py"))


def draw() -> None:
    heading("Registry", "What is live, who changed it, and how do I undo it?")
    try:
        models = _models()
    except TunerError as error:
        problem(str(error), "No trial store was read, and the ledger is in it")
        return
    if not models:
        _never("")
        return
    asked = link.text("model")
    names = list(models)
    if asked is not None and asked not in models:
        note(f"The link asks for the model “{asked[:80]}”; no study of this store promotes to it.", "link_off")
        asked = None
    if len(names) > 1:
        default = names.index(asked or _looked_at(names))
        model = st.selectbox("Model", names, index=default, key="model", width=260)
    else:
        model = names[0]
    link.write(model=model)
    try:
        books = source.books(model, models[model])
    except TunerError as error:
        problem(str(error))
        return
    if books.unreached:
        problem(books.unreached, "MLflow was not reached: this is the ledger's side alone")
    for sentence in books.complaints:
        problem(sentence, "Ledger and registry disagree")
    _interrupted(books, models[model])
    if not books.history and not books.aliases:
        _never(model)
        return
    _champion(books)
    left, right = st.columns(2)
    with left.container(border=True, height="stretch"):
        _challenger(books)
    with right.container(border=True, height="stretch"):
        _undo(books, models[model])
    with st.container(border=True):
        _history(books)
    with st.container(border=True):
        _use(books, models[model])
    ceremony.dialogs()


def _models() -> dict[str, str]:
    """Model -> MLflow URI: what the studies of this store promote to."""
    found = {}
    for name in source.names():
        try:
            one = source.seen(name)
        except TunerError:
            continue  # the page Studies says why
        found[one.model] = source.tracking(one)
    return found


def _looked_at(models: list[str]) -> str:
    """The model of the study that was on the other pages, else the first."""
    study = st.session_state.get("study")
    try:
        model = source.seen(study).model if study else ""
    except TunerError:
        model = ""
    return model if model in models else models[0]


def _never(model: str) -> None:
    study = model or "STUDY"
    empty(
        "Nothing was promoted yet",
        "A champion is a checkpoint that has passed its gates: complete, undamaged, better than the champion before "
        "by more than luck. See what the gates say, then promote:",
        f'tuner promote {study} --best --dry-run\ntuner promote {study} --best --reason "first"',
    )


def _champion(books: Books) -> None:
    version = books.aliases.get(CHAMPION)
    with st.container(border=True):
        if version is None:
            st.subheader("No champion", anchor=False)
            st.text("The registry has versions of this model, but none is champion.")
            return
        told = announced(list(books.history), version)
        done = next((e for e in reversed(books.history) if e.stage is Stage.DONE and e.after == version), None)
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"### {plain(books.model)} version {version}", width="content")
            st.badge("champion", icon=":material/trophy:", color="blue")
        st.code(f"models:/{books.model}@{CHAMPION}", language=None)
        if done is not None:
            st.text(f"Since {_when(done)} ({ago(_moment(done))}) by {done.actor}: {done.reason}")
        if told is None:
            st.text(
                "The ledger does not know this version: it was registered outside tuner."
                if done is None
                else "What it was promoted on is not in the ledger: no row there began a promotion of this version."
            )
            return
        _candidate(told)
        if told.overridden:
            note(f"Promoted against its gates: {', '.join(told.overridden)}.", "warning")
        st.caption("What the gates said")
        gate_rows(told.answers)


def _candidate(told: Entry) -> None:
    one = told.candidate
    loss = f"{one.get('metric')} {number(one.get('value'))} at {one.get('budget')}"
    words = f"Trial {one.get('trial')} of {one.get('study')}, {loss}"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.text(words, width="content")
        where = {"study": str(one.get("study")), "trial": str(one.get("trial"))}
        st.page_link(TRIAL, label="Open the trial", icon=":material/description:", query_params=where)


def _challenger(books: Books) -> None:
    st.subheader("Challenger", anchor=False)
    version = books.aliases.get(CHALLENGER)
    if version is None:
        st.text("No version is challenger.")
        return
    told = announced(list(books.history), version)
    if version == books.aliases.get(CHAMPION):
        st.text(f"Version {version}: it has become champion; no other waits.")
        return
    st.text(f"Version {version} waits for its turn.")
    if told is not None:
        _candidate(told)
        gate_rows(told.answers)


def _interrupted(books: Books, uri: str) -> None:
    """What a crash between two steps has left: go on, or take it back."""
    pending = unfinished(books.history)
    if pending is None:
        return
    refused = acting.refusal()
    with st.container(horizontal=True):
        for undo, label in ((False, "Go on with it…"), (True, "Take it back…")):
            about = ceremony.Interrupted(books.model, uri, pending.sentence, undo)
            st.button(
                label,
                key=f"end:{undo}",
                disabled=bool(refused),
                help=refused or None,
                on_click=begin,
                args=(ceremony.ENDING, about),
            )


def _undo(books: Books, uri: str) -> None:
    """The former champions, and the way back to each: a dialog here, or the command."""
    st.subheader("How do I undo it?", anchor=False)
    now = books.aliases.get(CHAMPION)
    former = list(dict.fromkeys(e.after for e in reversed(books.history) if e.stage is Stage.DONE and e.after != now))
    if not former:
        st.text("There is no champion before this one, so there is nothing to go back to.")
    else:
        refused = acting.refusal()
        with st.container(horizontal=True, vertical_alignment="bottom"):
            to = st.selectbox("Former champion", former, format_func=who, key=f"former:{books.model}", width=200)
            assert to is not None  # there is at least one
            if st.button("Roll back…", icon=":material/undo:", disabled=bool(refused), help=refused or None):
                ceremony.go_back(books.model, to, uri)
        if refused:
            st.caption(plain(refused))
        command(f'tuner rollback {books.model} --to {to} --reason "…"', "The same in the terminal")
    command(f"tuner history {books.model}", "The history below, in the terminal")


def _history(books: Books) -> None:
    st.subheader("History", anchor=False)
    if not books.history:
        st.text("The ledger has no row for this model: its versions were registered outside tuner.")
        return
    rows: list[dict[str, Any]] = [
        {
            "when": _when(entry),
            "who": entry.actor,
            "what": f"{entry.action} {entry.stage}",
            "version": f"{_number(entry.before)} → {_number(entry.after)}",
            "why": entry.reason + (f"  OVERRIDDEN: {', '.join(entry.overridden)}" if entry.overridden else ""),
            "record": entry.record,
        }
        for entry in reversed(books.history)
    ]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        width="stretch",
        column_config={
            "when": st.column_config.TextColumn("When (UTC)"),
            "who": st.column_config.TextColumn("Who"),
            "what": st.column_config.TextColumn("What"),
            "version": st.column_config.TextColumn("Version", width="small"),
            "why": st.column_config.TextColumn("Why", width="large"),
            "record": st.column_config.TextColumn("Record", help="The hash of the candidate"),
        },
        alt=f"{len(rows)} rows of the ledger, newest first",
    )
    st.caption("Newest first. Rows are added, never changed; each is sealed with the one before it.")


def _use(books: Books, uri: str) -> None:
    st.subheader("Use it", anchor=False)
    left, right = st.columns(2)
    with left:
        command(f'tuner generate {books.model} --prompt "Once"', "Write text")
        command(f"tuner export {books.model} ./model", "Weights, tokenizer, spec and card in a plain folder")
    with right:
        st.caption("From Python")
        st.code(
            f'import mlflow\n\nmlflow.set_tracking_uri("{harmless(uri)}")\n'
            f'model = mlflow.pyfunc.load_model("models:/{books.model}@{CHAMPION}")',
            language=None,
        )
        if books.versions:
            many = "1 version" if len(books.versions) == 1 else f"{len(books.versions)} versions"
            st.caption(f"{many} registered; {who(books.aliases.get(CHAMPION))} is live.")


def _number(version: int | None) -> str:
    return "–" if version is None else str(version)


def _when(entry: Entry) -> str:
    return entry.at[:16].replace("T", " ")


def _moment(entry: Entry) -> datetime | None:
    try:
        return datetime.fromisoformat(entry.at)
    except ValueError:
        return None


draw()
