"""Where MLflow's store is, its first creation, and a quiet client for it.
The only door to `import mlflow` for runs (2 s, so never at module level); nothing here knows of trials.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout

from tuner.spec.disk import force
from tuner.spec.errors import StoreError

DEFAULT_URI = "sqlite:///mlflow.db"
"""MLflow's own default, so that `mlflow ui` in the same folder shows the runs; artifacts go to ./mlruns."""

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # MLflow's own 7 block 247 s; the mirror tries again by itself
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # it logs tracebacks of errors that it raises as well
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_CREATION_S = 60.0  # creation takes 1 s on a quiet machine; 16 processes wait for the first


def location(configured: str | None = None) -> str:
    """The tracking URI: MLFLOW_TRACKING_URI, else ``configured`` (the YAML's), else MLflow's default.

    Raises:
        StoreError: it is no URI.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or configured or DEFAULT_URI
    try:
        urlsplit(uri)
    except ValueError as error:
        raise StoreError(
            f"the MLflow URI {uri!r} cannot be read ({error}); expected one such as http://host:5000 or {DEFAULT_URI}."
        ) from error
    return uri


def shown(uri: str) -> str:
    """``uri`` without user and password: for screens and files."""
    scheme, mark, rest = uri.partition("://")
    place = re.match(r"[^/?#]*", rest)
    size = 0 if place is None else place.end()
    return scheme + mark + rest[:size].rpartition("@")[2] + rest[size:]


def connect(uri: str) -> Any:
    """An ``mlflow.MlflowClient`` on ``uri``, its SQLite file made where missing. The first call takes 2-3 s.

    The environment's own MLFLOW_* settings win over the defaults set here.

    Raises:
        StoreError: the SQLite file belongs to something else, or its creation is stuck.
        mlflow.exceptions.MlflowException: the store's schema is of another MLflow version.
    """
    quiet()
    from mlflow import MlflowClient

    if (path := sqlite_path(uri)) is not None:
        create(path)
    return MlflowClient(absolute(uri))


def absolute(uri: str) -> str:
    """``uri`` so that it means the same from every working folder: MLflow keeps one store per URI text."""
    path = sqlite_path(uri)
    if path is None:
        return uri
    from mlflow.utils.file_utils import path_to_local_sqlite_uri

    _, mark, options = uri.partition("?")
    return str(path_to_local_sqlite_uri(str(path))) + mark + options


def sqlite_path(uri: str) -> Path | None:
    """The absolute path of the file behind an SQLite URI; None for any other URI and for memory."""
    scheme, _, rest = uri.partition(":///")
    name = unquote(rest.partition("?")[0])
    if scheme.partition("+")[0] != "sqlite" or not name or name.startswith((":", "file:")):
        return None
    return Path(name).absolute()


def patience(uri: str, hurried: bool) -> float:
    """Seconds to wait at the end for what is not yet mirrored: a file of ours gets the time it needs, a server
    that may be away little, and less where somebody pressed Ctrl-C (``hurried``).
    """
    if hurried:
        return 1.5
    path = sqlite_path(uri)
    return 60.0 if path is not None and os.access(path.parent, os.W_OK) else 4.0


def create(path: Path) -> None:
    """Make MLflow's SQLite file, whole or not at all, however many processes ask and whenever one dies.

    MLflow's own first opening is a race, and a kill in the middle ruins the file (facts of 3.17: 4 of 8). So
    one process makes it, under a lock and another name in the same folder, then renames it. Its 51 migrations
    take 1 s of processor time; nothing shorter gives the schema that MLflow's own migrations give.

    Raises:
        StoreError: the file belongs to something else, or another process holds the lock for 60 s.
    """
    if _has_tables(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock, draft = _creation(path), _draft(path)
    try:
        with FileLock(lock, timeout=_CREATION_S):
            if _has_tables(path):
                return
            _sweep(path)
            _make(draft)
            draft.replace(path)
            force(path.parent)
    except Timeout as error:
        raise StoreError(
            f"{path}: expected to make MLflow's store, got no turn in {_CREATION_S:.0f} s because another "
            f"process holds {lock}; end that process and run the same command again"
        ) from error


def unfinished(path: Path) -> list[Path]:
    """What a process that died while it made the file at ``path`` left beside it; empty while one makes it."""
    found = [left for left in _drafts(path) if left.exists()]
    try:
        with FileLock(_creation(path), timeout=0) if found else contextlib.nullcontext():
            return found
    except Timeout:
        return []


def sweep(path: Path) -> None:
    """Remove what ``unfinished`` found, unless another process makes the file right now."""
    with contextlib.suppress(Timeout), FileLock(_creation(path), timeout=0):
        _sweep(path)


def quiet() -> None:
    """What must be set before MLflow is imported, and its log level where that came first."""
    for key, value in _SETTINGS.items():
        os.environ.setdefault(key, value)
    # MLflow 3.17's own models use it under SQLAlchemy 2.1; where warnings are errors its import would fail.
    warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)
    logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())
    retries = logging.getLogger("urllib3.connectionpool")
    if retries.level == logging.NOTSET:  # a WARNING for each retry would land on the screen
        retries.setLevel(logging.ERROR)


def _creation(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.draft")


def _drafts(path: Path) -> tuple[Path, Path]:
    draft = _draft(path)
    return draft, draft.with_name(draft.name + "-journal")


def _sweep(path: Path) -> None:
    for left in _drafts(path):  # of a creator that died
        left.unlink(missing_ok=True)


def _make(draft: Path) -> None:
    quiet()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.utils.file_utils import path_to_local_sqlite_uri

    # The second argument is where MLflow itself puts artifacts; it becomes an absolute path in its store.
    store = SqlAlchemyStore(path_to_local_sqlite_uri(str(draft)), "./mlruns")
    store.engine.dispose()


def _has_tables(path: Path) -> bool:
    """Whether ``path`` is MLflow's store already; an absent or empty file is not."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    try:
        # Not read-only: after a kill in the middle of a write, reading must first undo that write.
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=20)) as database:
            tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.OperationalError as error:  # locked for 20 s, no right to read
        raise StoreError(f"{path}: expected to read MLflow's file, got '{error}'") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise StoreError(
            f"{path}: expected MLflow's SQLite file, got '{error}'; move it away or name another"
        ) from error
    if tables and "experiments" not in tables:
        raise StoreError(
            f"{path}: expected MLflow's tables, got those of something else "
            f"({', '.join(sorted(tables)[:3])} ...); MLflow needs a file of its own: "
            "name another in MLFLOW_TRACKING_URI or study.tracking"
        )
    return bool(tables)
