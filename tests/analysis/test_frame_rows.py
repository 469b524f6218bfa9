"""The frame: its columns, what is missing in it, and how fast it is made."""

from __future__ import annotations

import numpy as np
import pytest
from analysis_helpers import BEGIN, histories, study, trial
from effort import counted
from hypothesis import given, settings

from tuner.analysis.study.frame import SPENT, at_milestone, budget_at, budget_in, frame, milestones, paths

TEXT = """
name: other
trial: {budget: BUDGET}
study: {trials: 4, milestones: 3}
"""


def test_each_trial_is_a_row_with_what_is_known_of_it() -> None:
    record = study(
        trial(1, state="pruned", milestones={1: 3.0, 2: 2.5}, reason="stopped", facts={"mlflow_run": "ab", "seed": 7}),
        trial(0, 2.0, optim_kind="muon", **{"optim.muon.lr": 0.02}),
        trial(2, state="queued"),
    )
    table = frame(record)
    assert list(table["number"]) == [0, 1, 2]
    assert list(table["state"]) == ["complete", "pruned", "queued"]
    assert list(table["reached"]) == [4, 2, 0]
    assert table["value"].to_list()[0] == 2.0
    assert table["value"].isna().to_list() == [False, True, True]
    assert table["last"].to_list()[:2] == [2.0, 2.5]
    assert table["m.2"].to_list()[:2] == [2.2, 2.5]
    assert np.isnan(table["m.3"][1])
    assert table["run"].to_list() == [None, "ab", None]
    assert table["seed"].to_list()[1] == 7.0
    assert np.isnan(table["parameters"][0])
    assert table["started"][0] == BEGIN
    assert table["ended"].isna().to_list() == [False, False, True]
    assert table["point.model.width"].dtype == np.int64
    assert table["point.optim.muon.lr"].to_list()[0] == 0.02
    assert np.isnan(table["point.optim.muon.lr"][1])
    assert table["point.optim.kind"].to_list() == ["muon", "adamw", "adamw"]
    assert paths(table)[0] == "optim.lr"


def test_a_study_without_a_trial_has_every_column() -> None:
    empty, full = frame(study()), frame(study(trial(0, 2.0)))
    assert len(empty) == 0
    assert list(empty.columns) == list(full.columns)
    assert empty["started"].dtype == full["started"].dtype
    assert all(empty[name].dtype == np.float64 for name in (*SPENT, "value", "m.1"))


@pytest.mark.parametrize(
    ("budget", "words"), [("400k tokens", "267k tokens"), ("9e12 flops", "6T flops"), ("135 s", "1 min 30 s")]
)
def test_a_budget_is_said_in_its_own_unit(budget: str, words: str) -> None:
    record = study(text=TEXT.replace("BUDGET", budget))
    assert milestones(record) == 3
    assert budget_at(record, 2) == budget_in(frame(record), 2) == words


@settings(max_examples=40)
@given(histories())
def test_what_cannot_be_ranked_is_nan(record: object) -> None:
    table = frame(record)  # type: ignore[arg-type]
    for milestone in (None, 1, 4):
        values = at_milestone(table, milestone)
        assert np.isfinite(values[~np.isnan(values)]).all()
        known = table["value"] if milestone is None else table[f"m.{milestone}"]
        assert (np.isnan(values) == ~np.isfinite(known)).all()


def test_ten_thousand_trials_take_less_than_half_a_second() -> None:
    record = study(*(trial(number, 2.0 + number % 7) for number in range(10_000)))
    table, calls = counted(lambda: frame(record))
    assert calls < 1_500_000
    assert len(table) == 10_000
