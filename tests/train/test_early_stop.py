"""A trial that has stopped to get better ends, with the model of its lowest validation loss."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from cases import few
from test_fit import Recorder, assert_same_state, exact

from tuner.spec.records import Outcome, State
from tuner.spec.trial import TrialSpec
from tuner.train import checkpoint
from tuner.train.fit import Place, fit


@pytest.fixture
def trial(tmp_path: Path) -> TrialSpec:
    """Of a text without any sense, which can only be learned by heart."""
    rng = random.Random(3)
    (tmp_path / "noise.txt").write_text("".join(rng.choice("abcdefgh ") for _ in range(1500)))
    return TrialSpec.model_validate(
        {
            "data": {
                "source": "text",
                "path": str(tmp_path / "noise.txt"),
                "tokenizer": {"kind": "char"},
                "context": 16,
            },
            "model": {"depth": 2, "width": 32},
            "optim": {"kind": "adamw", "lr": 0.03, "schedule": "constant"},
            "batch": 8,
            "early_stop": 2,
            "budget": "12800 tokens",
        }
    )


def train(spec: TrialSpec, folder: Path, **link: Any) -> tuple[Outcome, Recorder]:
    recorder = Recorder(**link)
    return fit(spec, 10, Place(folder, folder.parent / "corpora", threads=1), recorder), recorder


def test_it_ends_after_so_many_milestones_with_its_best_model(trial: TrialSpec, tmp_path: Path) -> None:
    outcome, link = train(trial, tmp_path / "a")
    lowest = min(link.milestones, key=lambda milestone: link.milestones[milestone])
    assert outcome.state is State.COMPLETE
    assert outcome.reason == f"no lower val_loss since milestone {lowest}, in 2 more"
    assert max(link.milestones) == lowest + 2 < 10
    assert outcome.metrics["val_loss"] == link.milestones[lowest]
    saved = checkpoint.verify(checkpoint.checkpoints(tmp_path / "a") / str(outcome.checkpoint))
    assert saved.reached == lowest
    whole, _ = train(trial.model_copy(update={"early_stop": None}), tmp_path / "b")
    assert (whole.reason, whole.metrics) == ("the budget is spent", {})


@pytest.mark.parametrize("after", few(33, 12, 48, 55, mark=pytest.mark.long))
def test_an_interrupted_one_ends_at_the_same_place(trial: TrialSpec, tmp_path: Path, after: int) -> None:
    expected, whole = train(trial, tmp_path / "whole")
    _, first = train(trial, tmp_path / "cut", interrupt_after=after)
    outcome, rest = train(trial, tmp_path / "cut")
    assert outcome.reason == expected.reason
    places = [Place(tmp_path / name, tmp_path / "corpora") for name in ("whole", "cut")]
    assert_same_state(*places)
    assert exact(whole.rows) == exact(first.rows + rest.rows)
