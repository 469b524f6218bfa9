"""The driver killed at any instant, alone or with all its workers, or told to end: its books are right."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from crashing import run, start
from study_helpers import yaml
from study_job import hold_the_law, mirrored, outcome, study

from tuner.spec.errors import CheckpointError
from tuner.train import checkpoint


class Killed:
    """Runs a real study again and again, each time killed, until one run comes to its end."""

    def __init__(self, folder: Path, database: Path, text: str, seed: int) -> None:
        folder.mkdir()
        shutil.copy(database, folder / "mlflow.db")
        self.folder, self.text, self.rng, self.kills = folder, text, random.Random(seed), 0

    def until_done(self, together: bool, latest: float, most: int) -> None:
        """At most ``most`` kills, each soon after a start of ``latest`` seconds; ``together`` with all its workers."""
        while True:
            process = start(study, str(self.folder), self.text, real=True)
            process.join(self.rng.uniform(0.1, latest / 2) if self.kills < most else None)
            if process.exitcode is not None:
                assert process.exitcode == 0
                return
            self.kills += 1
            assert process.pid is not None
            family = psutil.Process(process.pid).children(recursive=True) if together else []
            os.kill(process.pid, signal.SIGKILL)
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            process.join()


def compare(kills: int, together: bool, text: str, tmp_path: Path, database: Path) -> int:
    """Kill over as many studies as it takes; how many studies that were."""
    whole = tmp_path / "whole"
    whole.mkdir()
    shutil.copy(database, whole / "mlflow.db")
    began = time.monotonic()
    assert run(study, str(whole), text, real=True) == 0
    seconds = time.monotonic() - began
    expected, points = outcome(whole, "small"), mirrored(whole, "val_loss")
    total = studies = 0
    while total < kills:
        studies += 1
        one = Killed(tmp_path / str(studies), database, text, seed=studies)
        one.until_done(together, seconds, kills - total)
        assert outcome(one.folder, "small") == expected
        assert mirrored(one.folder, "val_loss") == points
        hold_the_law(one.folder, len(expected))
        total += one.kills
    return studies


def test_a_driver_killed_with_all_its_workers_loses_and_doubles_nothing(
    tmp_path: Path, database: Path, text_file: Path
) -> None:
    compare(1, True, yaml(text_file, trials=2), tmp_path, database)


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("kills", "together"), [(50, False), (20, True)])
def test_a_driver_killed_again_and_again_loses_and_doubles_nothing(
    tmp_path: Path, database: Path, text_file: Path, kills: int, together: bool, figures: Callable[[str], None]
) -> None:
    studies = compare(kills, together, yaml(text_file), tmp_path, database)
    who = "the driver and all its workers at once" if together else "the driver"
    over = f"{studies} studies" if studies > 1 else "one study"
    figures(f"{who} killed {kills} times over {over}: every value, weight and MLflow point once")


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_in_the_middle_of_a_step_leaves_checkpoints_within_five_seconds(
    tmp_path: Path, text_file: Path, number: signal.Signals, record_property: Any
) -> None:
    (tmp_path / "small.yaml").write_text(yaml(text_file, trials=2, budget="4M tokens"))
    words = [sys.executable, "-m", "tuner.study", "small.yaml"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while len(list(tmp_path.glob("runs/small/*/spool.jsonl"))) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(1.0)
        process.send_signal(number)
        began = time.monotonic()
        code = process.wait(30)
        seconds = time.monotonic() - began
    assert code == 130
    assert seconds < 5
    for trial in (0, 1):
        found = checkpoint.sound(tmp_path / "runs" / "small" / str(trial), _never)
        assert found
        assert found[0].spent.steps > 0
    record_property("figures", f"{number.name}: checkpoints of two trials and a clean end in {seconds:.1f} s")


def _never(sentence: str) -> None:
    raise CheckpointError(sentence)
