"""A real MLflow server behind a gate that shuts and hangs: training never waits, later nothing is missing."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock
from tracking_helpers import SPEC, Server, gate, row, serve, spooled, stored

from tuner.spec.errors import StoreError
from tuner.spec.records import Outcome, State
from tuner.tracking.mirror import SyncReport, sync
from tuner.tracking.tracker import StudyTracker

DONE = Outcome(State.COMPLETE)
SLOWEST_CALL_S = 0.25  # on a busy machine; a call that waited for the server would take 1 s at least


@pytest.fixture(autouse=True)
def _quick_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own settings win: no retries inside MLflow, so that an outage is seen at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def write(memory: StudyTracker, trial: int, steps: range) -> float:
    """Write rows; the longest call in seconds."""
    longest = 0.0
    for step in steps:
        begun = time.perf_counter()
        assert memory.row(trial, row(step, step // 10 if step % 10 == 0 else None))
        longest = max(longest, time.perf_counter() - begun)
    return longest


def wait_until(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_over_http_all_is_as_in_the_spool(server: Server) -> None:
    memory = StudyTracker(Path("runs/http"), "http", f"http://127.0.0.1:{server.port}", print, interval=0.05)
    memory.start(0, {}, {"empty": ""}, SPEC | {"long": "é" * 9000})
    write(memory, 0, range(1, 301))
    memory.finish(0, Outcome(State.DIVERGED, "the loss is not a number"), {})
    assert memory.close(10) == 0
    run = stored(server.folder / "mlflow.db", "http")[0]
    assert run["points"] == spooled(Path("runs/http"), 0)
    assert (run["status"], run["tags"]["tuner.state"], run["tags"]["empty"]) == ("FAILED", "diverged", "")
    assert run["params"]["long"].endswith("(cut, 9000 characters)")
    assert artifact(server, run["run"]) == SPEC | {"long": "é" * 9000}


def test_mlflow_ui_in_the_same_folder_shows_what_was_written_without_a_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(server.folder)
    memory = StudyTracker(Path("runs/local"), "local", "sqlite:///mlflow.db", print, interval=0.05)
    memory.start(0, {}, {}, SPEC)
    write(memory, 0, range(1, 4))
    memory.finish(0, DONE, {})
    assert memory.close() == 0
    url = f"http://127.0.0.1:{server.port}/api/2.0/mlflow/runs/get?run_id={memory.runs()[0]}"
    with urllib.request.urlopen(url, timeout=5) as answer:
        run = json.load(answer)["run"]
    assert {m["key"]: m["value"] for m in run["data"]["metrics"]}["tokens"] == 300
    assert artifact(server, memory.runs()[0]) == SPEC


def artifact(server: Server, run: str) -> Any:
    query = urllib.parse.urlencode({"path": "spec.json", "run_uuid": run})
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/get-artifact?{query}", timeout=5) as answer:
        return json.load(answer)


def test_a_server_absent_from_the_start_costs_nothing_and_sync_completes(server: Server) -> None:
    said: list[str] = []
    with gate(server.port, "shut") as door:
        memory = StudyTracker(Path("runs/absent"), "absent", door.uri, said.append, interval=0.02)
        memory.start(0, {}, {}, SPEC)
        longest = write(memory, 0, range(1, 101))
        wait_until(lambda: said)
        longest = max(longest, write(memory, 0, range(101, 201)))
        memory.finish(0, DONE, {})
        begun = time.perf_counter()
        assert memory.close(2.0) == 202  # start, rows, finish
        assert time.perf_counter() - begun < 2.5
        assert longest < SLOWEST_CALL_S
        assert len(said) == 1
        assert "Connection refused" in said[0]
        assert "`tuner sync absent`" in said[0]
        with FileLock("runs/absent/.mirror.lock", timeout=60):  # the thread is still at its last try, on a busy machine
            pass
        with pytest.raises(StoreError, match="Connection refused"):
            sync(Path("runs/absent"), door.uri)
        door.set("open")
        assert sync(Path("runs/absent"), door.uri) == SyncReport(1, 200, 0, 0, 0)
        assert sync(Path("runs/absent"), door.uri) == SyncReport(1, 0, 200, 0, 0)
    run = stored(server.folder / "mlflow.db", "absent")[0]
    assert (run["points"], run["status"]) == (spooled(Path("runs/absent"), 0), "FINISHED")


def test_a_server_that_dies_and_comes_back_gets_every_point_once(server: Server) -> None:
    said: list[str] = []
    with gate(server.port) as door:
        memory = StudyTracker(Path("runs/dies"), "dies", door.uri, said.append, interval=0.02)
        memory.start(0, {}, {}, SPEC)
        write(memory, 0, range(1, 51))
        wait_until(memory.runs)
        door.set("shut")
        assert write(memory, 0, range(51, 101)) < SLOWEST_CALL_S
        wait_until(lambda: said)
        door.set("open")
        wait_until(lambda: len(said) > 1)
        write(memory, 0, range(101, 111))
        memory.finish(0, DONE, {})
        assert memory.close() == 0
    assert ["cannot be written" in said[0], "takes points again" in said[1], len(said)] == [True, True, 2]
    run = stored(server.folder / "mlflow.db", "dies")[0]
    assert (run["points"], run["status"]) == (spooled(Path("runs/dies"), 0), "FINISHED")


def test_a_server_that_hangs_delays_neither_rows_nor_the_end(server: Server) -> None:
    with gate(server.port) as door:
        memory = StudyTracker(Path("runs/hangs"), "hangs", door.uri, lambda _: None, interval=0.02)
        memory.start(0, {}, {}, SPEC)
        write(memory, 0, range(1, 11))
        wait_until(memory.runs)
        door.set("hang")
        assert write(memory, 0, range(11, 61)) < SLOWEST_CALL_S
        time.sleep(0.1)
        begun = time.perf_counter()
        assert memory.close(0.5) > 0
        assert time.perf_counter() - begun < 0.75


DRIVER = """
import sys, time
from pathlib import Path
from tuner.spec.records import Measurement, Outcome, Spent, State
from tuner.tracking.tracker import StudyTracker
assert "mlflow" not in sys.modules
memory = StudyTracker(Path("runs/x"), "x", sys.argv[1], lambda sentence: None)
memory.start(0, {}, {}, {})
for step in range(1, 101):
    memory.row(0, Measurement(Spent(step), {"loss": 1.0}))
