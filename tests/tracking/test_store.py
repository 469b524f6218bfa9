"""Where MLflow lives, and that its file is whole whoever makes it and whenever that one dies."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from tuner.spec.errors import StoreError
from tuner.tracking import store
from tuner.tracking.store import connect, create, location, shown, sqlite_path


def test_the_environment_wins_then_the_yaml_then_mlflows_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert location() == "sqlite:///mlflow.db"
    assert location("http://a:1") == "http://a:1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://b:2")
    assert location("http://a:1") == "http://b:2"


def test_passwords_are_not_shown() -> None:
    assert shown("postgresql://me:secret@host:5432/db?sslmode=off") == "postgresql://host:5432/db?sslmode=off"
    assert shown("postgresql+psycopg://me:a@b@/db?host=/tmp/x@y") == "postgresql+psycopg:///db?host=/tmp/x@y"
    for plain in ("sqlite:///mlflow.db", "sqlite:////a@b/mlflow.db", "mlruns", "file:///a@b"):
        assert shown(plain) == plain


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:///a.db", "{cwd}/a.db"),
        ("sqlite:////x/a.db?timeout=5", "/x/a.db"),
        ("sqlite+pysqlite:///sub/a%20b.db", "{cwd}/sub/a b.db"),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("http://127.0.0.1:5000", None),
        ("postgresql://u@h/d", None),
    ],
)
def test_the_file_behind_a_uri(uri: str, path: str | None) -> None:
    found = sqlite_path(uri)
    assert found == (Path(path.format(cwd=Path.cwd())) if path else None)


def test_a_client_in_a_folder_with_a_strange_name_uses_that_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my 50% folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    client = connect("sqlite:///mlflow.db")
    experiment = client.get_experiment(client.create_experiment("one"))
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", ".mlflow.db.lock"}
    assert experiment.artifact_location == f"{folder}/mlruns/1"  # as MLflow itself puts it


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "tuner.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE studies (id INTEGER)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"studies.*a file of its own"):
        create(path)
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match="expected MLflow's SQLite file"):
        create(path)
    assert before != path.read_bytes() == b"not a database at all" * 100


def _forked(work: object, *arguments: object) -> int:
    """Run ``work`` in a child that is a copy of this process, so that MLflow is loaded already."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work(*arguments)  # type: ignore[operator]
        status = 0
    finally:
        os._exit(status)


def test_a_store_whose_writer_was_killed_in_the_middle_is_taken_up(made_store: Path, tmp_path: Path) -> None:
    """SQLite must undo the half-done write first, which a read-only opening cannot."""
    path = Path(shutil.copy(made_store, tmp_path / "mlflow.db"))

    def die_writing() -> None:
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("PRAGMA cache_size = 1")  # so that the file itself is half written
        database.execute("BEGIN")
        database.executemany("INSERT INTO metrics VALUES (?, 1, 1, 'r', 1, 0)", ((str(i),) for i in range(5000)))
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(_forked(die_writing), 0)
    assert path.with_name("mlflow.db-journal").stat().st_size > 0
    create(path)
    assert not path.with_name("mlflow.db-journal").exists()
    assert _tables(path) == _tables(made_store)


def test_sixteen_processes_at_once_make_one_store(made_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    children = [_forked(create, path) for _ in range(16)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 16
    assert _tables(path) == _tables(made_store)
    assert {p.name for p in tmp_path.iterdir()} == {"mlflow.db", ".mlflow.db.lock"}


def test_a_kill_in_the_middle_leaves_nothing_or_a_whole_store(made_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    rng = random.Random(5)
    for _ in range(3):
        child = _forked(create, path)
        time.sleep(rng.uniform(0.02, 0.7))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert not path.exists() or _tables(path) == _tables(made_store)
    create(path)
    assert _tables(path) == _tables(made_store)


def _tables(path: Path) -> set[str]:
    database = sqlite3.connect(path)
    try:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {f"{kind} {name}" for kind, name in database.execute("SELECT type, name FROM sqlite_master")}
    finally:
        database.close()


def test_a_uri_that_is_none_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://[x")
    with pytest.raises(StoreError, match="cannot be read"):
        store.location()


def test_the_end_waits_for_a_file_that_can_be_written_and_hardly_for_anything_else(tmp_path: Path) -> None:
    assert store.patience(f"sqlite:///{tmp_path}/mlflow.db", hurried=False) == 60
    assert store.patience("sqlite:////nowhere/mlflow.db", hurried=False) < 5
    assert store.patience("http://127.0.0.1:9", hurried=False) < 5
    assert store.patience(f"sqlite:///{tmp_path}/mlflow.db", hurried=True) < 3
