"""What the disk tells of trials: checkpoints with their hashes, and when a first result is to be expected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuner.analysis.trials.checkpoints import checkpoints
from tuner.analysis.trials.curves import first_result
from tuner.search.history import StudyRecord, TrialRecord
from tuner.spec.records import Measurement, Spent
from tuner.tracking.tracker import Spooler


def test_checkpoints_are_told_newest_first_and_a_broken_one_without_its_hash(tmp_path: Path) -> None:
    for step, sha in ((100, "aa"), (200, "bb")):
        folder = tmp_path / "seen" / "3" / "checkpoints" / f"step-{step}"
        folder.mkdir(parents=True)
        files = {"model.safetensors": sha, "state.pt": "cc"}
        (folder / "manifest.json").write_text(
            json.dumps({"spent": {"steps": step, "tokens": step * 9}, "files": files})
        )
        (folder / "model.safetensors").write_bytes(b"x" * 10)
    (tmp_path / "seen" / "3" / "checkpoints" / "step-300").mkdir()
    (tmp_path / "seen" / "3" / "checkpoints" / ".step-400.tmp").mkdir()
    found = checkpoints("seen", 3, tmp_path)
    assert [(one.step, one.sha256) for one in found] == [(200, "bb"), (100, "aa"), (None, None)]
    assert all(one.bytes > 10 for one in found[:2])
    assert found[2].bytes == 0
    assert checkpoints("seen", 4, tmp_path) == []


@pytest.mark.parametrize(("budget", "expected"), [("1000 tokens", 3.0), ("10000 flops", 3.0), ("20 s", 3.0)])
def test_the_first_result_is_foretold_by_the_speed_so_far(tmp_path: Path, budget: str, expected: float) -> None:
    spec = {"study": {"milestones": 4, "metric": "val_loss"}, "trial": {"budget": budget}, "space": {}}
    running = tuple(TrialRecord(number, "running", "", {}, None, {}) for number in (0, 1))
    record = StudyRecord("seen", spec, running)
    assert first_result(record, tmp_path) is None
    spooler = Spooler(tmp_path / "seen", lambda sentence: None)
    for number, done in ((0, 10), (1, 4)):
        spooler.start(number, {}, {}, {})
        spooler.row(number, Measurement(Spent(done, 10 * done, 100 * done, 0.2 * done), {"train_loss": 3.0}))
    spooler.close()
    assert first_result(record, tmp_path) == pytest.approx(expected)
