"""Fewer points than trials: nothing that matters is left out, the rest is even, and the picture says how many."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.analysis.trials.sampling import (
    HISTORY,
    board_left_out,
    board_sample,
    front_left_out,
    front_sample,
    history_left_out,
    history_sample,
)


def history(count: int, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    values = 2 + rng.exponential(size=count) * np.linspace(1, 0.3, count)
    state = rng.choice(["complete", "pruned", "diverged"], size=count, p=[0.7, 0.299, 0.001])
    best = np.fmin.accumulate(np.where(state == "complete", values, np.nan))
    return pd.DataFrame({"x": np.cumsum(rng.random(count)), "best": best, "number": range(count), "state": state})


@settings(max_examples=30)
@given(st.integers(0, 4000), st.integers(0, 5))
def test_the_best_so_far_loses_nothing_and_the_newest_are_all_there(count: int, seed: int) -> None:
    points = history(count, seed)
    few = history_sample(points)
    assert len(few) <= 1203  # one more at most for each state
    assert few.equals(history_sample(points))
    assert set(few["number"]) >= set(points["number"].tail(100))
    assert set(few["state"]) == set(points["state"])
    steps = few.set_index("number")["best"].reindex(points["number"]).ffill()  # what steps show between two points
    pd.testing.assert_series_equal(steps, points.set_index("number")["best"])
    if count <= HISTORY:
        assert few.equals(points)


def test_the_rest_is_even_along_the_way_and_true_to_the_states() -> None:
    points = history(10_000)
    few = history_sample(points)
    thousands = few[few["number"] < 9000]["number"] // 1000
    assert thousands.value_counts().between(30, 50).all()
    old = few[few["number"] < 9900]
    assert abs((old["state"] == "pruned").mean() - (points["state"] == "pruned").mean()) < 0.05
    assert history_left_out(points) == (
        f"{10_000 - len(few):,} of 10,000 points are left out: "
        "drawn are every improvement, the newest 100 and an even sample of the rest."
    )
    assert history_left_out(points.head(HISTORY)) == ""


def test_an_improvement_is_never_left_out_however_many_there_are() -> None:
    points = history(5000).assign(best=np.linspace(3, 2, 5000))
    assert len(history_sample(points)) == 5000


def test_of_a_board_the_best_hundred_stay() -> None:
    board = pd.DataFrame({"number": range(10_000)})
    few = board_sample(board)
    assert len(few) == 600
    assert few["number"].head(100).tolist() == list(range(100))
    assert few["number"].iloc[-1] == 9999
    assert few["number"].iloc[100:].diff().dropna().between(19, 21).all()
    assert board_left_out(board).startswith("9,400 of 10,000 points are left out: drawn are the best 100")
    assert board_sample(board.head(600)).equals(board.head(600))
    assert board_sample(board.head(0)).empty


def test_the_front_is_drawn_whole() -> None:
    table = pd.DataFrame({"number": range(2000), "on_front": [n % 50 == 0 for n in range(2000)]})
    few = front_sample(table)
    assert few["on_front"].sum() == 40
    assert len(few) == 600
    assert front_left_out(table).startswith("1,400 of 2,000")
    assert front_left_out(table.head(10)) == ""
