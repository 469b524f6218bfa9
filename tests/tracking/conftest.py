"""One MLflow store made once and copied for each test; one real MLflow server for all tests that want one."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracking_helpers import Server, serve

from tuner.tracking.store import create


@pytest.fixture(scope="session")
def made_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    create(path)
    return path


@pytest.fixture
def database(made_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MLflow's SQLite file in the working folder of the test, as for a user who set nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Path(shutil.copy(made_store, tmp_path / "mlflow.db"))


@pytest.fixture(scope="session")
def server(made_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`mlflow server` told only host and port, in a folder with a store: what `mlflow ui` does."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(made_store, folder / "mlflow.db")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = serve(folder, port)
    try:
        yield Server(port, folder)
    finally:
        process.terminate()
        process.wait(15)
