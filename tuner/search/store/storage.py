"""The trial store: Optuna's tables by SQLAlchemy URL, SQLite in WAL mode by default, made once however many ask.
Opening, making, copying and deleting only; what a trial means is said in asktell.py and history.py.
"""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock, Timeout
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage, get_storage
from optuna.trial import FrozenTrial

from tuner.search.store.address import MEMORY_URL, said, schema_of, sqlite_file, store_errors
from tuner.search.store.lock import store_lock
from tuner.spec.disk import force
from tuner.spec.errors import StoreError

Storage = BaseStorage
"""An open store, in the hands of those who only pass it on."""

IDENTITY, COPYING, MARKS = "identity", "copying", "marks"
"""Facts of a study: what it is, of each that is whole; whether it is a copy that is not whole yet; how often it was
copied (``Origin.marks``).
"""

MAKING = 60.0
"""Seconds to wait while another process makes the store."""


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
            _prepare_server(url, create)
            return _rdb(url, pool_pre_ping=True)
        if not _has_tables(path):
            if not create:
                raise StoreError(f"no trial store at {path}; run a study first, or name one with --storage.")
            _create_sqlite(path)
        if create:
            _require_whole(path)
        return _rdb(url, connect_args={"timeout": 60})


def delete_study(storage: BaseStorage, name: str) -> None:
    """Take a study and its trials out of the store; one that is not there is gone already."""
    with contextlib.suppress(KeyError):
        optuna.delete_study(study_name=name, storage=storage)


def facts_of(storage: BaseStorage, name: str) -> Mapping[str, Any] | None:
    """What is noted of a study; None where there is none of that name."""
    with contextlib.suppress(KeyError):
        facts: Mapping[str, Any] = storage.get_study_user_attrs(storage.get_study_id_from_name(name))
        return facts
    return None


def copy_study(
    source: BaseStorage, target: BaseStorage, name: str, step: Callable[[int, int], None] = lambda done, of: None
) -> int | None:
    """Copy a study with its trials, numbers, values, queue and facts; returns how many trials it has, None where a
    whole copy is there already.

    What makes it a study goes last: a copy that was cut off is driven by nobody, and begun anew. ``step`` is called
    with the trials copied and their number. The locks of both studies are the caller's business.

    Raises:
        StoreError: there is no such study in ``source``, another one of this name in ``target``, or something was
            enqueued meanwhile.
    """
    facts, begun = facts_of(source, name), facts_of(target, name)
    if facts is None or IDENTITY not in facts:
        raise StoreError(f"there is no study '{name}' of this platform to copy.")
    if begun is not None and not _cut_off(target, name, begun):
        if begun.get("id") == facts["id"]:
            return None
        raise StoreError(f"the other store has another study of the name '{name}'; it was not copied.")
    delete_study(target, name)
    here = source.get_study_id_from_name(name)
    there = target.create_new_study(source.get_study_directions(here), name)
    target.set_study_user_attr(there, COPYING, True)
    for key, value in source.get_study_system_attrs(here).items():
        target.set_study_system_attr(there, key, value)
    trials = source.get_all_trials(here, deepcopy=False)
    for done, trial in enumerate(trials, 1):
        target.create_new_trial(there, trial)
        step(done, len(trials))
    if _content(source, here) != _content(target, there):
        raise StoreError(f"study '{name}' changed while it was copied; the same command copies it anew.")
    marks = facts.get(MARKS, [])
    source.set_study_user_attr(here, MARKS, [*marks, uuid.uuid4().hex])  # before there are two that could go on
    last = {MARKS: [*marks, uuid.uuid4().hex], COPYING: False}
    last |= {key: facts[key] for key in ("spec", IDENTITY) if key in facts}
    for key, value in {**{k: v for k, v in facts.items() if k not in last}, **last}.items():
        target.set_study_user_attr(there, key, value)
    return len(trials)


def _cut_off(storage: BaseStorage, name: str, facts: Mapping[str, Any]) -> bool:
    """Whether a study is a copy that is not whole: it says so, or, in its first instant, has nothing at all."""
    if facts:
        return COPYING in facts and IDENTITY not in facts
    return not storage.get_n_trials(storage.get_study_id_from_name(name))


def _content(storage: BaseStorage, study: int) -> list[str]:
    """All that a store holds of a study's trials but its own keys, in a form in which NaN equals NaN."""

    def told(trial: FrozenTrial) -> str:
        kept = (trial.params, trial.distributions, trial.intermediate_values, trial.user_attrs, trial.system_attrs)
        times = (trial.datetime_start, trial.datetime_complete)
        return repr((trial.number, trial.state, trial.values, *times, *(sorted(one.items()) for one in kept)))

    return [told(trial) for trial in storage.get_all_trials(study, deepcopy=False)]


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


def _prepare_server(url: str, create: bool) -> None:
    """Optuna's tables in a server's database, and the schema that the URL's ``search_path`` names.

    Raises:
        StoreError: there are none and ``create`` is false, or another program's are in their place.
    """
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    if _has_tables_on_server(engine):
        return
    if not create:
        raise StoreError(f"no trial store in {said(url)}; run a study first, or name one with --storage.")
    with store_lock(url, "schema", MAKING) as taken:
        if not taken:
            raise StoreError(f"another process makes the trial store {said(url)} for {MAKING:.0f} s; try again.")
        if not _has_tables_on_server(engine):
            with engine.begin() as connection:
                schema = schema_of(connection)
                if schema is not None and not sqlalchemy.inspect(connection).has_schema(schema):
                    connection.execute(sqlalchemy.schema.CreateSchema(schema, if_not_exists=True))
            storage = RDBStorage(url)
            storage.remove_session()
            storage.engine.dispose()


def _has_tables_on_server(engine: sqlalchemy.Engine) -> bool:
    """Whether the database is Optuna's store already: it writes Alembic's version last.

    Raises:
        StoreError: the version is another program's, such as MLflow's, which would be overwritten.
    """
    with engine.connect() as connection:
        schema, inspector = schema_of(connection), sqlalchemy.inspect(connection)
        if not inspector.has_table("alembic_version", schema):
            return False
        versions = sqlalchemy.table("alembic_version", schema=schema)
        found = connection.execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(versions)).scalar_one()
        if found and not inspector.has_table("studies", schema):
            raise StoreError(
                f"{said(engine.url)} is no trial store: it has the tables of another program (MLflow's, perhaps); "
                "name another database, or a schema of its own: add ?options=-csearch_path%3Dtrials to the URL."
            )
    return bool(found)


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
