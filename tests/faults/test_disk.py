"""A full disk under the store, the spools, MLflow, the checkpoints or TMPDIR: a sentence, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import few
from crashing import mounted, run
from study_helpers import drive, results, yaml
from study_job import mirrored, outcome, study, told

from tuner.run.driver import Ending
from tuner.search.store.lock import study_lock
from tuner.ship.commands import _whole as export_whole
from tuner.spec.errors import StudyLockedError, StudyStoppedError
from tuner.spec.records import Spent
from tuner.train import checkpoint


class Disk:
    """A small file system of its own; ``ballast`` fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._ballast = folder, folder / "ballast"

    def fill(self, leave: int = 0) -> None:
        """Take all the room there is, but for ``leave`` bytes."""
        usage = shutil.disk_usage(self.folder)
        self._ballast.write_bytes(b"x" * max(0, usage.free - leave))

    def free(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    folder = tmp_path_factory.mktemp("disk")
    with mounted(folder, "6m") as done:
        if not done:
            pytest.skip("a file system of its own can be mounted by root alone")
        yield Disk(folder)


@pytest.fixture(scope="module")
def whole(database: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("whole")
    shutil.copy(database, folder / "mlflow.db")
    assert run(study, str(folder)) == 0
    return outcome(folder), mirrored(folder)


@pytest.mark.parametrize("leave", few(8_000, 0, 150_000))
def test_no_room_for_the_spools(disk: Disk, whole: tuple[Any, Any], database: Path, tmp_path: Path, leave: int) -> None:
    shutil.copy(database, tmp_path / "mlflow.db")
    (tmp_path / "runs").symlink_to(disk.folder / "runs")
    (disk.folder / "runs").mkdir()
    disk.fill(leave)
    code = run(told, str(tmp_path))
    if leave < 100_000:
        assert code == 3
        assert "runs/crash" in (tmp_path / "said").read_text()
    disk.free()
    assert run(study, str(tmp_path)) == 0
    assert (outcome(tmp_path), mirrored(tmp_path)) == whole


@pytest.mark.parametrize("leave", few(60_000, 0, 400_000))
def test_no_room_for_the_store(disk: Disk, whole: tuple[Any, Any], database: Path, tmp_path: Path, leave: int) -> None:
    shutil.copy(database, tmp_path / "mlflow.db")
    url = f"sqlite:///{disk.folder / 'tuner.db'}"
    disk.fill(leave)
    assert run(told, str(tmp_path), url=url) == 3
    assert str(disk.folder) in (tmp_path / "said").read_text()
    disk.free()
    assert run(study, str(tmp_path), url=url) == 0
    assert (outcome(tmp_path, url=url), mirrored(tmp_path)) == whole


def test_no_room_for_mlflow_costs_the_study_nothing(
    disk: Disk, whole: tuple[Any, Any], database: Path, tmp_path: Path
) -> None:
    shutil.copy(database, disk.folder / "mlflow.db")
    (tmp_path / "mlflow.db").symlink_to(disk.folder / "mlflow.db")
    disk.fill()
    assert run(told, str(tmp_path), patience=1.0) == 0
    assert outcome(tmp_path) == whole[0]
    disk.free()
    assert run(study, str(tmp_path)) == 0
    assert mirrored(tmp_path) == whole[1]


@pytest.mark.parametrize("leave", few(pytest.param(120_000, marks=pytest.mark.long), 20_000, 300_000))
def test_no_room_for_checkpoints(disk: Disk, text_file: Path, tmp_path: Path, leave: int) -> None:
    text = yaml(text_file)
    driver, _ = drive(text, tmp_path / "whole")
    assert driver.run() is Ending.COMPLETE
    driver, _ = drive(text, tmp_path)
    driver.folder = disk.folder / "small"
    driver.folder.mkdir()
    disk.fill(leave)
    with pytest.raises(StudyStoppedError, match=r"no room on the disk for .*small/[01]/"):
        driver.run()
    assert {state for _, state, _, _ in results(tmp_path)} <= {"running", "complete"}
    disk.free()
    driver, _ = drive(text, tmp_path)
    driver.folder = disk.folder / "small"
    assert driver.run() is Ending.COMPLETE
    assert results(tmp_path) == results(tmp_path / "whole")
    assert not list(driver.folder.rglob(".tmp-*"))


@pytest.mark.parametrize(("weights", "state", "name"), [(9, 1, checkpoint.WEIGHTS), (1, 9, checkpoint.STATE)])
def test_a_save_names_the_file_there_was_no_room_for(disk: Disk, weights: int, state: int, name: str) -> None:
    """Whatever room there is again when it fails: another trial's save may have failed meanwhile and been tidied."""
    disk.fill(2_000_000)
    values, spent = {"a": torch.zeros(state * 10**5), "b": torch.zeros(state * 10**5)}, Spent(1, 1, 1, 1.0)
    with pytest.raises(OSError, match="No space left") as refused:
        checkpoint.save(disk.folder, {"a": torch.zeros(weights * 10**5)}, values, {}, spent, 0, None)
    assert Path(str(refused.value.filename)).name == name
    assert not list(checkpoint.checkpoints(disk.folder).iterdir())


def test_the_right_to_drive_a_study_needs_no_room(disk: Disk, tmp_path: Path) -> None:
    """`tuner doctor` takes it for a moment, and a full disk is when it is asked."""
    folder, url = disk.folder / "base", f"sqlite:///{tmp_path / 'tuner.db'}"
    folder.mkdir()
    disk.fill()
    with study_lock(url, "base", folder), pytest.raises(StudyLockedError), study_lock(url, "base", folder):
        pass


def test_no_room_for_an_exported_model_leaves_no_half_of_one(disk: Disk, tmp_path: Path) -> None:
    model, out = tmp_path / "model", disk.folder / "out"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"x" * 400_000)

    def copy() -> None:
        shutil.copytree(model, disk.folder / ".draft")

    disk.fill(100_000)
    with pytest.raises(OSError, match="No space left"):
        export_whole(out, disk.folder / ".draft", copy)
    assert sorted(path.name for path in disk.folder.iterdir()) == ["ballast"]
    disk.free()
    export_whole(out, disk.folder / ".draft", copy)
    assert (out / "model.safetensors").stat().st_size == 400_000


@pytest.mark.faults
def test_no_room_for_temporary_files(
    disk: Disk, text_file: Path, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    """TMPDIR is full: checkpoints and stores are made where they belong, so a study does not need it."""
    (tmp_path / "small.yaml").write_text(yaml(text_file, trials=2))
    disk.fill()
    done = subprocess.run(
        [sys.executable, "-m", "tuner.study", "small.yaml"],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(disk.folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert [state for _, state, _, _ in results(tmp_path)] == ["complete", "complete"]
    figures("TMPDIR full: a study of two trials completes")
