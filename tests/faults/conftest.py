"""What the tests of faults share: a store of MLflow's, made once; making one takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.tracking.store import create


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    create(path)
    return path
