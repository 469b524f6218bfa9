"""The stores as a page or a command keeps them: where they are, and one open trial store that is read many times.
Reading only; what the records mean is said in the other rooms.
"""

from __future__ import annotations

from collections.abc import Mapping

from tuner.search.history import (
    StudyRecord,
    fanova_importance,
    parameter_importance,
    read_study,
    study_names,
)
from tuner.search.store.address import sqlite_file, store_errors
from tuner.search.store.storage import open_storage
from tuner.search.store.url import storage_url
from tuner.tracking.store import location, shown, sqlite_path


class Store:
    """The trial store at ``url``, kept open: of 10,000 trials the first reading takes 0.8 s, the next ones 5 ms and
    what is new. Threads may share it. A study that has not changed is the same object.

    Raises:
        StoreError: no store, or it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._storage = open_storage(url)

    def names(self) -> list[str]:
        """The studies, by name."""
        with store_errors(self.url):
            return study_names(self._storage)

    def study(self, name: str) -> StudyRecord:
        """One study as it is now.

        Raises:
            StoreError: no such study, or the store cannot be reached.
        """
        with store_errors(self.url):
            return read_study(self._storage, name)

    def importance(self, name: str) -> Mapping[str, float]:
        """Importance of each parameter by PED-ANOVA, read as ``study`` is."""
        with store_errors(self.url):
            return parameter_importance(self._storage, name)

    def fanova(self, name: str, sample: int = 300) -> Mapping[str, float]:
        """Importance of each parameter by fANOVA on ``sample`` trials, read as ``study`` is."""
        with store_errors(self.url):
            return fanova_importance(self._storage, name, sample)


def trial_store() -> str:
    """The URL of the trial store: TUNER_STORAGE, else ``tuner.db`` in this folder."""
    return storage_url(None, None)


def tracking_store(configured: str | None = None) -> str:
    """The MLflow URI: MLFLOW_TRACKING_URI, else ``configured`` (the study's), else ``mlflow.db`` in this folder."""
    return location(configured)


def harmless(uri: str) -> str:
    """``uri`` without user and password: for screens."""
    return shown(uri)


def tracking_exists(uri: str) -> bool:
    """Whether asking MLflow would make nothing: its file is there, or it is a server."""
    path = sqlite_path(uri)
    return path is None or path.exists()


def identity(url: str) -> str:
    """Changes when ``url`` comes to mean another store: another folder, a file that was made anew."""
    path = sqlite_file(url)
    if path is None:
        return url
    try:
        return f"{path.absolute()}#{path.stat().st_ino}"
    except OSError:
        return f"{path.absolute()}#absent"
