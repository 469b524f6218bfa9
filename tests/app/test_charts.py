"""The pictures: valid for every table, drawn with few points where there are thousands, and without streamlit."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import conftest_app
import numpy as np
import pandas as pd
import pytest
from conftest_app import Make, Open, words

from app.charts import dimensions, front, progress
from tuner.analysis.trials.pareto import COSTS
from tuner.spec.records import Measurement, Outcome, Spent, State

CROWD = 10_000


def crowd() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    value = np.sort(rng.exponential(size=CROWD) + 2)
    return pd.DataFrame(
        {
            "number": range(CROWD), "state": "complete", "value": value, "x": range(CROWD), "best": value[0],
            "optim.lr": rng.random(CROWD) + 1e-3, "batch": rng.integers(1, 9, CROWD),
        }
    )  # fmt: skip


def drawn(picture: Any) -> int:
    """Rows that go to the browser, in the largest of the picture's tables."""
    return max(len(rows) for rows in picture.to_dict()["datasets"].values())


def test_thousands_are_drawn_by_some() -> None:
    table = crowd()
    assert drawn(progress.history(table, 0.1, "trials", "val_loss", "light")) <= 1203
    assert drawn(dimensions.slices(table, ["optim.lr", "batch"], {}, "val_loss", "light", 2)) == 600
    assert drawn(dimensions.pair(table, "optim.lr", "batch", {}, "val_loss", "light")) == 600
    costs = table.assign(cost=table["x"] + 1.0, on_front=table["x"] < 5, as_good=np.nan)
    assert drawn(front.pareto(costs, "flops", "val_loss", "dark")) == 600


@pytest.mark.parametrize(
    ("values", "costs", "named"),
    [
        ([2.0], [10.0], {0}),
        ([3.0, 2.5, 2.0], [1.0, 10.0, 1000.0], {0, 1, 2}),
        ([3.0, 2.01, 2.0], [0.0, 10.0, 30.0], {0, 1, 2}),  # a cost of 0 has no logarithm
    ],
)
def test_a_front_of_any_length_is_drawn_and_named(values: list[float], costs: list[float], named: set[int]) -> None:
    table = pd.DataFrame({"number": range(len(values)), "value": values, "cost": costs, "on_front": True})
    table["as_good"] = [np.nan] * (len(values) - 1) + ([1.0] if costs[0] == 0 else [np.nan])
    spec = front.pareto(table, "parameters", "val_loss", None).to_dict()
    names = spec["layer"][-1]
    assert {row["number"] for row in spec["datasets"][names["data"]["name"]]} == named
    kind = names["encoding"]["x"]["scale"].get("type")
    assert kind == ("log" if costs[0] > 0 and costs[-1] > 20 * costs[0] else None)


@pytest.mark.parametrize("cost", COSTS)
def test_the_leaderboard_has_the_cost_below_it(cost: str, browse: Open, make: Make) -> None:
    make(["complete"] * 3)
    app = browse("trials", cost=cost)
    assert "Loss against cost" in words(app)
    said = {"parameters": "with known parameters; this study has 0", "seconds": "20 s", "tokens": "400k tokens"}
    said |= {"latency_ms": "with known latency; this study has 0", "bytes": "with known file size; this study has 0"}
    assert said.get(cost, "All 3 complete trials cost the same: 4G FLOPs.") in words(app)
    assert app.query_params.get("cost") == (None if cost == "parameters" else cost)


def test_a_cost_that_is_none_is_told(browse: Open, make: Make) -> None:
    make(["complete"] * 3)
    assert "cost “dollars”, which this page does not have" in words(browse("trials", cost="dollars"))


def test_where_costs_are_known_the_cheap_one_is_named(browse: Open, make: Make) -> None:
    search = make([])
    for number, seconds in enumerate((40.0, 10.0, 12.0)):
        asked = search.ask()
        loss = 2 + number / 100
        search.report(asked.number, Measurement(Spent(400, 400_000, 4e9, seconds), {"val_loss": loss}, 4))
        search.note(asked.number, {"seconds": seconds})
        search.tell(asked.number, Outcome(State.COMPLETE), loss)
    said = words(browse("trials", cost="seconds"))
    assert "Trial 1 is as good as the best, trial 0, at a quarter of its training time." in said


def test_pictures_need_no_dashboard() -> None:
    code = "import app.charts.front, app.charts.dimensions, app.charts.lines, app.charts.progress, sys; "
    code += "print('streamlit' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=conftest_app.ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
