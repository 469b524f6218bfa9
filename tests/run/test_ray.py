"""Trials on a Ray cluster of two nodes on this machine: they come to what this machine's own hands make of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from commands import TUNER, run
from study_helpers import Hook, drive, record, results, yaml

from tuner.run.driver import Driver, Ending
from tuner.run.folder import claim
from tuner.run.hands.cluster.ray import RayWorkers
from tuner.run.hands.cluster.slot import Place
from tuner.spec.errors import TunerError
from tuner.spec.parts.settings import ResourceSettings

pytest.importorskip("ray", reason="Ray is not installed (pip install -e '.[ray]')")

SMALL = 100 * 2**20
"""Bytes of a node's object store: nothing of ours goes through it."""

LOOPBACK = {"node_ip_address": "127.0.0.1"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that trains nothing, and no other node yet; whoever has no token is nobody there."""
    from ray._private import authentication_test_utils as authentication
    from ray.cluster_utils import Cluster

    with authentication.authentication_env_guard(), pytest.MonkeyPatch.context() as ours:
        ours.setattr("ray._private.services.resolve_ip_for_localhost", lambda host: host)  # not what others reach
        authentication.set_auth_mode("token")
        authentication.set_env_auth_token(secrets.token_hex(32))
        authentication.reset_auth_token_state()
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": SMALL, **LOOPBACK}
        made = Cluster(initialize_head=True, head_node_args=head)
        yield made
        made.shutdown()
    authentication.reset_auth_token_state()


@pytest.fixture
def node(cluster: Any) -> Iterator[Callable[[], Any]]:
    """Adds a node with room for one trial; the nodes are gone at the end."""
    added = []

    def add() -> Any:
        added.append(cluster.add_node(num_cpus=1, object_store_memory=SMALL, **LOOPBACK))
        cluster.wait_for_nodes()
        return added[-1]

    yield add
    for one in added:
        with contextlib.suppress(KeyError):  # a test has ended it
            cluster.remove_node(one)


@contextlib.contextmanager
def driven(
    cluster: Any, text: str, folder: Path, hook: Hook, depot: str | None = None, most: int | None = None
) -> Iterator[Driver]:
    """A driver on that cluster, ready to run."""
    driver, _ = drive(text, folder, hook)
    driver.folder.mkdir(parents=True, exist_ok=True)
    claim(driver.folder, driver.search.origin, None)
    place = Place(folder, driver.search.origin.id, depot)
    hands = RayWorkers(cluster.address, 1, most, ResourceSettings(), place)
    driver.workers = hands
    try:
        yield driver
    finally:
        hands.close()


@pytest.mark.timeout(480)
@pytest.mark.parametrize(
    "shared", [pytest.param(True, marks=pytest.mark.long), pytest.param(False, marks=pytest.mark.slow)]
)
def test_a_node_lost_in_the_middle_changes_nothing(
    cluster: Any, node: Callable[[], Any], text_file: Path, tmp_path: Path, shared: bool
) -> None:
    """The nodes share the study's folder, or reach a depot only."""
    text = yaml(text_file, budget="48k tokens")
    alone, _ = drive(text, tmp_path / "here")
    assert alone.run() is Ending.COMPLETE
    depot = None if shared else f"file://{tmp_path}/depot"
    kept, lost = node(), node()
    assert kept is not lost
    reached: dict[int, int] = {}

    def act(number: int, milestone: int) -> None:
        reached[number] = milestone
        if len(reached) == 2 and not gone:  # each has a checkpoint, and most of its way before it
            gone.append(number)
            cluster.remove_node(lost, allow_graceful=False)

    gone: list[int] = []
    hook = Hook(act)
    with driven(cluster, text, tmp_path / "there", hook, depot) as driver:
        assert driver.workers.slots == 2
        assert driver.run() is Ending.COMPLETE
    assert any("Ray cluster is gone" in sentence and "last checkpoint" in sentence for sentence in hook.said), hook.said
    assert hook.resumed
    assert hook.resumed[0][1] > 0
    assert results(tmp_path / "there") == results(tmp_path / "here")
    for number in range(4):
        names = [
            sorted(path.name for path in (tmp_path / who / "runs" / "small" / str(number) / "checkpoints").iterdir())
            for who in ("here", "there")
        ]
        assert names[0] == names[1]
    assert not list(tmp_path.glob("depot/*/*/checkpoints/step-*"))


@pytest.mark.slow
def test_an_interrupted_study_leaves_with_checkpoints_and_goes_on(
    cluster: Any, node: Callable[[], Any], text_file: Path, tmp_path: Path
) -> None:
    node()
    text = yaml(text_file, trials=1)
    hook = Hook(lambda number, milestone: driver.stop() if milestone == 2 else None)
    with driven(cluster, text, tmp_path, hook) as driver:
        began = time.monotonic()
        assert driver.run() is Ending.INTERRUPTED
        assert time.monotonic() - began < 60
    assert [trial.state for trial in record(tmp_path).trials] == ["running"]
    hook = Hook()
    with driven(cluster, text, tmp_path, hook) as driver:
        assert driver.run() is Ending.COMPLETE
    assert hook.resumed
    assert [trial.state for trial in record(tmp_path).trials] == ["complete"]


@pytest.mark.slow
def test_a_pruned_trial_ends_and_a_crash_is_its_own(
    cluster: Any, node: Callable[[], Any], text_file: Path, tmp_path: Path
) -> None:
    node()

    def act(number: int, milestone: int) -> None:
        if number == 0:
            driver._condemn(0, "a test wants it to end")
        elif milestone == 1:
            os.kill(worker_of(driver), signal.SIGSEGV)

    with driven(cluster, yaml(text_file, trials=2), tmp_path, Hook(act)) as driver:
        assert driver.run() is Ending.COMPLETE
    assert [(t.state, t.reason) for t in record(tmp_path).trials] == [
        ("pruned", "a test wants it to end"),
        ("failed", "the worker died of signal SIGSEGV"),
    ]


def worker_of(driver: Driver) -> int:
    """The process that trains, wherever below us Ray has put it: the one that works in the trial's folder."""
    lock = str(driver.folder / "1" / "trial.lock")
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(opened.path == lock for opened in process.open_files()):
                return process.pid
    raise AssertionError("nobody trains")


@pytest.mark.long
def test_a_node_that_does_not_see_the_folder_is_a_sentence(
    cluster: Any, node: Callable[[], Any], text_file: Path, tmp_path: Path
) -> None:
    node()
    with driven(cluster, yaml(text_file), tmp_path, Hook()) as driver:
        (driver.folder / "study.json").unlink()
        with pytest.raises(TunerError, match=r"all nodes need that folder, or study\.depot"):
            driver.run()


@pytest.mark.long
def test_what_no_node_has_room_for_is_a_sentence(cluster: Any, node: Callable[[], Any]) -> None:
    node()
    with pytest.raises(TunerError, match=r"no node of the Ray cluster has 64 CPUs, 0 GPUs for a trial.*it has \d CPUs"):
        RayWorkers(cluster.address, 1, None, ResourceSettings(cpus=64), Place(Path.cwd()))


@pytest.mark.long
@pytest.mark.parametrize("address", ["ray://127.0.0.1:1", "127.0.0.1:1", "somewhere"])
def test_a_cluster_that_is_not_there_is_a_sentence(text_file: Path, tmp_path: Path, address: str) -> None:
    (tmp_path / "small.yaml").write_text(yaml(text_file))
    ended = run(tmp_path, *TUNER, "study", "small.yaml", "--ray", address)
    assert ended.returncode == 1
    assert f"no Ray cluster at '{address}'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "on the Ray cluster" in ended.stdout


@pytest.mark.slow
def test_more_trials_at_once_than_there_is_room_for_all_end(
    cluster: Any, node: Callable[[], Any], text_file: Path, tmp_path: Path
) -> None:
    """Three slots are wanted, one node has room for one: the trials that wait take the slot that the others leave."""
    node()
    hook = Hook()
    with driven(cluster, yaml(text_file, trials=3), tmp_path, hook, most=3) as driver:
        assert driver.workers.idle == 3
        assert driver.run() is Ending.COMPLETE
    assert [trial.state for trial in record(tmp_path).trials] == ["complete"] * 3


@pytest.mark.slow
def test_a_trial_that_waits_for_room_leaves_without_it(
    cluster: Any, node: Callable[[], Any], text_file: Path, tmp_path: Path
) -> None:
    """One node, two trials at once: while the first trains, the second is pruned, or the study is stopped."""
    node()

    def act(number: int, milestone: int) -> None:
        if number == 0 and milestone == 1:
            driver._condemn(1, "a test wants it to end")
        elif number == 0 and milestone == 3:
            driver.stop()

    with driven(cluster, yaml(text_file, trials=3), tmp_path, Hook(act), most=2) as driver:
        assert driver.run() is Ending.INTERRUPTED
    first, second, third = record(tmp_path).trials
    assert (first.state, third.state) == ("running", "running")
    assert (second.state, second.reason) == ("pruned", "a test wants it to end")
    with driven(cluster, yaml(text_file, trials=3), tmp_path, Hook()) as driver:
        assert driver.run() is Ending.COMPLETE
    assert [trial.state for trial in record(tmp_path).trials] == ["complete", "pruned", "complete"]
