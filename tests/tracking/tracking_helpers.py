"""Shared by the tests of tracking: what MLflow's store really holds, and a gate before a real server."""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuner.spec.records import Measurement, Spent
from tuner.tracking.spool import SPOOL, read_spool

SPEC = {
    "model": {"depth": 2, "width": 64},
    "optim": {"lr": 1e-3, "betas": [0.9, 0.99]},
    "budget": "1M tokens",
}


@dataclass(frozen=True)
class Server:
    port: int
    folder: Path  # its working folder: mlflow.db and mlartifacts lie here


def serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start `mlflow server` in ``folder``; it answers when this returns."""
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    inherited = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--workers",
                "1",
            ],
            cwd=folder,
            env=inherited | settings,
            stdout=log,
            stderr=log,
        )
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return process
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)


def row(step: int, milestone: int | None = None, **metrics: float) -> Measurement:
    spent = Spent(step, step * 100, step * 1.5e6, step / 8)
    return Measurement(spent, metrics or {"train_loss": 5.0 - step / 64}, milestone)


def stored(database: Path, study: str) -> dict[int, dict[str, Any]]:
    """Trial -> its run as the SQLite file has it; fails where a trial has two runs or a point two rows."""
    with contextlib.closing(sqlite3.connect(database)) as db:
        runs = db.execute(
            "SELECT r.run_uuid, t.value, r.status, r.end_time, r.name FROM runs r "
            "JOIN tags t USING (run_uuid) "
            "WHERE t.key = 'tuner.trial' AND r.lifecycle_stage = 'active' AND t.value LIKE ?",
            (f"{study}/%",),
        ).fetchall()
        result: dict[int, dict[str, Any]] = {}
        for run, trial, status, end, name in runs:
            number = int(trial.rpartition("/")[2])
            assert number not in result, f"two runs of trial {number}"
            points = db.execute("SELECT key, step, value FROM metrics WHERE run_uuid = ?", (run,)).fetchall()
            twice = [point for point, times in Counter((k, s) for k, s, _ in points).items() if times > 1]
            assert not twice, f"stored twice: {twice[:5]}"
            result[number] = {
                "run": run,
                "status": status,
                "end": end,
                "name": name,
                "points": {(key, step): value for key, step, value in points},
                "params": dict(db.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run,))),
                "tags": dict(db.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run,))),
            }
        return result


def points_of(rows: tuple[Measurement, ...] | list[Measurement]) -> dict[tuple[str, int], float]:
    """What a store must hold of these rows: every finite metric, what was spent, the milestone."""
    points: dict[tuple[str, int], float] = {}
    for each in rows:
        values: dict[str, float] = {**each.metrics, **asdict(each.spent)}
        values.pop("steps")
        if each.milestone is not None:
            values["milestone"] = each.milestone
        points |= {(key, each.spent.steps): float(v) for key, v in values.items() if math.isfinite(v)}
    return points


def spooled(folder: Path, trial: int) -> dict[tuple[str, int], float]:
    return points_of(read_spool(folder / str(trial) / SPOOL).rows)


class Gate:
    """A TCP door before a server: `open` passes, `shut` refuses, `hang` takes calls and is silent."""

    def __init__(self, target: int, mode: str = "open") -> None:
        self._target = target
        with socket.socket() as probe:  # the port stays ours in name only while shut, as a dead server's does
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._listener: socket.socket | None = None
        self._links: list[socket.socket] = []
        self.mode = "shut"
        self.set(mode)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def set(self, mode: str) -> None:
        if mode != "shut" and self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()
        self.mode = mode
        if mode == "shut" and self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        if mode != "open":
            for link in self._links:
                with contextlib.suppress(OSError):
                    link.shutdown(socket.SHUT_RDWR)
            self._links.clear()

    def _serve(self, listener: socket.socket) -> None:
        held = []  # calls nobody answers
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listener.accept()
                if self.mode == "hang":
                    held.append(caller)
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._links += [caller, server]
                threading.Thread(target=_pump, args=(caller, server), daemon=True).start()
        for caller in held:
            caller.close()


def _pump(left: socket.socket, right: socket.socket) -> None:
    with left, right, selectors.DefaultSelector() as ready, contextlib.suppress(OSError):
        ready.register(left, selectors.EVENT_READ, right)
        ready.register(right, selectors.EVENT_READ, left)
        while True:
            for key, _ in ready.select():
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)


@contextlib.contextmanager
def gate(target: int, mode: str = "open") -> Iterator[Gate]:
    door = Gate(target, mode)
    try:
        yield door
    finally:
        door.set("shut")
