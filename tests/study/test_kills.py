"""kill -9 of a worker or of the driver at random instants of a whole study, from its first file to its last."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

STUDY = [sys.executable, "-m", "tuner.study", "small.yaml"]
TRIALS = [sys.executable, "-m", "tuner.cli.main", "trials", "small", "--json"]


def yaml(text: Path) -> str:
    """Points that depend on seed and number alone, no pruning, dropout on, several epochs."""
    return f"""
name: small
trial:
  data: {{source: text, path: "{text}", tokenizer: {{kind: bpe, vocab: 300}}, context: 16, val_tokens: 1024}}
  model: {{depth: 1, width: 32, dropout: 0.2}}
  batch: 8
  budget: 60k tokens
space:
  optim.lr: {{float: [1e-3, 1e-2], log: true}}
study: {{trials: 4, milestones: 5, sampler: random, pruner: none, workers: 2, keep: 4, seed: 3}}
"""


def outcome(folder: Path) -> list[tuple[Any, ...]]:
    """What must not depend on interruptions: number, state, value, milestones, weights."""
    done = subprocess.run(TRIALS, cwd=folder, capture_output=True, text=True, check=True)
    trials = sorted(json.loads(done.stdout), key=lambda trial: trial["number"])
    return [(t["number"], t["state"], t["value"], t["milestones"], t["facts"]["checkpoint_sha256"]) for t in trials]


def mirrored(folder: Path) -> dict[int, tuple[str, list[tuple[str, int, float]]]]:
    """Trial -> MLflow status and every point of the metrics that do not measure time."""
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store:
        runs = store.execute(
            "SELECT r.run_uuid, r.status, t.value FROM runs r JOIN tags t ON r.run_uuid = t.run_uuid "
            "WHERE t.key = 'tuner.number'"
        ).fetchall()
        assert len(runs) == len({number for _, _, number in runs}), "one run a trial"
        points = "SELECT key, step, value FROM metrics WHERE run_uuid = ? AND key IN ('val_loss', 'train_loss', 'lr')"
        return {int(number): (status, sorted(store.execute(points, (run,)).fetchall())) for run, status, number in runs}


def workers(driver: int) -> list[psutil.Process]:
    """The driver's worker processes: the children of its fork server."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [grandchild for child in psutil.Process(driver).children() for grandchild in child.children()]
    return []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> tuple[Any, Any, float]:
    folder = tmp_path_factory.mktemp("whole")
    (folder / "small.yaml").write_text(yaml(text_file))
    began = time.monotonic()
    subprocess.run(STUDY, cwd=folder, check=True, capture_output=True)
    return outcome(folder), mirrored(folder), time.monotonic() - began


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("victim", ["driver", "worker"])
@pytest.mark.parametrize("number", range(10))
def test_a_kill_at_a_random_instant_changes_nothing(
    tmp_path: Path, text_file: Path, whole: tuple[Any, Any, float], victim: str, number: int
) -> None:
    expected, points, seconds = whole
    (tmp_path / "small.yaml").write_text(yaml(text_file))
    instant = random.Random(f"{victim}{number}").uniform(0, seconds)
    with subprocess.Popen(STUDY, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(instant)
        if victim == "driver":
            process.kill()
        elif found := workers(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.Random(number).choice(found).pid, signal.SIGKILL)
        process.wait()
    again = subprocess.run(STUDY, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert outcome(tmp_path) == expected
    assert mirrored(tmp_path) == points
