"""What every test shares: an empty working folder, no settings of the user's, and a small text."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# the machine is shared: how long an example takes says nothing about the code
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test works in its own folder, with neither store nor tracking server of the user's."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "TUNER_STORAGE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 kB of made-up sentences: enough structure for a loss to fall."""
    rng = random.Random(7)
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "every", "bird", "fly", "home", "again"]
    path = tmp_path_factory.mktemp("text") / "sentences.txt"
    path.write_text("\n".join(" ".join(rng.choices(words, k=rng.randint(4, 12))) + "." for _ in range(1600)))
    return path
