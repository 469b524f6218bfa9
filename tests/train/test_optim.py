"""Schedules: pure functions of progress, bounded, continuous, warmed up as a share of the budget."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tuner.spec.parts.model import ModelSpec
from tuner.spec.parts.optim import OptimSpec
from tuner.train.model.gpt import GPT
from tuner.train.model.optim import OPTIMIZERS, SCHEDULES, beta2, build_optimizers, rate_factor, set_rates


@given(
    st.sampled_from(sorted(SCHEDULES)),
    st.floats(0, 0.5),
    st.floats(0.05, 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_the_factor_stays_between_zero_and_one(kind: str, warmup: float, decay: float, floor: float, at: float) -> None:
    optim = OptimSpec.model_validate({"schedule": kind, "warmup": warmup, "decay": decay, "floor": floor})
    assert 0 <= rate_factor(optim, at) <= 1 + 1e-9


@pytest.mark.parametrize("kind", SCHEDULES)
def test_it_rises_through_the_warmup_and_never_jumps(kind: str) -> None:
    optim = OptimSpec.model_validate({"schedule": kind, "warmup": 0.1})
    factors = [rate_factor(optim, step / 1000) for step in range(1001)]
    assert factors[:100] == sorted(factors[:100])
    assert factors[100] == pytest.approx(1.0, abs=0.01)
    # the square root of the wsd decay is steep at its very start, everything else is gentle
    assert max(abs(a - b) for a, b in pairwise(factors)) < 0.06


@pytest.mark.parametrize(("kind", "end"), [("cosine", 0.05), ("linear", 0.05), ("constant", 1.0), ("wsd", 0.05)])
def test_it_ends_where_the_spec_says(kind: str, end: float) -> None:
    assert rate_factor(OptimSpec.model_validate({"schedule": kind}), 1.0) == pytest.approx(end, abs=1e-6)


def test_wsd_is_flat_until_its_decay() -> None:
    optim = OptimSpec(schedule="wsd", decay=0.2, warmup=0.05)
    assert {rate_factor(optim, at) for at in (0.1, 0.5, 0.79)} == {1.0}
    assert rate_factor(optim, 0.9) < 1


def test_where_warmup_and_decay_are_more_than_the_budget_it_falls_from_the_end_of_the_warmup() -> None:
    optim = OptimSpec(schedule="wsd", decay=1.0, warmup=0.25)
    assert rate_factor(optim, 0.25) == 1.0
    factors = [rate_factor(optim, 0.25 + step / 1000) for step in range(751)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == optim.floor


@given(st.floats(0.5, 0.9999), st.integers(1, 10**6), st.integers(1, 10**6))
def test_the_half_life_of_beta2_is_the_same_number_of_tokens_at_every_batch(b: float, at: int, batch: int) -> None:
    optim = OptimSpec(beta2=b, beta2_tokens=at)
    assert beta2(optim, at) == pytest.approx(b)
    # what is left of a square after the same tokens, whether one step or many
    assert beta2(optim, batch) == pytest.approx(b ** (batch / at))
    assert beta2(OptimSpec(beta2=b), batch) == b


def rates(model: nn.Module, optim: OptimSpec, factor: float) -> dict[str, float]:
    """Parameter -> learning rate at a factor of the schedule."""
    optimizers = build_optimizers(model, optim, depth=3, tokens_per_step=64)
    set_rates(optimizers, 0.5)  # a scheduler was here before
    set_rates(optimizers, factor)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    return {names[id(p)]: group["lr"] for group in groups for p in group["params"]}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_schedule_multiplies_each_groups_own_rate(kind: str) -> None:
    multipliers = {"embedding": 2.0, "head": 3.0, "vectors": 5.0, "layer_decay": 0.5}
    optim = OptimSpec.model_validate({"kind": kind, "lr": 1e-2, "muon": {"lr": 7e-2}, "multipliers": multipliers})
    model = GPT(ModelSpec(depth=3, width=16), 20, 8)
    found = rates(model, optim, factor=0.1)
    assert found.keys() == {name for name, _ in model.named_parameters()}
    matrix = 7e-3 if kind == "muon" else 1e-3
    expected = {
        "head.weight": 3e-3,
        "norm.weight": 5e-3,
        "tokens.weight": 2e-3 / 8,
        "smear.share": 5e-3 / 8,
        "blocks.2.mlp.up.weight": matrix,
        "blocks.1.mlp.up.weight": matrix / 2,
        "blocks.0.attention.query.weight": matrix / 4,
        "blocks.0.norm_mlp.weight": 5e-3 / 4,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_without_multipliers_there_are_no_more_groups_than_rates() -> None:
    model = GPT(ModelSpec(depth=3, width=16), 20, 8)
    counts = [len(o.param_groups) for o in build_optimizers(model, OptimSpec(), depth=3, tokens_per_step=64)]
    assert counts == [1, 2]  # Muon's matrices; AdamW's matrices and its vectors
