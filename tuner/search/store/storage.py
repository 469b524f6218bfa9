"""The trial store: Optuna's tables by SQLAlchemy URL, SQLite in WAL mode by default.
Opening and making the store only; what a trial means is said in asktell.py and history.py.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock, Timeout
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage, get_storage

from tuner.spec.disk import force
from tuner.spec.errors import StoreError

Storage = BaseStorage
"""An open store, in the hands of those who only pass it on."""

MEMORY_URL = "sqlite:///:memory:"
"""A store that ends with the process: for simulations."""


def sqlite_file(url: str) -> Path | None:
    """The file behind a SQLite URL; None for other databases and for the in-memory store.

    Raises:
        StoreError: the text is no SQLAlchemy URL, or a SQLite URL that names no file.
    """
    try:
        parsed = sqlalchemy.engine.make_url(url)
    except sqlalchemy.exc.ArgumentError as error:
        raise StoreError(
            f"storage {url!r} is not a database URL; expected one such as 'sqlite:///tuner.db' or "
            "'postgresql+psycopg://user@host/name'."
        ) from error
    if parsed.get_backend_name() != "sqlite" or url == MEMORY_URL:
        return None
    if parsed.database in (None, "", ":memory:"):
        raise StoreError(
            f"storage {url!r} names no file; a study needs a store that stays, such as sqlite:///tuner.db."
        )
    return Path(str(parsed.database))


_REFUSALS = (
    sqlalchemy.exc.SQLAlchemyError,
    optuna.exceptions.StorageInternalError,
    ImportError,  # of the driver
    OSError,
    UnicodeError,  # a damaged text; a name that no text can hold
    RuntimeError,  # Optuna: the schema of another version
    AssertionError,  # Optuna: no version at all
)


@contextmanager
def store_errors(url: str) -> Iterator[None]:
    """Turn what a database raises into a StoreError that names the store, never its password."""
    try:
        yield
    except _REFUSALS as error:
        raise StoreError(f"the trial store {said(url)} cannot be opened: {cause_of(error)}.") from error


def cause_of(error: Exception) -> str:
    """The database's own first line, under what Optuna and SQLAlchemy wrapped around it."""
    inner = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    said = str(getattr(inner, "orig", None) or inner or error).strip()
    return said.splitlines()[0] if said else type(error).__name__


def open_storage(url: str, create: bool = False) -> BaseStorage:
    """Open the store; with ``create`` make it if there is none, safe against kill -9 and other processes.

    Raises:
        StoreError: there is no store, it cannot be reached, or it is not Optuna's.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url == MEMORY_URL:
        return InMemoryStorage()
    path = sqlite_file(url)
    with store_errors(url):
        if path is None:
            return _rdb(url, pool_pre_ping=True)
        if not _has_tables(path):
            if not create:
                raise StoreError(f"no trial store at {path}; run a study first, or name one with --storage.")
            _create_sqlite(path)
        if create:
            _require_whole(path)
        return _rdb(url, connect_args={"timeout": 60})


def said(url: str | sqlalchemy.engine.URL) -> str:
    """A store's URL without its password."""
    return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)


def delete_study(storage: BaseStorage, name: str) -> None:
    """Take a study and its trials out of the store; one that is not there is gone already."""
    with contextlib.suppress(KeyError):
        optuna.delete_study(study_name=name, storage=storage)


def _has_tables(path: Path) -> bool:
    """Whether ``path`` is Optuna's store already; an absent or empty file is not.

    Raises:
        StoreError: it is a database of something else, which must not get Optuna's tables.
    """
    if not path.exists() or path.stat().st_size == 0:
        return False
    try:
        with closing(sqlite3.connect(path, timeout=60)) as store:
            tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise StoreError(f"the trial store {path} cannot be opened: {error}.") from error
    if tables and "studies" not in tables:
        raise StoreError(f"{path} is no trial store: it has the tables of something else; name another file.")
    return bool(tables)


def _require_whole(path: Path) -> None:
    """Before anything is written to it: writing into a damaged file damages more. 10,000 trials take 0.1 s.

    Raises:
        StoreError: its pages do not hold together.
    """
    try:
        with closing(sqlite3.connect(path, timeout=60)) as store:
            (found,) = store.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        found = str(error)
    if found != "ok":
        raise StoreError(
            f"the trial store {path} is damaged ({' '.join(str(found).split())[:200]}); put a copy of it in its place, "
            f"or mend it: sqlite3 {path} .recover | sqlite3 mended.db"
        )


def _create_sqlite(path: Path) -> None:
    """Optuna's schema creation is neither race-free nor crash-safe: make it aside, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(_creation(path)):
        _sweep(path)
        if _has_tables(path):
            return
        fresh = path.parent / f".{path.name}.new"
        storage = RDBStorage(f"sqlite:///{fresh}")
        storage.remove_session()
        storage.engine.dispose()
        force(fresh)
        fresh.rename(path)
        force(path.parent)


def unfinished(path: Path) -> list[Path]:
    """What a process that died while it made the store at ``path`` left beside it; empty while one makes it."""
    found = sorted(path.parent.glob(f".{path.name}.new*"))
    try:
        with FileLock(_creation(path), timeout=0) if found else contextlib.nullcontext():
            return found
    except Timeout:
        return []


def sweep(path: Path) -> None:
    """Remove what ``unfinished`` found, unless another process makes the store right now."""
    with contextlib.suppress(Timeout), FileLock(_creation(path), timeout=0):
        _sweep(path)


def _creation(path: Path) -> Path:
    return path.parent / f".{path.name}.lock"


def _sweep(path: Path) -> None:
    for leftover in path.parent.glob(f".{path.name}.new*"):
        leftover.unlink()


def _rdb(url: str, **engine: Any) -> BaseStorage:
    """The store behind Optuna's cache, which is kept: cold, 10,000 trials take 6 s to read, warm 4 ms."""
    storage = RDBStorage(url, engine_kwargs=engine)
    if storage.engine.dialect.name == "sqlite":
        sqlalchemy.event.listen(storage.engine, "connect", _pragmas)
        storage.remove_session()
        storage.engine.dispose()  # connections made before the listener lack the pragmas
    return get_storage(storage)


def _pragmas(connection: Any, _record: Any) -> None:
    """WAL lets readers read while the driver writes; NORMAL is safe with it and three times as fast."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
