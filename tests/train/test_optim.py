"""Schedules: pure functions of progress, bounded, continuous, warmed up as a share of the budget."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.parts.optim import OptimSpec
from tuner.train.model.optim import SCHEDULES, rate_factor


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
