"""Half an hour of faults of all kinds, one every twenty seconds, on one real study: nothing lost, nothing stuck.

`pytest -n0 -m soak`; TUNER_SOAK_MINUTES says how long.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from study_job import hold_the_law, mirrored, outcome

from tuner.analysis.table import open_study
from tuner.spec.errors import StoreError

MINUTES = float(os.environ.get("TUNER_SOAK_MINUTES", "30"))
EVERY = 20.0
COMMAND = [sys.executable, "-m", "tuner.study", "small.yaml"]


def yaml(text: Path) -> str:
    return f"""
name: small
trial:
  data: {{source: text, path: "{text}", tokenizer: {{kind: char}}, context: 32, val_tokens: 2048}}
  model: {{depth: 2, width: 48}}
  batch: 8
  budget: 400k tokens
space:
  optim.lr: {{float: [1e-3, 1e-2], log: true}}
  batch: {{choice: [4, 8]}}
study: {{trials: 5000, milestones: 8, sampler: random, pruner: none, workers: 2, keep: 4, seed: 3, patience: 10 s}}
"""


class Soak:
    """A study's command, started again whenever it has ended, and what is done to it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rng, self.done = folder, random.Random(9), Counter[str]()
        self.lives: list[list[tuple[float, int]]] = []
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.lives.append([])
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(COMMAND, cwd=self.folder, stdout=log, stderr=log)

    def watch(self, seconds: float) -> None:
        """Look at memory and open files for so long, and start the command again where it has ended."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                self.process = self._start()
            with contextlib.suppress(psutil.NoSuchProcess):
                driver = psutil.Process(self.process.pid)
                self.lives[-1].append((driver.memory_info().rss / 1e6, driver.num_fds()))
            time.sleep(0.5)

    def workers(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return [one for child in psutil.Process(self.process.pid).children() for one in child.children()]
        return []

    def kill_a_worker(self) -> None:
        if found := self.workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                self.rng.choice(found).kill()

    def stop_a_worker(self) -> None:
        if found := self.workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                self.rng.choice(found).suspend()

    def kill_the_driver(self) -> None:
        self.process.kill()
        self.process.wait()

    def kill_all(self) -> None:
        found = self.workers()
        self.kill_the_driver()
        for one in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()

    def end_the_driver(self) -> None:
        self.process.send_signal(self.rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP]))
        self.process.wait(30)

    def lock_the_store(self) -> None:
        self._lock("tuner.db")

    def lock_mlflow(self) -> None:
        self._lock("mlflow.db")

    def _lock(self, name: str) -> None:
        store = sqlite3.connect(self.folder / name, timeout=30, isolation_level=None)
        with contextlib.closing(store), contextlib.suppress(sqlite3.OperationalError):
            store.execute("BEGIN EXCLUSIVE")
            time.sleep(5)
            store.execute("ROLLBACK")

    def damage_a_checkpoint(self) -> None:
        """A flipped byte in the newest checkpoint of a trial that runs, whose worker is killed then."""
        newest = sorted(self.folder.glob("runs/small/*/checkpoints/step-*/state.pt"), key=lambda p: p.stat().st_mtime)
        if newest:
            with contextlib.suppress(OSError):
                data = bytearray(newest[-1].read_bytes())
                data[self.rng.randrange(len(data))] ^= 255
                newest[-1].write_bytes(bytes(data))
        for one in self.workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()

    def finished(self) -> dict[int, tuple[str, float | None]]:
        with contextlib.suppress(StoreError):
            trials = open_study(f"sqlite:///{self.folder / 'tuner.db'}", "small").trials
            return {t.number: (t.state, t.value) for t in trials if t.state not in ("running", "queued")}
        return {}


@pytest.mark.soak
@pytest.mark.timeout(60 * MINUTES + 600)
def test_nothing_is_lost_or_stuck_in_half_an_hour_of_faults(
    tmp_path: Path, text_file: Path, figures: Callable[[str], None]
) -> None:
    (tmp_path / "small.yaml").write_text(yaml(text_file))
    soak = Soak(tmp_path)
    faults: list[Callable[[], Any]] = [
        soak.kill_a_worker,
        soak.stop_a_worker,
        soak.lock_the_store,
        soak.lock_mlflow,
        soak.damage_a_checkpoint,
        soak.kill_a_worker,
        soak.kill_the_driver,
        soak.kill_all,
        soak.end_the_driver,
    ]
    known: dict[int, tuple[str, float | None]] = {}
    until = time.monotonic() + 60 * MINUTES
    soak.watch(EVERY)
    while time.monotonic() < until:
        # drivers end in a third of the time only: memory must be seen to stay flat meanwhile
        early = (time.monotonic() - until) / (60 * MINUTES) < -1 / 3
        fault = soak.rng.choice(faults[:6] if early else faults)
        fault()
        soak.done[fault.__name__] += 1
        soak.watch(EVERY)
        found = soak.finished()
        assert all(found[number] == ended for number, ended in known.items()), "a finished trial has changed"
        known |= found
    soak.end_the_driver()
    spent = sum(state != "infeasible" for state, _ in soak.finished().values())
    again = subprocess.run([*COMMAND, "--set", f"study.trials={spent}"], cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    ended = outcome(tmp_path, "small")
    assert Counter(state for _, state, *_ in ended) == {"complete": len(ended)}
    assert all(soak.finished()[number] == one for number, one in known.items())
    assert {int(number): status for number, (status, _) in mirrored(tmp_path).items()} == {
        number: "FINISHED" for number, *_ in ended
    }
    hold_the_law(tmp_path, 4)
    life = max(soak.lives, key=len)
    first, last = life[len(life) // 5 : 2 * len(life) // 5], life[-len(life) // 5 :]
    memory, files = ([sorted(look[k] for look in part)[len(part) // 2] for part in (first, last)] for k in (0, 1))
    assert memory[1] < 1.15 * memory[0] + 10
    assert files[1] <= files[0] + 5
    figures(
        f"{MINUTES:g} minutes, {sum(soak.done.values())} faults ({dict(soak.done)}), {len(ended)} trials: all "
        f"complete, none lost or stuck; in {len(life) / 2:.0f} s a driver took {memory[0]:.0f} MB, {memory[1]:.0f}, "
        f"and had {files[0]} files open, then {files[1]}"
    )