memory.finish(0, Outcome(State.COMPLETE), {})
time.sleep(float(sys.argv[2]))
begun = time.monotonic()
left = memory.close(float(sys.argv[3]))
Path("left").write_text(f"{left} {time.monotonic() - begun}")
Path("end").write_text(str(time.time()))
"""


@pytest.mark.parametrize(
    ("mode", "seconds"),
    [
        ("hang", 0.2),
        pytest.param("hang", 4.0, marks=pytest.mark.slow),
        pytest.param("shut", 4.0, marks=pytest.mark.slow),
    ],
)
def test_a_whole_process_ends_in_time_and_in_silence(server: Server, mode: str, seconds: float) -> None:
    """With MLflow's own settings: in the short case the process ends while MLflow is still being imported."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    with gate(server.port, mode) as door:
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, door.uri, str(seconds), str(seconds)],
            env=inherited,
            capture_output=True,
            timeout=60,
            check=True,
        )
    left, closing = Path("left").read_text().split()
    assert (done.stdout, done.stderr) == (b"", b"")
    assert left == "102"
    assert float(closing) < seconds + 0.5
    assert time.time() - float(Path("end").read_text()) < 1.0


@pytest.mark.faults
@pytest.mark.timeout(200)
def test_a_server_away_for_a_minute_gets_every_point_once(server: Server, figures: Callable[[str], None]) -> None:
    """Rows go on at forty a second; what a row costs is held against a training step of 25 ms."""
    said: list[str] = []
    costs: dict[bool, list[float]] = {True: [], False: []}
    with gate(server.port) as door:
        memory = StudyTracker(Path("runs/minute"), "minute", door.uri, said.append, interval=0.2)
        memory.start(0, {}, {}, SPEC)
        began, step = time.monotonic(), 0
        while (passed := time.monotonic() - began) < 80:
            away = 10 < passed < 70
            if away != (door.mode == "shut"):
                door.set("shut" if away else "open")
            step += 1
            before = time.perf_counter()
            memory.row(0, row(step, step // 100 if step % 100 == 0 else None))
            costs[away].append(time.perf_counter() - before)
            time.sleep(0.025)
        memory.finish(0, DONE, {})
        before = time.perf_counter()
        assert memory.close(30) == 0
        caught_up = time.perf_counter() - before
    assert stored(server.folder / "mlflow.db", "minute")[0]["points"] == spooled(Path("runs/minute"), 0)
    assert len(said) == 2
    here, there = (1000 * statistics.median(costs[away]) for away in (False, True))
    assert there - here < 0.25  # 1 % of a step
    assert caught_up < 5
    figures(
        f"MLflow away for 60 s: a row costs {there:.2f} ms against {here:.2f} ms, all {step} rows stored once, "
        f"{caught_up:.1f} s to catch up at the end"
    )


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_server_killed_in_its_batches_gets_every_point_once(
    made_store: Path, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    shutil.copy(made_store, folder / "mlflow.db")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    rng, kills, step = random.Random(2), 0, 0
    process = serve(folder, port)
    memory = StudyTracker(Path("runs/killed"), "killed", f"http://127.0.0.1:{port}", lambda _: None, interval=0.02)
    try:
        memory.start(0, {}, {}, SPEC)
        while kills < 6:
            until = time.monotonic() + rng.uniform(0.5, 2.0)
            while time.monotonic() < until:
                step += 1
                memory.row(0, row(step))
                time.sleep(0.002)
            for member in psutil.Process(process.pid).children(recursive=True):
                member.kill()
            process.kill()
            process.wait()
            kills += 1
            process = serve(folder, port)
        memory.finish(0, DONE, {})
        until = time.monotonic() + 60
        while memory.close(10) and time.monotonic() < until:
            pass
    finally:
        for member in psutil.Process(process.pid).children(recursive=True):
            member.kill()
        process.kill()
        process.wait()
    assert stored(folder / "mlflow.db", "killed")[0]["points"] == spooled(Path("runs/killed"), 0)
    figures(f"MLflow's server killed {kills} times in its batches: {step} rows, each point once")
