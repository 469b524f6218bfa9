"""The place in between: what is pushed is what is pulled, half a copy is no checkpoint, texts keep their names."""

from __future__ import annotations

import contextlib
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tuner.run.hands.cluster.depot import Depot
from tuner.run.hands.cluster.slot import Place, Slot, _scratch
from tuner.run.hands.link import TrialJob
from tuner.spec.errors import TunerError
from tuner.spec.records import Outcome, State
from tuner.spec.trial import TrialSpec


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    MemoryFileSystem.store.clear()
    return f"file://{tmp_path}/depot" if request.param == "file" else "memory://depot"


def step(trial: Path, number: int, text: str = "weights") -> Path:
    """What a checkpoint looks like to somebody who only copies it."""
    folder = trial / "checkpoints" / f"step-{number:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_text(text)
    (folder / "manifest.json").write_text(f"{{{number}: {text!r}}}")
    return folder


def steps(trial: Path) -> dict[str, str]:
    return {
        path.parent.name: path.read_text()
        for path in sorted(trial.glob("checkpoints/*/model.safetensors"))
        if (path.parent / "manifest.json").exists()
    }


def test_a_trial_goes_on_elsewhere_with_the_checkpoints_it_had(url: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here" / "7", tmp_path / "there" / "7"
    depot = Depot(url, "study")
    depot.pull(here)  # nothing is there
    assert steps(here) == {}
    step(here, 10)
    step(here, 20)
    depot.push(here)
    Depot(url, "study").pull(there)
    assert steps(there) == steps(here) != {}
    Depot(url, "another study").pull(tmp_path / "other" / "7")
    assert steps(tmp_path / "other" / "7") == {}


def test_the_depot_has_what_the_trial_has_and_no_more(url: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here" / "7", tmp_path / "there" / "7"
    depot = Depot(url, "study")
    old = step(here, 10)
    depot.push(here)
    shutil.rmtree(old)
    step(here, 20, "first")
    depot.push(here)
    step(here, 20, "saved again at the same step")
    (here / "error.txt").write_text("what happened")
    depot.push(here)
    depot.pull(there)
    assert steps(there) == {"step-00000020": "saved again at the same step"}
    assert (there / "error.txt").read_text() == "what happened"
    step(there, 10, "what the next slot has deleted meanwhile")
    depot.fetch(there)
    assert steps(there) == {"step-00000020": "saved again at the same step"}
    depot.pull(tmp_path / "later" / "7")
    assert steps(tmp_path / "later" / "7") == {}
    assert steps(there)


@pytest.mark.parametrize("copied", range(3))
def test_a_copy_cut_off_is_no_checkpoint(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: int
) -> None:
    """Cut off on the way in, and on the way out; the one before is still there, the next try completes it."""
    here, there = tmp_path / "here" / "7", tmp_path / "there" / "7"
    depot = Depot(url, "study")
    step(here, 10)
    depot.push(here)
    step(here, 20)
    cut(monkeypatch, depot, "put_file", copied)
    with pytest.raises(OSError, match="cut off") if copied < 2 else contextlib.nullcontext():
        depot.push(here)
    monkeypatch.undo()
    depot.pull(there)
    assert set(steps(there)) == {"step-00000010", "step-00000020"} - ({"step-00000020"} if copied < 2 else set())
    depot.push(here)
    cut(monkeypatch, depot, "get_file", copied)
    fresh = tmp_path / "fresh" / "7"
    with pytest.raises(OSError, match="cut off"):
        depot.pull(fresh)
    monkeypatch.undo()
    assert len([name for name in steps(fresh) if name.startswith("step")]) <= copied // 2
    depot.pull(fresh)
    assert {name for name in steps(fresh) if name.startswith("step")} == {"step-00000010", "step-00000020"}


def cut(monkeypatch: pytest.MonkeyPatch, depot: Depot, name: str, after: int) -> None:
    """Have the location fail after so many files."""
    real, done = getattr(depot._files, name), [0]

    def failing(*args: Any, **kwargs: Any) -> None:
        if done[0] == after:
            raise OSError("cut off")
        done[0] += 1
        real(*args, **kwargs)

    monkeypatch.setattr(depot._files, name, failing)


def test_texts_and_what_trials_begin_with_travel_under_their_names_and_as_they_are_now(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "texts" / "deep").mkdir(parents=True)
    there.mkdir()
    (here / "texts" / "a.txt").write_text("one")
    (here / "texts" / "deep" / "b.txt").write_text("two")
    (here / "secret.txt").write_text("nobody asked for it")
    (here / "runs" / ".models" / "abc").mkdir(parents=True)
    kept = {f"runs/.models/abc/{name}": name for name in ("model.safetensors", "spec.json", "tokenizer.json")}
    for name, content in kept.items():
        (here / name).write_text(content)
    trial = TrialSpec.model_validate(
        {
            "data": {"source": "text", "path": "texts/**/*.txt"},
            "init": {"source": "base", "folder": "runs/.models/abc"},
        }
    )
    depot = Depot(url, "study")
    for text in ("one", "changed"):
        (here / "texts" / "a.txt").write_text(text)
        monkeypatch.chdir(here)
        depot.lend(trial)
        monkeypatch.chdir(there)
        depot.borrow()
        depot.borrow()
        found = {str(path.relative_to(there)): path.read_text() for path in there.rglob("*") if path.is_file()}
        assert found == {"texts/a.txt": text, "texts/deep/b.txt": "two"} | kept


def test_a_location_nobody_knows_is_a_sentence() -> None:
    with pytest.raises(TunerError, match=r"study\.depot 'nowhere://x'.*s3://bucket/tuner"):
        Depot("nowhere://x", "study")


def test_a_slot_without_its_depot_says_so_and_the_trial_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Depot) -> None:
        raise OSError("no route to host\nand more")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))  # a slot takes it for the cluster's
    monkeypatch.setattr(Depot, "borrow", away)
    slot = Slot(1, 1, 0, Place(tmp_path, "study", f"file://{tmp_path}/depot"))
    slot.take(1, TrialJob(3, TrialSpec(), 4, tmp_path / "runs" / "3", tmp_path / "corpora", "test"))
    (event,) = slot.hear(0)
    assert event.number == 3
    assert isinstance(event.message, Outcome)
    assert event.message.state is State.INTERRUPTED
    assert "the depot could not be used" in event.message.reason
    assert event.message.reason.endswith("(no route to host)")
    assert slot.hear(0) == [event]  # until it is known to have arrived


def test_what_slots_have_left_that_were_ended_goes_and_what_others_use_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place may be shared between nodes, and there no process is known by its number."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mine = _scratch("study")
    gone = mine.with_name(f"{mine.name.rpartition('-')[0]}-{2**22 + 1}")
    elsewhere = mine.with_name(f"study-another.1-{2**22 + 1}")
    for folder in (mine, gone, elsewhere):
        (folder / "7").mkdir(parents=True)
    assert _scratch("study") == mine
    assert [(folder / "7").exists() for folder in (mine, gone, elsewhere)] == [True, False, True]
