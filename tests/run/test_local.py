"""The driver with real worker processes: killed, crashed and interrupted workers, and nothing changed by it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from cases import few
from study_helpers import Hook, drive, record, results, yaml

from tuner.run.driver import Ending
from tuner.run.fitting import Fitting
from tuner.run.hands import limits
from tuner.run.hands.limits import cores, memory_kills
from tuner.run.hands.link import DataJob, DevicesJob
from tuner.run.hands.local import SPINS, LocalWorkers, devices, plan_slots, warm_up
from tuner.run.hands.once import call
from tuner.spec.disk import bytes_in
from tuner.spec.errors import DataError, StudyStoppedError
from tuner.spec.load import parse
from tuner.spec.parts.data import DataSpec
from tuner.spec.records import CorpusInfo, Verdict
from tuner.study.plan import vocabulary
from tuner.train.machine.capacity import MACHINE, Capacity, divisions


@pytest.fixture(scope="module")
def text(text_file: Path) -> str:
    return yaml(text_file)


@pytest.fixture(scope="module")
def whole(text: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    """What the study comes to when nothing disturbs it."""
    folder = tmp_path_factory.mktemp("whole")
    driver, _ = drive(text, folder)
    assert driver.run() is Ending.COMPLETE
    return results(folder)


def test_threads_that_wait_soon_sleep_unless_the_user_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    warm_up()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    warm_up()
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    warm_up()
    assert os.environ["GOMP_SPINCOUNT"] == SPINS


@pytest.mark.parametrize(
    ("told", "most"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", None), ("-1 100000", None), ("", None)]
)
def test_a_container_may_use_as_many_cores_as_its_share_of_their_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, most: int | None
) -> None:
    inner, first = tmp_path / "slice" / "job", tmp_path / "cpu"
    inner.mkdir(parents=True)
    first.mkdir()
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(limits, "GROUPS", tmp_path)
    monkeypatch.setattr(limits, "GROUP", inner)
    (inner / "cpu.max").write_text("700000 100000\n")
    assert cores() == 7
    (inner.parent / "cpu.max").write_text(told + "\n")  # the smallest of those around it
    assert cores() == (most or 7)
    (inner.parent / "cpu.max").unlink()
    (inner / "cpu.max").unlink()
    for name, word in zip(("cpu.cfs_quota_us", "cpu.cfs_period_us"), told.split(), strict=False):
        (first / name).write_text(word + "\n")
    assert cores() == (most or 8)


def test_kills_by_memory_are_those_of_ones_own_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.events").write_text("low 0\noom 9\noom_kill 3\noom_group_kill 0\n")
    monkeypatch.setattr(limits, "GROUP", tmp_path)
    assert memory_kills() == 3
    (tmp_path / "memory.events").unlink()
    assert memory_kills() >= 0


def test_orders_for_a_trial_that_is_gone_are_nobodys() -> None:
    hands = LocalWorkers(["cpu"], 1)
    hands.kill(7)
    hands.interrupt(7)
    hands.answer(7, Verdict.STOP)


def test_trials_end_complete_with_checkpoints(whole: list[Any]) -> None:
    assert [(number, state) for number, state, _, _ in whole] == [(n, "complete") for n in range(4)]
    assert all(value is not None and sha256 for _, _, value, sha256 in whole)


@pytest.mark.parametrize("milestone", few(3, 1))
def test_a_killed_worker_goes_on_and_ends_bit_identical(
    text: str, whole: list[Any], tmp_path: Path, milestone: int
) -> None:
    killed: list[int] = []

    def act(number: int, reached: int) -> None:
        if number == 1 and reached == milestone and not killed:
            killed.append(hands.pids()[1])
            os.kill(killed[0], signal.SIGKILL)

    hook = Hook(act)
    driver, hands = drive(text, tmp_path, hook)
    assert driver.run() is Ending.COMPLETE
    assert killed
    assert any("trial 1" in sentence and "checkpoint" in sentence for sentence in hook.said)
    assert results(tmp_path) == whole


def test_an_interrupted_study_leaves_quickly_and_goes_on_bit_identical(
    text: str, whole: list[Any], tmp_path: Path
) -> None:
    hook = Hook(lambda number, reached: driver.stop() if reached == 2 and not hook.ends else None)
    driver, hands = drive(text, tmp_path, hook)
    began = time.monotonic()
    assert driver.run() is Ending.INTERRUPTED
    assert time.monotonic() - began < 10
    assert not hands.pids()
    assert {t.state for t in record(tmp_path).trials} <= {"running", "complete"}
    again = Hook()
    driver, _ = drive(text, tmp_path, again)
    assert driver.run() is Ending.COMPLETE
    assert again.resumed
    assert results(tmp_path) == whole


def test_a_segfault_ends_its_own_trial_only(text: str, tmp_path: Path) -> None:
    def act(number: int, reached: int) -> None:
        if number == 0 and reached == 1:
            os.kill(hands.pids()[0], signal.SIGSEGV)

    driver, hands = drive(text, tmp_path, Hook(act))
    assert driver.run() is Ending.COMPLETE
    trials = record(tmp_path).trials
    assert [t.state for t in trials] == ["failed", "complete", "complete", "complete"]
    assert "SIGSEGV" in trials[0].reason


def test_an_exception_is_a_failure_with_its_traceback_on_disk(text: str, tmp_path: Path, text_file: Path) -> None:
    driver, _ = drive(text, tmp_path)
    blocker = driver.folder / "0" / "checkpoints"
    blocker.parent.mkdir(parents=True)
    blocker.write_text("a file where a folder must be")
    assert driver.run() is Ending.COMPLETE
    trial = record(tmp_path).trials[0]
    assert trial.state == "failed"
    assert "checkpoints" in trial.reason
    assert "Traceback" in (driver.folder / "0" / "error.txt").read_text()


@pytest.mark.long
def test_only_the_best_keep_their_checkpoints(text_file: Path, tmp_path: Path) -> None:
    driver, _ = drive(yaml(text_file).replace("keep: 4", "keep: 1"), tmp_path)
    driver.run()
    best = record(tmp_path).ranked()[0].number
    kept = sorted(path.parent.name for path in driver.folder.glob("*/checkpoints"))
    assert kept == [str(best)]


@pytest.mark.long
def test_a_disk_cap_has_one_trial_wait_for_the_other_and_is_never_exceeded(text: str, tmp_path: Path) -> None:
    """There is room for one trial beside the best: the second worker stays idle, all four complete."""
    used, idle = [0], set[int]()

    def act(number: int, reached: int) -> None:
        used.append(sum(map(bytes_in, driver.folder.glob("*/checkpoints"))))
        idle.add(hands.idle)

    probe, _ = drive(text, tmp_path / "probe")
    call(DataJob(probe.spec.trial.data, probe.corpora))
    fitting = Fitting(None, lambda trial: vocabulary(trial, probe.corpora)[0])
    cap = int(1.6 * fitting.files(probe.spec.resolve({})))
    driver, hands = drive(text.replace("keep: 4", f"keep: 4, disk: {cap} B"), tmp_path, Hook(act))
    driver.fitting = fitting
    assert driver.run() is Ending.COMPLETE
    assert {state for _, state, _, _ in results(tmp_path)} == {"complete"}
    assert idle == {1}
    assert 0 < max(used) <= cap
    best = record(tmp_path).ranked()[0].number
    assert best in {int(path.parent.name) for path in driver.folder.glob("*/checkpoints")}


_DRIVER = """
import os, signal, sys, time
from pathlib import Path
import psutil
from tuner.run.hands.link import TrialJob
from tuner.run.hands.local import LocalWorkers
from tuner.run.hands.workers import Died
from tuner.spec.records import Measurement, Outcome, Started, Verdict
from tuner.spec.trial import TrialSpec
hands, here = LocalWorkers(["cpu"], 1), Path(sys.argv[1])
spec = TrialSpec.model_validate_json(sys.argv[2])
hands.start(TrialJob(0, spec, 4, here / "0", here / "corpora", "test"))
while not any(isinstance(event.message, Started) for event in hands.wait(1)):
    pass
