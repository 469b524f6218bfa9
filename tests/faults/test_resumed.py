"""A trial that goes on with a damaged file, of its checkpoint or of its text, ends as one that was left alone."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from crashing import TRIAL, Point, run
from damaging import Dose, damaged
from trial_job import left, trial

from tuner.train import checkpoint


def go_on_damaged(tmp_path: Path, text: Path, each: int, most: int | None = None) -> int:
    """A trial killed after its second checkpoint, with one of its files or of its text's damaged, ends as one
    that was left alone; how often that was done.
    """
    whole, stopped, done = tmp_path / "whole", tmp_path / "stopped", 0
    for folder in (whole, stopped):
        folder.mkdir()
    assert run(trial, str(whole), str(text)) == 0
    expected = left(whole)
    kill = Point("checkpoint", 2, False)
    assert run(trial, str(stopped), str(text), points=TRIAL, kill=kill) == -signal.SIGKILL
    newest = max((stopped / "trial" / "checkpoints").glob("step-*")).relative_to(stopped)
    files = [newest / name for name in (checkpoint.WEIGHTS, checkpoint.STATE, checkpoint.SPEC, checkpoint.MANIFEST)]
    (tokens,) = stopped.glob("corpora/*/train.bin")
    for name in [tokens.relative_to(stopped), *files][:most]:
        content = (stopped / name).read_bytes()
        for number, data in enumerate([*damaged(content, Dose(each, each))][1 : each + 1]):
            folder = tmp_path / f"{name.name}-{number}"
            shutil.copytree(stopped, folder)
            (folder / name).write_bytes(data)
            assert run(trial, str(folder), str(text)) == 0, name
            assert left(folder) == expected, name
            shutil.rmtree(folder)
            done += 1
    return done


def test_a_trial_with_a_damaged_file_ends_bit_identical(tmp_path: Path, text_file: Path) -> None:
    assert go_on_damaged(tmp_path, text_file, 1, most=2) == 2


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_trial_with_any_damaged_file_ends_bit_identical(
    tmp_path: Path, text_file: Path, figures: Callable[[str], None]
) -> None:
    done = go_on_damaged(tmp_path, text_file, 6)
    figures(f"{done} trials went on with a damaged checkpoint or text: {done} times the same weights")
