"""The trial store: Optuna's tables by SQLAlchemy URL, SQLite in WAL mode by default.
Opening and making the store only; what a trial means is said in asktell.py and history.py.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage, get_storage

from tuner.spec.errors import StoreError

DEFAULT_URL = "sqlite:///tuner.db"
MEMORY_URL = "sqlite:///:memory:"
"""A store that ends with the process: for simulations."""


def storage_url(flag: str | None, from_yaml: str | None) -> str:
    """Where the store is: ``--storage``, else ``TUNER_STORAGE``, else the YAML, else ``tuner.db`` here."""
    return flag or os.environ.get("TUNER_STORAGE") or from_yaml or DEFAULT_URL


def sqlite_file(url: str) -> Path | None:
    """The file behind a SQLite URL; None for other databases and for the in-memory store.

    Raises:
        StoreError: the text is no SQLAlchemy URL.
    """
    try:
        parsed = sqlalchemy.engine.make_url(url)
    except sqlalchemy.exc.ArgumentError as error:
        raise StoreError(
            f"storage {url!r} is not a database URL; expected one such as 'sqlite:///tuner.db' or "
            "'postgresql+psycopg://user@host/name'."
        ) from error
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def open_storage(url: str, create: bool = False) -> BaseStorage:
    """Open the store; with ``create`` make it if there is none, safe against kill -9 and against other processes.

    Raises:
        StoreError: there is no store, it cannot be reached, or it is not Optuna's.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url == MEMORY_URL:
        return InMemoryStorage()
    path = sqlite_file(url)
    try:
        if path is not None:
            if not path.exists():
                if not create:
                    raise StoreError(f"no trial store at {path}; run a study first, or name one with --storage.")
                _create_sqlite(path)
            return _rdb(url, connect_args={"timeout": 60})
        return _rdb(url, pool_pre_ping=True)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, OSError, RuntimeError) as error:
        shown = sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StoreError(f"the trial store {shown} cannot be opened: {cause}.") from error


def _create_sqlite(path: Path) -> None:
    """Optuna's schema creation is neither race-free nor crash-safe: make it aside, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / f".{path.name}.lock"):
        for leftover in path.parent.glob(f".{path.name}.new*"):
            leftover.unlink()
        if path.exists():
            return
        fresh = path.parent / f".{path.name}.new"
        storage = RDBStorage(f"sqlite:///{fresh}")
        storage.remove_session()
        storage.engine.dispose()
        with fresh.open("rb") as stream:
            os.fsync(stream.fileno())
        fresh.rename(path)


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