(pid,) = hands.pids().values()
"""

_HANGS = """
os.kill(pid, signal.SIGSTOP)
print(pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

_SIGNALLED = """
for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    os.kill(psutil.Process(pid).ppid(), signum)
time.sleep(1)
hands.interrupt()
while hands.pids():
    for event in hands.wait(1):
        if isinstance(event.message, Measurement) and event.message.milestone is not None:
            hands.answer(0, Verdict.CONTINUE)
        elif isinstance(event.message, Died | Outcome):
            print(type(event.message).__name__)
"""


def told_by(folder: Path, text: str, rest: str) -> str:
    """What a driver of its own process, whose trial has started, says that does the ``rest``."""
    told = folder / "told"
    words = [sys.executable, "-c", _DRIVER + rest, folder, parse(text).trial.model_dump_json()]
    with told.open("w") as out:  # a pipe would be held open by the worker
        subprocess.run(words, stdout=out, timeout=100)
    return told.read_text().strip()


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel is asked for it")
def test_a_worker_that_hangs_ends_with_its_driver(text: str, tmp_path: Path) -> None:
    pid = int(told_by(tmp_path, text, _HANGS))
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.long
def test_what_ends_the_whole_group_leaves_the_fork_server_and_its_workers_alone(text: str, tmp_path: Path) -> None:
    """SIGTERM, as a batch system sends it to all; what it means is the driver's business."""
    assert told_by(tmp_path, text, _SIGNALLED) == "Outcome"


def test_a_data_job_answers_with_the_corpus_or_with_the_mistake(tmp_path: Path, text_file: Path) -> None:
    data = DataSpec.model_validate({"source": "text", "path": str(text_file), "tokenizer": {"kind": "byte"}})
    info = call(DataJob(data, tmp_path / "corpora"))
    assert isinstance(info, CorpusInfo)
    missing = DataSpec.model_validate({"source": "text", "path": "nowhere.txt"})
    assert isinstance(call(DataJob(missing, tmp_path / "corpora")), DataError)


def test_devices_are_named() -> None:
    devices = call(DevicesJob())
    assert isinstance(devices, dict)
    assert all(name in kind or name.startswith("cuda") for name, kind in devices.items())


def test_slots_share_out_devices_and_threads() -> None:
    assert plan_slots(None, ["cuda:0", "cuda:1"], 9)[0] == ["cuda:0", "cuda:1"]
    assert plan_slots(4, ["cuda:0", "cuda:1"], 9)[0] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    slots, threads = plan_slots(None, [], 9)
    assert 1 <= len(slots) * threads <= cores()
    assert plan_slots(3, [], 9)[0] == ["cpu"] * 3
    assert plan_slots(3, [], 1) == (["cpu"], cores())


@pytest.mark.long
def test_trials_too_large_in_truth_are_refused_in_milliseconds_once_their_shape_is_known(
    text: str, tmp_path: Path
) -> None:
    """The estimate is led to believe that all fits; one real step of each shape says that nothing does."""
    hook = Hook()
    driver, _ = drive(text, tmp_path, hook)
    device = next(iter(devices().values()))
    capacity = Capacity(50 * 10**6, device, tmp_path / "runs" / MACHINE)
    driver.fitting = Fitting(capacity, lambda trial: vocabulary(trial, driver.corpora)[0])
    call(DataJob(driver.spec.trial.data, driver.corpora))
    for batch in (4, 8):
        trial = driver.spec.resolve({"batch": batch})
        for parts in divisions(trial)[:3]:
            capacity.learn(trial, driver.fitting.vocab(trial), parts, 1)
    with pytest.raises(StudyStoppedError, match="cannot run"):
        driver.run()
    trials = [t for t in record(tmp_path).trials if t.state != "running"]  # the other worker's, when the study ended
    assert {t.state for t in trials} == {"infeasible"}
    ran = [t for t in trials if t.facts.get("device")]
    assert 1 <= len(ran) <= 6
    assert all("may take 50 MB" in t.reason for t in ran)
    assert any("tried once more" in sentence for sentence in hook.said)
    later = [t for t in trials if t.number > max(one.number for one in ran)]
    assert all("study.memory" in t.reason for t in later)
    seconds = sorted((t.ended - t.started).total_seconds() for t in later if t.ended and t.started)
    assert len(seconds) > 150
    print(f"refused in {1000 * seconds[len(seconds) // 2]:.1f} ms each (median of {len(seconds)})")
