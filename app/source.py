"""What the pages read, and how often: one kept store, one record and frame a study for a few seconds, the registry.
All of it by tuner.analysis and tuner.promotion; what fails comes out as a TunerError, which is a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from tuner.analysis.store import Store, identity, tracking_exists, tracking_store, trial_store
from tuner.analysis.study.frame import frame, milestones
from tuner.analysis.study.noise import Noise, study_noise, tie_band
from tuner.promotion.ledger import Entry, Ledger
from tuner.promotion.registry import Registry, Version
from tuner.promotion.truth import announced, complaints, replay
from tuner.spec.errors import TunerError
from tuner.spec.records import SIMULATED

FRESH_S = 3.0
"""Seconds that a reading serves every visitor: five browsers ask the store once."""

RUNS = Path("runs")

_BACKGROUND = ThreadPoolExecutor(1, thread_name_prefix="tuner-fanova")


@dataclass(frozen=True)
class Snapshot:
    """One study as read at ``at`` (UTC). Shared between visitors: nobody changes the frame."""

    record: Any
    frame: pd.DataFrame
    noise: Noise
    milestones: int
    at: datetime

    @property
    def name(self) -> str:
        return str(self.record.name)

    @property
    def model(self) -> str:
        """What the study promotes to."""
        return str((self.record.spec.get("promotion") or {}).get("model") or self.name)

    @property
    def simulated(self) -> bool:
        """Whether its trials were made up, by the fact that fake hands leave."""
        return any(trial.facts.get("device_kind") == SIMULATED for trial in self.record.trials[:3])

    @property
    def band(self) -> float:
        """Two trials nearer than this tie, in units of the metric."""
        return tie_band(self.noise)

    @property
    def finished(self) -> int:
        return int((~self.frame["state"].isin(("running", "queued"))).sum())


@dataclass(frozen=True)
class Books:
    """What is known of a model: the ledger's rows, the registry's aliases and versions, and where they disagree."""

    model: str
    history: tuple[Entry, ...]
    aliases: Mapping[str, int]
    versions: tuple[Version, ...]
    complaints: tuple[str, ...]
    unreached: str = ""


def names() -> list[str]:
    """The studies of the store.

    Raises:
        StoreError: no store, or it cannot be reached.
    """
    url = trial_store()
    return _names(url, identity(url))


def fresh(name: str) -> Snapshot:
    """A study as it is now, at most ``FRESH_S`` old.

    Raises:
        StoreError: no such study, or the store cannot be reached.
    """
    url = trial_store()
    return _study(url, identity(url), name)


def seen(name: str) -> Snapshot:
    """The snapshot that is on this visitor's screen; read where there is none yet."""
    kept: dict[str, Snapshot] = st.session_state.setdefault("snapshots", {})
    mark = f"{identity(trial_store())}:{name}"
    if mark not in kept:
        kept[mark] = fresh(name)
    return kept[mark]


def show_newest(name: str) -> None:
    """Put the newest reading on the screen: somebody asked for it."""
    st.session_state.setdefault("snapshots", {})[f"{identity(trial_store())}:{name}"] = fresh(name)


def ped_anova(snapshot: Snapshot) -> Mapping[str, float]:
    """Importance by PED-ANOVA, computed once for each count of finished trials."""
    url = trial_store()
    return _importance(url, identity(url), snapshot.name, snapshot.finished)


def tracking(snapshot: Snapshot | None = None) -> str:
    """The MLflow URI that holds the runs of a study, else the folder's."""
    configured = snapshot.record.spec.get("study", {}).get("tracking") if snapshot else None
    return tracking_store(configured)


def champion(snapshot: Snapshot) -> int | None:
    """The trial of this study that is champion by the ledger; None where none is, or the ledger cannot be read. It may
    be newer than the snapshot.
    """
    url = trial_store()
    try:
        told = _reigning(url, identity(url), snapshot.model)
    except TunerError:
        return None
    if told.get("study") != snapshot.name:
        return None
    number = int(told["trial"])
    there = next((trial for trial in snapshot.record.trials if trial.number == number), None)
    if there is None or told.get("sha256") in (None, there.facts.get("checkpoint_sha256")):
        return number
    return None  # of a study of this name that was here before


def forget_fanova() -> None:
    """It failed: the next look asks again."""
    _fanova.clear()


def fanova_shares(snapshot: Snapshot) -> Future[Mapping[str, float]]:
    """Importance by fANOVA, on its way in the background, once for each count of finished trials."""
    url = trial_store()
    return _fanova(url, identity(url), snapshot.name, snapshot.finished)


def books(model: str, uri: str) -> Books:
    """Ledger and registry of a model. An unreached registry leaves the ledger's side, with a sentence.

    Raises:
        StoreError: the trial store, where the ledger is, cannot be reached.
    """
    url = trial_store()
    return _books(url, identity(url), model, uri, tracking_exists(uri))


def forget_books() -> None:
    """Somebody moved an alias from these pages: the next look asks ledger and registry again."""
    _books.clear()
    _reigning.clear()


def forget_studies() -> None:
    """A study was made or removed from these pages."""
    _names.clear()
    _study.clear()


@st.cache_resource(max_entries=8, show_spinner=False)
def _store(url: str, mark: str) -> Store:
    return Store(url)


@st.cache_resource(ttl=FRESH_S, max_entries=32, show_spinner=False)
def _names(url: str, mark: str) -> list[str]:
    return _store(url, mark).names()


@st.cache_resource(ttl=FRESH_S, max_entries=64, show_spinner=False)
def _study(url: str, mark: str, name: str) -> Snapshot:
    record, now, held = _store(url, mark).study(name), datetime.now(UTC), _held()
    last = held.get(name)
    if last is None or last.record is not record:  # the store gives the same record again where nothing has changed
        last = held[name] = Snapshot(record, frame(record), study_noise(record), milestones(record), now)
    return replace(last, at=now)


@st.cache_resource(show_spinner=False)
def _held() -> dict[str, Snapshot]:
    """The last snapshot of each study."""
    return {}


@st.cache_resource(max_entries=64, show_spinner=False)
def _importance(url: str, mark: str, name: str, finished: int) -> Mapping[str, float]:
    return _store(url, mark).importance(name)


@st.cache_resource(max_entries=64, show_spinner=False)
def _fanova(url: str, mark: str, name: str, finished: int) -> Future[Mapping[str, float]]:
    return _BACKGROUND.submit(_store(url, mark).fanova, name)


@st.cache_resource(ttl=FRESH_S, max_entries=32, show_spinner=False)
def _reigning(url: str, mark: str, model: str) -> Mapping[str, Any]:
    history = Ledger(url).history(model)
    version = replay(history).get("champion")
    told = None if version is None else announced(history, version)
    return {} if told is None else told.candidate


@st.cache_resource(ttl=10.0, max_entries=32, show_spinner="Asking MLflow's registry")
def _books(url: str, mark: str, model: str, uri: str, there: bool) -> Books:
    ledger = Ledger(url)
    history, broken = tuple(ledger.history(model)), ledger.broken(model)
    told = replay(history)
    if not there:
        away = "MLflow's file is not there yet; the first search makes it."
        return Books(model, history, told, (), tuple(complaints(history, broken, told, False)), away if history else "")
    registry = Registry(uri)
    try:
        real, versions = registry.aliases(model), tuple(registry.versions(model))
    except TunerError as error:
        return Books(model, history, told, (), tuple(complaints(history, broken, told, False)), str(error))
    return Books(model, history, real, versions, tuple(complaints(history, broken, real, False)))
