"""Samples at milestones: in their share of the time, always at the end, and without a trace in the training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tuner.spec.errors import DataError
from tuner.spec.parts.model import ModelSpec
from tuner.spec.records import Measurement, Preparing, Started, State, Verdict
from tuner.spec.trial import TrialSpec
from tuner.train import checkpoint
from tuner.train.fit import Place, fit
from tuner.train.model.gpt import GPT
from tuner.train.text.tokenizer import ByteTokenizer, Tokenizer
from tuner.train.use import samples as room
from tuner.train.use.samples import FIRST, Samples


class Recorder:
    """Keeps milestones; leaves after so many questions."""

    def __init__(self, leave_after: int | None = None) -> None:
        self.leave_after, self.asked = leave_after, 0
        self.marks: dict[int, Measurement] = {}

    def preparing(self, work: Preparing) -> None: ...

    def started(self, started: Started) -> None: ...

    def report(self, measurement: Measurement) -> Verdict:
        if measurement.milestone is not None:
            self.marks[measurement.milestone] = measurement
        return Verdict.CONTINUE

    def interrupted(self) -> bool:
        self.asked += 1
        return self.leave_after is not None and self.asked > self.leave_after


@pytest.fixture
def run(text_file: Path, tmp_path: Path) -> Callable[..., Recorder]:
    def train(name: str, samples: int, milestones: int = 4, leave_after: int | None = None, **fields: Any) -> Recorder:
        spec = TrialSpec.model_validate(
            {
                "data": {"source": "text", "path": str(text_file), "tokenizer": {"kind": "char"}, "context": 16},
                "model": {"depth": 1, "width": 16, "dropout": 0.2}, "batch": 8, "budget": "5120 tokens", **fields,
            }
        )  # fmt: skip
        link = Recorder(leave_after)
        place = Place(tmp_path / name, text_file.parent / "corpora", threads=1)
        outcome = fit(spec, milestones, place, link, samples=samples)
        assert outcome.state is (State.INTERRUPTED if leave_after else State.COMPLETE)
        return link

    return train


def everything(folder: Path) -> tuple[dict[str, torch.Tensor], Any]:
    newest = checkpoint.sound(folder)[0]
    return newest.weights(), newest.state()


def assert_equal(one: Any, other: Any) -> None:
    match one:
        case torch.Tensor():
            assert torch.equal(one, other)
        case dict():
            assert one.keys() == other.keys()
            for key in one:
                assert_equal(one[key], other[key])
        case list() | tuple():
            for mine, theirs in zip(one, other, strict=True):
                assert_equal(mine, theirs)
        case _:
            assert one == other


def test_samples_leave_no_trace_in_the_training(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every milestone, dropout on: weights, optimizer and random state to the last bit."""
    plain = run("without", 0)
    monkeypatch.setattr(room, "SHARE", 1e9)
    link = run("with", 3)
    assert [len(mark.samples) for mark in link.marks.values()] == [3, 3, 3, 3]
    assert [mark.samples for mark in plain.marks.values()] == [()] * 4
    assert_equal(everything(tmp_path / "with"), everything(tmp_path / "without"))
    losses = [[mark.metrics["val_loss"] for mark in each.marks.values()] for each in (plain, link)]
    assert losses[0] == losses[1]
    texts = link.marks[4].samples
    assert len(set(texts)) == 3
    assert all(len(text) == 64 for text in texts)


def test_a_short_trial_writes_at_its_last_milestone_only(run: Any) -> None:
    marks = run("short", 2).marks
    assert [len(marks[milestone].samples) for milestone in (1, 2, 3, 4)] == [0, 0, 0, 2]


def test_milestones_of_one_step_share_their_samples(run: Any) -> None:
    """The first row of a step is the one that is kept, so it must have them."""
    marks = run("coarse", 1, milestones=9, budget="640 tokens").marks  # 5 steps
    assert marks[8].spent.steps == marks[9].spent.steps
    assert marks[8].samples == marks[9].samples != ()


def test_what_the_driver_did_not_hear_is_sent_again_with_its_samples(run: Any, tmp_path: Path) -> None:
    link = run("trial", 2)
    saved = checkpoint.sound(tmp_path / "trial")[0]
    assert saved.last == link.marks[4]
    again = run("trial", 2)
    assert again.marks == {4: link.marks[4]}


def test_a_manifest_from_before_there_were_samples_is_read(run: Any, tmp_path: Path) -> None:
    run("trial", 2)
    saved = checkpoint.sound(tmp_path / "trial")[0]
    path = saved.folder / checkpoint.MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["last"]["samples"], manifest["seal"]  # nor were there seals
    path.write_text(json.dumps(manifest))
    assert saved.last is not None
    assert checkpoint.verify(saved.folder).last == replace(saved.last, samples=())


class Clock:
    """A step of the model takes ``tick`` seconds, everything else none."""

    def __init__(self, gpt: GPT, tick: float) -> None:
        self.now = 0.0
        gpt.register_forward_hook(lambda *_: self.pass_by(tick))

    def pass_by(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


def drawer(tick: float, count: int = 2, tokenizer: Callable[[], Tokenizer] = ByteTokenizer) -> tuple[Samples, Clock]:
    torch.manual_seed(3)
    gpt = GPT(ModelSpec(depth=1, width=16), ByteTokenizer.vocab, 16).train()
    clock = Clock(gpt, tick)
    return Samples(gpt, tokenizer, count, 0, clock), clock


@pytest.mark.parametrize("tick", [0.0005, 0.002, 0.01, 0.1, 1.0])
def test_no_more_than_a_hundredth_of_the_training_goes_into_samples(tick: float) -> None:
    samples, clock = drawer(tick)
    drawn = 0
    for seconds in range(1, 2000, 31):
        drawn += bool(samples.draw(seconds, last=False))
        assert clock.now <= 0.01 * seconds + tick + 1e-9  # it is left between two steps
    assert drawn > 0 or 64 * tick > 20
    before = clock.now
    assert len(samples.draw(2000.0, last=True)) == 2
    assert clock.now > before


def test_a_resumed_trial_begins_its_share_anew() -> None:
    samples, clock = drawer(0.01)
    samples.resume(5000.0)
    assert samples.draw(5009.0, last=False) == ()
    assert clock.now == 0
    assert len(samples.draw(5100.0, last=False)) == 2


def test_before_there_is_time_for_a_first_one_nothing_is_begun() -> None:
    samples, clock = drawer(0.01)
    assert samples.draw(FIRST * 100 - 0.1, last=False) == ()
    assert clock.now == 0


def test_none_are_written_where_none_are_wanted_or_the_tokenizer_is_damaged() -> None:
    def damaged() -> Tokenizer:
        raise DataError("tokenizer: cannot read")

    for samples in (drawer(0.01, count=0)[0], drawer(0.01, tokenizer=damaged)[0]):
        assert samples.draw(1e9, last=True) == ()
        assert samples.draw(1e9, last=True) == ()
