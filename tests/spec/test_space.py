"""The space: conditions come first, inactive dimensions are never asked, values fit their fields."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tuner.spec.dimensions.dimension import ChoiceDim, Dimension, FloatDim, IntDim, in_words
from tuner.spec.dimensions.fields import LEAVES, read_point, values_of, write_point
from tuner.spec.dimensions.space import NOT_SEARCHED, Space
from tuner.spec.records import Value
from tuner.spec.trial import TrialSpec

BASE = values_of(TrialSpec())


def test_conditions_come_before_what_depends_on_them() -> None:
    made = Space.model_validate(
        {
            "optim.muon.momentum": {
                "float": ["0.8", "0.99"],
                "when": {"optim.muon.lr": "0.02", "batch": [8]},
            },
            "optim.muon.lr": {"choice": ["1e-2", "0.02"], "when": {"optim.kind": "muon"}},
            "batch": {"choice": ["8", "1.6e1"]},
            "optim.kind": {"choice": ["adamw", "muon"]},
        }
    )
    assert list(made) == ["optim.kind", "optim.muon.lr", "batch", "optim.muon.momentum"]
    assert made["batch"].grid() == (8, 16)
    assert made["optim.muon.momentum"].when == {"optim.muon.lr": (0.02,), "batch": (8,)}


def test_a_child_of_an_inactive_dimension_is_inactive() -> None:
    made = Space.model_validate(
        {
            "optim.kind": {"choice": ["adamw", "muon"]},
            "optim.muon.lr": {"choice": [0.01, 0.02], "when": {"optim.kind": "muon"}},
            # the trial's own optim.muon.lr is 0.01 too, and yet this needs the dimension to be active
            "optim.muon.momentum": {"float": [0.8, 0.99], "when": {"optim.muon.lr": 0.01}},
        }
    )
    assert made.walk(lambda _, dimension: dimension.grid()[0] if dimension.grid() else 0.9, BASE) == {
        "optim.kind": "adamw"
    }
    muon = made.walk(lambda _, dimension: dimension.grid()[-1] if dimension.grid() else 0.9, BASE)
    assert muon == {"optim.kind": "muon", "optim.muon.lr": 0.02}


def test_a_condition_may_name_a_fixed_field() -> None:
    made = Space.model_validate({"batch": {"choice": [8, 16], "when": {"optim.kind": "muon"}}})
    assert made.walk(lambda *_: 8, BASE) == {"batch": 8}
    assert made.walk(lambda *_: 8, {**BASE, "optim.kind": "adamw"}) == {}


def test_a_stepped_float_meets_its_condition_but_for_the_last_digit() -> None:
    made = Space.model_validate(
        {
            "optim.warmup": {"float": ["0.0", "0.3"], "step": "0.1"},
            "batch": {"choice": ["8", "16"], "when": {"optim.warmup": "0.3"}},
        }
    )
    assert "batch" in made.walk(lambda path, _: 0.1 + 0.2 if path == "optim.warmup" else 8, BASE)
    assert made["optim.warmup"].grid() == (0.0, 0.1, 0.2, 0.3)


KINDS: dict[str, list[Any]] = {
    "optim.kind": ["adamw", "muon"],
    "model.norm": ["rms", "layer"],
    "model.qk_norm": [True, False],
    "batch": [8, 16, 32],
    "model.depth": [2, 3, 4],
    "optim.schedule": ["cosine", "linear", "wsd"],
}


@st.composite
def conditional(draw: st.DrawFn) -> dict[str, Any]:
    """Dimensions whose conditions name paths before them in a hidden order, written down in another."""
    paths = draw(st.permutations(list(KINDS)))[: draw(st.integers(1, len(KINDS)))]
    made: dict[str, Any] = {}
    for index, path in enumerate(paths):
        above = draw(st.sets(st.sampled_from(paths[:index]), max_size=2)) if index else set()
        when = {name: draw(st.lists(st.sampled_from(KINDS[name]), min_size=1, max_size=2)) for name in above}
        made[path] = {"choice": KINDS[path], "when": when}
    return {path: made[path] for path in draw(st.permutations(paths))}


@settings(max_examples=200, deadline=None)
@given(conditional(), st.integers(0, 2**32))
def test_walk_asks_for_active_dimensions_only(dimensions: dict[str, Any], seed: int) -> None:
    made = Space.model_validate(dimensions)
    rng = random.Random(seed)
    asked: list[str] = []

    def choose(path: str, dimension: Dimension) -> Value:
        asked.append(path)
        return dimension.draw(rng)

    point = made.walk(choose, BASE)
    assert asked == list(point)
    for path, dimension in dimensions.items():
        met = all(name in point and point[name] in allowed for name, allowed in dimension["when"].items())
        assert (path in point) == met


@given(
    st.tuples(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3)).map(sorted).filter(lambda ends: ends[0] < ends[1]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_a_drawn_number_is_inside(ends: list[float], log: bool, seed: int) -> None:
    dimension = FloatDim.model_validate({"float": ends, "log": log})
    value = dimension.draw(random.Random(seed))
    assert dimension.holds(value)
    assert isinstance(value, float)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 9), st.booleans(), st.integers(0, 2**32))
def test_a_drawn_whole_number_is_on_the_grid(low: int, count: int, step: int, log: bool, seed: int) -> None:
    data = {"int": [low, low + count * step]} | ({"log": True} if log else {"step": step})
    dimension = IntDim.model_validate(data)
    value = dimension.draw(random.Random(seed))
    assert value in dimension.grid()
    assert dimension.holds(value)
    assert dimension.size() == len(dimension.grid())


@given(st.integers(0, 100), st.integers(1, 40), st.sampled_from([0.1, 0.05, 0.25, 1e-3, 3.0]), st.integers(0, 99))
def test_a_stepped_float_is_counted_in_decimals(low: int, count: int, step: float, seed: int) -> None:
    high = float(f"{low + count * step:.6f}")
    dimension = FloatDim.model_validate({"float": [low, high], "step": step})
    assert dimension.size() == count + 1
    assert dimension.grid()[0] == low
    assert dimension.grid()[-1] == high
    assert all(dimension.holds(value) for value in dimension.grid())
    assert dimension.draw(random.Random(seed)) in dimension.grid()


@pytest.mark.parametrize("path", sorted(NOT_SEARCHED))
def test_what_would_make_trials_incomparable_is_not_searched(path: str) -> None:
    assert path in LEAVES
    with pytest.raises(ValidationError, match="may not be searched"):
        Space.model_validate({path: {"choice": ["a", "b"]}})


def test_dimensions_in_words() -> None:
    words = [
        in_words(FloatDim.model_validate({"float": [1e-4, 3e-2], "log": True})),
        in_words(IntDim.model_validate({"int": [64, 256], "step": 32})),
        in_words(ChoiceDim(choice=("adamw", None, 8))),
    ]
    assert words == ["0.0001 to 0.03 (log)", "64 to 256 in steps of 32", "'adamw', null, 8"]


@pytest.mark.parametrize("path", [path for path, leaf in LEAVES.items() if leaf.kinds])
def test_every_field_takes_its_own_default(path: str) -> None:
    assert LEAVES[path].read(BASE[path]) == BASE[path]
    if BASE[path] is not None:
        assert LEAVES[path].read(str(BASE[path])) == BASE[path]


@given(
    lr=st.floats(1e-6, 1.0),
    depth=st.integers(1, 12),
    kind=st.sampled_from(["adamw", "muon"]),
    flag=st.sampled_from([True, False, "auto"]),
)
def test_a_point_written_down_is_read_back_equal(lr: float, depth: int, kind: str, flag: object) -> None:
    point = {"optim.lr": lr, "model.depth": depth, "optim.kind": kind, "compile": flag}
    assert read_point(write_point(point)) == point
