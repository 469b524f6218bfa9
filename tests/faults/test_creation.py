"""Stores made by many at once, and by processes that die while they make them: one store, whole, and no litter."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from crashing import start

from tuner.search.asktell import Search
from tuner.search.history import read_study
from tuner.search.store.storage import open_storage
from tuner.spec.errors import StoreError
from tuner.spec.load import parse
from tuner.tracking.store import connect, create

CROWD = 16


def open_both(folder: str, together: Any) -> None:
    """Open the trial store, and use it."""
    os.chdir(folder)
    together.wait(60)
    search = Search(parse("name: crowd"), open_storage("sqlite:///tuner.db", create=True))
    assert search.record().trials == ()


def open_mlflow(folder: str, together: Any) -> None:
    """Open MLflow's store, and use it."""
    os.chdir(folder)
    together.wait(60)
    assert [one.name for one in connect("sqlite:///mlflow.db").search_experiments()] == ["Default"]


def open_server(url: str, together: Any) -> None:
    """Open the trial store on a server, and use it."""
    together.wait(60)
    Search(parse("name: crowd"), open_storage(url, create=True)).ask()


def make_on_server(url: str, begun: str) -> None:
    Path(begun).touch()
    open_storage(url, create=True)


def make(folder: str) -> None:
    os.chdir(folder)
    Path("begun").touch()
    open_storage("sqlite:///tuner.db", create=True)


def crowd(job: Callable[[str, Any], None], place: Path | str) -> list[int | None]:
    """Sixteen processes do ``job`` at the same moment; their exit codes."""
    if isinstance(place, Path):
        place.mkdir()
    together = get_context("forkserver").Barrier(CROWD)
    processes = [start(job, str(place), together) for _ in range(CROWD)]
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def tables(path: Path) -> set[str]:
    """What a whole database has; fails where it is not whole."""
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {f"{kind} {name}" for kind, name in store.execute("SELECT type, name FROM sqlite_master")}


@cache
def expected() -> set[str]:
    path = Path("expected.db").absolute()
    open_storage(f"sqlite:///{path}", create=True)
    return tables(path)


def litter(folder: Path, name: str) -> set[str]:
    """What lies beside a database but its own lock and SQLite's files."""
    own = {name, f"{name}-wal", f"{name}-shm", f".{name}.lock"}
    return {path.name for path in folder.iterdir()} - own


def crowds(tmp_path: Path, times: int) -> None:
    for number in range(times):
        folder = tmp_path / str(number)
        assert crowd(open_both, folder) == [0] * CROWD
        assert tables(folder / "tuner.db") == expected()
        with contextlib.closing(sqlite3.connect(folder / "tuner.db")) as store:
            assert store.execute("SELECT study_name FROM studies").fetchall() == [("crowd",)]
        assert not litter(folder, "tuner.db")


def mlflow_crowds(tmp_path: Path, times: int) -> None:
    create(tmp_path / "mlflow.db")
    whole = tables(tmp_path / "mlflow.db")
    for number in range(times):
        folder = tmp_path / str(number)
        assert crowd(open_mlflow, folder) == [0] * CROWD
        assert tables(folder / "mlflow.db") == whole
        assert not litter(folder, "mlflow.db")


def kill_makers(tmp_path: Path, kills: int) -> Counter[str]:
    """Kill processes that make a store; what they left, each time taken up by the next opener."""
    rng, told = random.Random(kills), Counter[str]()
    for number in range(kills):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "tuner.db"
        process = start(make, str(folder))
        while not (folder / "begun").exists():
            assert process.is_alive(), process.exitcode
            process.join(0.001)
        process.join(rng.uniform(0.0, 0.25))
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        (folder / "begun").unlink()
        whole = path.exists()
        assert not whole or tables(path) == expected()
        told["whole" if whole else "half" if litter(folder, "tuner.db") else "none"] += 1
        storage: Any = open_storage(f"sqlite:///{path}", create=True)
        Search(parse("name: after"), storage).ask()
        storage.remove_session()
        storage._backend.engine.dispose()
        assert tables(path) == expected()
        assert not litter(folder, "tuner.db")
    return told


def test_sixteen_processes_at_once_make_one_trial_store(tmp_path: Path) -> None:
    crowds(tmp_path, 1)


def test_a_few_kills_during_creation_ruin_nothing(tmp_path: Path) -> None:
    kill_makers(tmp_path, 4)


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_sixteen_processes_twenty_times_make_one_trial_store_each_time(
    tmp_path: Path, figures: Callable[[str], None]
) -> None:
    crowds(tmp_path, 20)
    figures("20 times 16 processes open an empty trial store at once: 0 failures, one whole store each time")


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_sixteen_processes_and_kills_make_one_store_on_a_server(
    postgres: str, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    for number in range(5):
        url = f"{postgres}&options=-csearch_path%3Dcrowd{number}"
        assert crowd(open_server, url) == [0] * CROWD
        assert len(read_study(open_storage(url), "crowd").trials) == CROWD
    rng, unfinished = random.Random(8), 0
    for number in range(20):
        url = f"{postgres}&options=-csearch_path%3Dkilled{number}"
        process = start(make_on_server, url, str(tmp_path / str(number)))
        while not (tmp_path / str(number)).exists():
            process.join(0.001)
        process.join(rng.uniform(0.0, 0.4))
        process.kill()
        process.join()
        try:
            open_storage(url)
        except StoreError:
            unfinished += 1
        Search(parse("name: after"), open_storage(url, create=True)).ask()
    assert unfinished >= 5, "kills in the middle"
    figures(
        "5 times 16 processes open an empty store on PostgreSQL at once: 0 failures; 20 kills while one is made: "
        f"{unfinished} left it unfinished, and the next opener made it whole"
    )


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_sixteen_processes_five_times_make_one_mlflow_store_each_time(
    tmp_path: Path, figures: Callable[[str], None]
) -> None:
    mlflow_crowds(tmp_path, 5)
    figures("5 times 16 processes open an empty MLflow store at once: 0 failures, one whole store each time")


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_fifty_kills_during_creation_ruin_nothing(tmp_path: Path, figures: Callable[[str], None]) -> None:
    told = kill_makers(tmp_path, 50)
    assert told["half"] >= 5, "kills in the middle"
    figures(
        f"50 kills while a trial store is made: {told['none']} left nothing, {told['half']} a draft that the next "
        f"opener removed, {told['whole']} a whole store; 0 ruined"
    )
