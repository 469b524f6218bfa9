"""The store: made once however many ask, WAL, whole after a kill, one driver a study."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from cases import few
from hypothesis import given
from hypothesis import strategies as st

from tuner.search.asktell import Search
from tuner.search.history import read_study, study_names
from tuner.search.store.address import MEMORY_URL, sqlite_file
from tuner.search.store.lock import study_lock
from tuner.search.store.storage import open_storage
from tuner.search.store.url import DEFAULT_URL, storage_url
from tuner.spec.errors import StoreError, StudyLockedError
from tuner.spec.load import parse

OPEN = "from tuner.search.store.storage import open_storage; open_storage({url!r}, create=True); print('open')"


def starts(count: int, code: str) -> list[subprocess.Popen[str]]:
    return [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(count)
    ]


def integrity(path: str = "tuner.db") -> str:
    with closing(sqlite3.connect(path)) as store:
        return str(store.execute("PRAGMA integrity_check").fetchone()[0])


def test_six_processes_at_once_make_one_store(url: str) -> None:
    results = [process.communicate(timeout=60) for process in starts(6, OPEN.format(url=url))]
    assert [out for out, _ in results] == ["open\n"] * 6, results
    assert study_names(open_storage(url)) == []
    if url == DEFAULT_URL:
        assert integrity() == "ok"
        assert not list(Path().glob(".tuner.db.new*"))


@pytest.mark.parametrize("delay", few(0.7, 0.5, 0.9, mark=pytest.mark.long))
def test_a_kill_during_creation_leaves_none_or_a_whole_store(delay: float) -> None:
    (process,) = starts(1, OPEN.format(url=DEFAULT_URL))
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    open_storage(DEFAULT_URL, create=True)
    assert integrity() == "ok"


def test_sqlite_is_in_wal_mode_and_syncs_normally() -> None:
    storage: Any = open_storage(DEFAULT_URL, create=True)
    with storage._backend.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1


def test_a_store_that_is_not_there_is_not_made_by_looking(url: str) -> None:
    for _ in range(2):
        with pytest.raises(StoreError, match=r"no trial store"):
            open_storage(url)
    assert not list(Path().iterdir())


def test_a_schema_of_its_own_is_made_beside_another_programs_tables(postgres: str) -> None:
    """MLflow and Optuna both keep a table ``alembic_version``."""
    engine = sqlalchemy.create_engine(postgres, poolclass=sqlalchemy.pool.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('theirs')")
    for create in (False, True):
        with pytest.raises(StoreError, match="search_path"):
            open_storage(postgres, create=create)
    for schema in ("trials", "more"):
        beside = f"{postgres}&options=-csearch_path%3D{schema}"
        with pytest.raises(StoreError, match=f"expected one schema, got {schema}, public"):
            open_storage(f"{beside}%2Cpublic", create=True)
        Search(parse("name: base"), open_storage(beside, create=True)).ask()
        assert study_names(open_storage(beside)) == ["base"]
        with study_lock(beside, "base", Path("here")), study_lock(postgres, "base", Path("there")):
            pass  # another store, another driver
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "theirs"
        assert sqlalchemy.inspect(connection).get_table_names() == ["alembic_version"]
        connection.exec_driver_sql("CREATE SCHEMA postgres")
    with pytest.raises(StoreError, match="got postgres, public"):  # a schema of the user's name comes first
        open_storage(postgres, create=True)


def test_a_file_that_is_no_store_is_said_in_a_sentence() -> None:
    Path("tuner.db").write_text("not a database, but long enough to be read as one" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        open_storage(DEFAULT_URL)


def test_a_password_is_never_shown() -> None:
    with pytest.raises(StoreError) as caught:
        open_storage("postgresql+psycopg://me:secret@127.0.0.1:9/nothing")
    assert "secret" not in str(caught.value)


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert storage_url(None, None) == DEFAULT_URL
    assert storage_url(None, "sqlite:///yaml.db") == "sqlite:///yaml.db"
    monkeypatch.setenv("TUNER_STORAGE", "sqlite:///env.db")
    assert storage_url(None, "sqlite:///yaml.db") == "sqlite:///env.db"
    assert storage_url("sqlite:///flag.db", "sqlite:///yaml.db") == "sqlite:///flag.db"


@given(st.text(max_size=30))
def test_any_text_is_a_url_or_a_sentence(text: str) -> None:
    with suppress(StoreError):  # its own words, never SQLAlchemy's exception
        sqlite_file(text)


def test_one_driver_a_study(url: str, tmp_path: Path) -> None:
    with (
        study_lock(url, "a", tmp_path / "runs" / "a"),
        study_lock(url, "b", tmp_path / "runs" / "b"),
        pytest.raises(StudyLockedError, match=f"process {os.getpid()}"),
        study_lock(url, "a", tmp_path / "runs" / "a"),
    ):
        pass
    with study_lock(url, "a", tmp_path / "runs" / "a"):
        pass


def test_one_driver_a_study_whichever_folder_it_is_driven_from(url: str, tmp_path: Path) -> None:
    with (
        study_lock(url, "a", tmp_path / "here"),
        pytest.raises(StudyLockedError),
        study_lock(url, "a", tmp_path / "there"),
    ):
        pass


def test_a_dead_drivers_lock_is_free_at_once(url: str, tmp_path: Path) -> None:
    code = (
        "from tuner.search.store.lock import *; import time\n"
        f"with study_lock({url!r}, 'a', Path('runs/a')): print('held', flush=True); time.sleep(60)"
    )
    (process,) = starts(1, code)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.communicate()
    if url != DEFAULT_URL:
        time.sleep(0.5)  # until the server has heard of it
    with study_lock(url, "a", Path("runs/a")):
        pass


def test_an_unknown_study_gets_the_nearest_name(url: str) -> None:
    storage = open_storage(url, create=True)
    with pytest.raises(StoreError, match="The store is empty"):
        read_study(storage, "bse")
    Search(parse("name: base"), storage)
    assert study_names(storage) == ["base"]
    with pytest.raises(StoreError, match="Did you mean 'base'"):
        read_study(storage, "bse")


def test_a_study_of_optunas_own_is_left_to_optuna(url: str) -> None:
    import optuna

    storage = open_storage(url, create=True)
    optuna.create_study(study_name="theirs", storage=storage)
    with pytest.raises(StoreError, match="no spec"):
        read_study(storage, "theirs")


def test_a_database_of_something_else_is_left_alone() -> None:
    with closing(sqlite3.connect("app.db")) as store:
        store.execute("CREATE TABLE customers (name TEXT)")
        store.commit()
    before = Path("app.db").read_bytes()
    for create in (False, True):
        with pytest.raises(StoreError, match="no trial store"):
            open_storage("sqlite:///app.db", create=create)
    assert Path("app.db").read_bytes() == before


def test_a_study_of_optunas_own_is_not_taken_over(url: str) -> None:
    import optuna

    storage = open_storage(url, create=True)
    study = optuna.create_study(study_name="theirs", storage=storage)
    study.tell(study.ask(), 1.0)
    optuna.create_study(study_name="up", storage=storage, direction="maximize")
    for name in ("theirs", "up"):
        with pytest.raises(StoreError, match="not made by this platform"):
            Search(parse(f"name: {name}"), storage)


@pytest.mark.parametrize("url", ["sqlite://", "postgresql+psycopg://me:secret@127.0.0.1:9/x"])
def test_a_store_that_cannot_be_is_a_sentence_before_anything_runs(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught, study_lock(url, "a", tmp_path / "a"):
        open_storage(url, create=True)
    assert "secret" not in str(caught.value)


def test_a_study_may_change_while_it_has_no_trial(url: str) -> None:
    storage = open_storage(url, create=True)
    Search(parse("name: base"), storage)
    changed = Search(parse("name: base\ntrial: {batch: 4}"), storage)
    changed.hold_text("one")
    changed.hold_text("two")
    changed.ask()
    with pytest.raises(StoreError, match="text has changed"):
        changed.hold_text("three")


def test_seconds_on_another_kind_of_device_are_refused_and_tokens_are_not() -> None:
    for budget, refused in (("10 s", True), ("1M tokens", False)):
        search = Search(parse(f"name: base\ntrial: {{budget: {budget}}}"), open_storage(MEMORY_URL))
        search.hold_device("cpu, an old one")
        search.ask()
        with pytest.raises(StoreError, match="first trials ran on cpu, an old one") if refused else nullcontext():
            search.hold_device("a large GPU")
