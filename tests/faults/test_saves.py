"""kill -9 while checkpoints are written, at random instants: none is torn, and the next start leaves no litter."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from crashing import mounted, start

from tuner.spec.records import Spent
from tuner.train import checkpoint

BEGUN = "begun"


def save_on(trial: str, begun: str, temporary: str | None, again: bool) -> None:
    """Clean up as a trial does that goes on, then save until killed: each number in a checkpoint is its step."""
    if temporary is not None:
        os.environ["TMPDIR"] = temporary
        tempfile.tempdir = None
        assert Path(tempfile.gettempdir()) == Path(temporary)
    found = checkpoint.sound(Path(trial))
    litter = len(list(checkpoint.checkpoints(Path(trial)).glob(".tmp-*")))
    Path(begun).write_text(str(litter))
    for step in itertools.count(found[0].spent.steps + 1 if found else 1):
        for reached in (1, 2) if again else (1,):
            weights = {name: torch.full((256, 128), float(step)) for name in "abcd"}
            state = {"moments": [torch.full((256, 256), float(step)) for _ in range(2)]}
            checkpoint.save(Path(trial), weights, state, {"step": step}, Spent(step), reached, None)


def whole(saved: checkpoint.Saved) -> bool:
    """Whether every number in it is its step."""
    weights, state = checkpoint.load(saved)
    tensors = [*weights.values(), *state["moments"]]
    return all(bool((tensor == saved.spent.steps).all()) for tensor in tensors)


def kill_saves(folder: Path, kills: int, temporary: Path | None = None, again: bool = False) -> Counter[str]:
    """Kill ``kills`` processes that save; how many checkpoints they made, how many kills left litter."""
    trial, begun, rng, told = folder / "trial", folder / BEGUN, random.Random(kills), Counter[str]()
    root, newest = checkpoint.checkpoints(trial), 0
    for _ in range(kills):
        begun.unlink(missing_ok=True)
        process = start(save_on, str(trial), str(begun), temporary and str(temporary), again)
        until = time.monotonic() + 60
        while not (begun.exists() and begun.read_text()):
            assert process.is_alive(), process.exitcode
            assert time.monotonic() < until
            time.sleep(0.001)
        assert begun.read_text() == "0", "litter of the process before is gone"
        while not list(root.glob("step-*")):  # the first, however busy the machine is
            time.sleep(0.001)
        process.join(rng.uniform(0.0, 0.12))
        process.kill()
        process.join()
        process.close()
        litter = list(root.glob(".tmp-*"))
        assert len(litter) <= 1 + again
        told["litter"] += bool(litter)
        folders = sorted(path for path in root.glob("*") if path not in litter)
        saved = [checkpoint.verify(path) for path in folders]  # raises where one is torn
        assert all(map(whole, saved[-2:]))
        told["checkpoints"] += len([one for one in saved if one.spent.steps > newest])
        newest = saved[-1].spent.steps if saved else 0
        for path in folders[:-1]:
            shutil.rmtree(path)
    damaged: list[str] = []
    found = checkpoint.sound(trial, damaged.append)
    assert sorted(saved.folder for saved in found) == sorted(root.iterdir())
    assert 1 <= len(found) <= 1 + again  # one that was to be replaced is taken back
    assert not damaged
    return told


def test_a_checkpoint_that_was_to_be_replaced_is_taken_back(tmp_path: Path) -> None:
    """Killed between the two renames of a step that is saved again."""
    trial = tmp_path / "trial"
    saved = checkpoint.save(trial, {"a": torch.ones(2)}, {"moments": []}, {}, Spent(7), 1, None)
    saved.folder.rename(saved.folder.with_name(".tmp-00000007-former"))
    saved.folder.with_name(".tmp-00000007").mkdir()
    assert checkpoint.sound(trial) == [saved]
    assert list(checkpoint.checkpoints(trial).iterdir()) == [saved.folder]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """An empty folder on another file system than the checkpoints."""
    place, shared = tmp_path / "elsewhere", Path("/dev/shm")
    place.mkdir()
    with mounted(place, "16m") as done:
        if done:
            yield place
            return
    if not (shared.is_dir() and os.access(shared, os.W_OK)) or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("another file system can be mounted by root alone, and /dev/shm is none")
    with tempfile.TemporaryDirectory(prefix="tuner-test-", dir=shared) as far:
        yield Path(far)


@pytest.mark.faults
def test_a_few_kills_leave_no_torn_checkpoint(tmp_path: Path) -> None:
    assert kill_saves(tmp_path, 6)["checkpoints"] > 0


@pytest.mark.faults
def test_a_few_kills_tear_no_checkpoint_of_a_step_that_is_saved_again(tmp_path: Path) -> None:
    assert kill_saves(tmp_path, 6, again=True)["checkpoints"] > 0


def test_a_few_kills_with_temporary_files_elsewhere(tmp_path: Path, elsewhere: Path) -> None:
    assert kill_saves(tmp_path, 4, elsewhere)["checkpoints"] > 0
    assert not list(elsewhere.iterdir()), "what is to be renamed is written beside it"


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("again", [False, True])
def test_a_hundred_kills_leave_no_torn_checkpoint(again: bool, tmp_path: Path, figures: Callable[[str], None]) -> None:
    told = kill_saves(tmp_path, 100, again=again)
    assert told["litter"] >= 20, "kills in the middle of a save"
    figures(
        f"100 kills while checkpoints are saved{', each step twice' if again else ''}: {told['checkpoints']} "
        f"checkpoints, 0 torn; {told['litter']} left a temporary folder, cleaned at the next start"
    )


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_thirty_kills_with_temporary_files_elsewhere(
    tmp_path: Path, elsewhere: Path, figures: Callable[[str], None]
) -> None:
    told = kill_saves(tmp_path, 30, elsewhere)
    assert not list(elsewhere.iterdir())
    figures(f"30 kills with TMPDIR on another file system: {told['checkpoints']} checkpoints, 0 torn, none through it")
