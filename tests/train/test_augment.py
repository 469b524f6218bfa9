"""Augmentation and label smoothing: off they are not there, on they disturb what is read and nothing else."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.errors import SpecError
from tuner.spec.load import parse
from tuner.spec.parts.data import AugmentSpec
from tuner.spec.parts.model import ModelSpec
from tuner.spec.trial import TrialSpec
from tuner.train.model.gpt import GPT
from tuner.train.model.module import GPTModule
from tuner.train.text.augment import IGNORED, SPAN, Augmented
from tuner.train.text.cursor import RandomWindows, Windows

TOKENS = np.arange(5000, dtype=np.uint16)  # each token says where it stands
RATES = st.floats(0, 0.5)


def both(rates: dict[str, float], step: int = 3, size: int = 64, context: int = 32) -> tuple[Any, Any, Any]:
    windows = Windows(TOKENS, context, 1)
    ids = windows.batch(step, size)
    batch = Augmented(windows, AugmentSpec(**rates), 1).batch(step, size)
    assert batch.shape == (size, 2, context)
    return ids, batch[:, 0], batch[:, 1]


@given(RATES, RATES, RATES, RATES, st.integers(2, 40), st.integers(1, 5))
def test_what_is_asked_is_what_comes_next_in_the_text(
    mask: float, swap: float, shuffle: float, delete: float, context: int, size: int
) -> None:
    ids, inputs, targets = both({"mask": mask, "swap": swap, "shuffle": shuffle, "delete": delete}, 0, size, context)
    for row, (read, said) in enumerate(zip(inputs, targets, strict=True)):
        asked = said[said != IGNORED]
        assert len(asked)
        assert (np.diff(asked) > 0).all()
        assert set(asked) <= set(ids[row, 1:])
        assert set(read) <= set(ids.reshape(-1))


def test_each_kind_disturbs_its_share_and_in_its_way() -> None:
    ids, inputs, targets = both({"mask": 0.2})
    assert np.mean(inputs != ids[:, :-1]) == pytest.approx(0.2, abs=0.03)
    assert (targets == ids[:, 1:]).all()
    ids, inputs, targets = both({"swap": 0.3})
    assert np.mean(inputs != ids[:, :-1]) == pytest.approx(0.3, abs=0.05)
    assert (np.sort(inputs) == ids[:, :-1]).all()
    assert not (inputs == targets).any()
    ids, inputs, targets = both({"shuffle": 0.4})
    assert np.mean(targets == IGNORED) == pytest.approx(0.4 * (SPAN - 1) / SPAN, abs=0.05)
    assert (np.sort(inputs) == ids[:, :-1]).all()
    assert not (inputs == targets).any()
    ids, inputs, targets = both({"delete": 0.25})
    assert np.mean(targets == IGNORED) == pytest.approx(0.25, abs=0.03)
    for read, said in zip(inputs, targets, strict=True):
        asked = said != IGNORED
        assert (said[asked] == read[asked] + 1).all()  # what comes next in the text, read or not


def test_a_step_is_disturbed_the_same_whenever_it_is_asked() -> None:
    spec = AugmentSpec(mask=0.1, swap=0.1, shuffle=0.1, delete=0.1)
    for windows in (Windows(TOKENS, 16, 5), RandomWindows(TOKENS, 16, 5)):
        augmented = Augmented(windows, spec, 5)
        later = [augmented.batch(step, 8) for step in (9, 3, 9)]
        assert (later[0] == later[2]).all()
        assert (Augmented(windows, spec, 5).batch(3, 8) == later[1]).all()
        assert not (later[0] == later[1]).all()
        assert not (Augmented(windows, spec, 6).batch(3, 8) == later[1]).all()


def test_smoothing_changes_what_is_minimised_and_not_what_is_told() -> None:
    torch.manual_seed(0)
    model = GPT(ModelSpec(depth=1, width=16), 11, 8)
    ids, targets = torch.randint(11, (2, 8)), torch.randint(11, (2, 8))
    targets[0, :3] = IGNORED
    minimised, told = model.losses(ids, targets, z_loss=0.0, smoothing=0.2)
    logits = model(ids).reshape(-1, 11)
    assert told.item() == pytest.approx(F.cross_entropy(logits, targets.reshape(-1)).item())
    assert minimised.item() == pytest.approx(F.cross_entropy(logits, targets.reshape(-1), label_smoothing=0.2).item())
    plain, same = model.losses(ids, targets, 0.0)
    assert plain is same


def step(batch: torch.Tensor, **optim: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    spec = TrialSpec.model_validate({"model": {"depth": 1, "width": 16}, "data": {"context": 8}, "optim": optim})
    module = GPTModule(spec, 50, lambda: 0.5)
    module.training_step(batch)
    assert math.isfinite(module.take_loss())
    return module.weights()


def test_undisturbed_pairs_are_the_same_step_to_the_bit() -> None:
    ids = torch.randint(50, (4, 9), generator=torch.Generator().manual_seed(1))
    pairs = torch.stack([ids[:, :-1], ids[:, 1:]], 1)
    one, other = step(ids), step(pairs)
    assert all(torch.equal(one[name], other[name]) for name in one)
    smoothed = step(ids, label_smoothing=0.1)
    assert not all(torch.equal(one[name], smoothed[name]) for name in one)


def test_micro_batches_of_disturbed_text_are_the_same_step() -> None:
    ids = torch.from_numpy(
        Augmented(RandomWindows(TOKENS % 50, 8, 1), AugmentSpec(delete=0.4, swap=0.3), 1).batch(0, 8)
    )
    whole = step(ids, kind="adamw")
    torch.manual_seed(0)
    spec = TrialSpec.model_validate(
        {
            "model": {"depth": 1, "width": 16},
            "data": {"context": 8},
            "optim": {"kind": "adamw"},
            "batch": 8,
            "accumulate": 8,
        }
    )
    module = GPTModule(spec, 50, lambda: 0.5)
    module.training_step(ids)
    assert all(torch.allclose(whole[name], other, atol=1e-5) for name, other in module.weights().items())


def test_trials_from_before_there_was_any_of_it_are_the_same_trials() -> None:
    data = TrialSpec().as_data()
    assert "augment" not in data["data"]
    assert "label_smoothing" not in data["optim"]
    changed = TrialSpec.model_validate({"data": {"augment": {"swap": 0.1}}, "optim": {"label_smoothing": 0.1}})
    assert TrialSpec.model_validate(changed.as_data()) == changed
    assert changed.hash != TrialSpec().hash


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        ({"data": {"augment": {"mask": 0.6}}}, "0.5"),
        ({"data": {"augment": {"swop": 0.1}}}, "swop"),
        ({"data": {"augment": {"delete": "much"}}}, "delete"),
        ({"optim": {"label_smoothing": 1}}, "label_smoothing"),
    ],
)
def test_a_wrong_rate_is_a_sentence(trial: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parse(json.dumps({"name": "s", "trial": trial}))


def test_all_of_it_can_be_searched() -> None:
    study = parse(
        "name: s\nspace: {data.augment.mask: {float: [0, 0.3]}, data.augment.delete: {float: [0, 0.3]}, "
        "optim.label_smoothing: {choice: [0, 0.1]}}"
    )
    trial = study.resolve({"data.augment.mask": 0.2, "data.augment.delete": 0.0, "optim.label_smoothing": 0.1})
    assert (trial.data.augment.mask, trial.optim.label_smoothing) == (0.2, 0.1)
