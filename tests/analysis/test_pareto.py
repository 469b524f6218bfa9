"""Loss against cost: the front against its definition, ties and the unknown, and the trial that is as good for less."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from analysis_helpers import histories, study, trial
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.analysis.study.frame import frame
from tuner.analysis.trials.pareto import COSTS, bargain, hypervolume, pareto, unweighed


def priced(*pairs: tuple[float | None, float | None]) -> Any:
    """Complete trials by (loss, parameters)."""
    return frame(study(*(trial(n, loss, facts={"parameters": cost}) for n, (loss, cost) in enumerate(pairs))))


def test_only_what_nobody_beats_in_both_is_on_the_front() -> None:
    table = pareto(priced((2.0, 300), (2.5, 100), (2.6, 200), (2.4, 100), (2.0, 300), (2.0, 400)), "parameters")
    assert table["number"].tolist() == [3, 1, 2, 0, 4, 5]
    assert table["on_front"].tolist() == [True, False, False, True, True, False]


def test_what_is_unknown_or_unfinished_is_left_out() -> None:
    record = study(
        trial(0, 2.0, facts={"parameters": None}), trial(1, 2.1, facts={"parameters": 50}),
        trial(2, state="pruned", milestones={1: 1.0}, facts={"parameters": 1}), trial(3, state="failed"),
        trial(4, 2.2, facts={"parameters": math.nan}),
    )  # fmt: skip
    assert pareto(frame(record), "parameters")["number"].tolist() == [1]
    assert pareto(frame(study()), "flops").empty
    assert bargain(pareto(frame(study()), "flops"), "flops", 0.1) == ""


def test_better_by_no_more_than_noise_names_the_cheaper_one() -> None:
    table = pareto(priced((2.0, 300), (2.03, 100), (2.5, 50)), "parameters", band=0.05).set_index("number")
    assert table.loc[0, "as_good"] == 1
    assert math.isnan(table.loc[1, "as_good"])
    assert math.isnan(table.loc[2, "as_good"])


def test_without_two_prices_there_is_nothing_to_weigh() -> None:
    assert unweighed(pareto(priced((2.0, 300), (2.5, 100)), "parameters"), "parameters") == ""
    same = priced((2.0, 300), (2.5, 300))
    said = "All 2 complete trials cost the same: "
    assert unweighed(pareto(same, "parameters"), "parameters") == f"{said}300 parameters."
    assert unweighed(pareto(same, "flops"), "flops") == f"{said}4G FLOPs."
    assert unweighed(pareto(same, "seconds"), "seconds") == f"{said}4 min."
    assert unweighed(pareto(priced((2.0, None), (2.5, 3)), "parameters"), "parameters") == (
        "It needs two complete trials with known parameters; this study has 1."
    )


@pytest.mark.parametrize(
    ("cheap", "words"), [(100, "a third"), (150, "half"), (31, "a tenth"), (187, "62%"), (1, "less than 1 %")]
)
def test_a_bargain_is_told_by_its_share(cheap: float, words: str) -> None:
    table = pareto(priced((2.0, 300), (2.5, 0.5), (2.03, cheap)), "parameters")
    said = bargain(table, "parameters", 0.05)
    assert said == f"Trial 2 is as good as the best, trial 0, at {words} of its parameters."


def test_no_bargain_where_little_is_saved_or_much_is_lost() -> None:
    assert bargain(pareto(priced((2.0, 300), (2.03, 280)), "parameters"), "parameters", 0.05) == ""
    assert bargain(pareto(priced((2.0, 300), (2.06, 10)), "parameters"), "parameters", 0.05) == ""
    assert bargain(pareto(priced((2.0, 100), (2.03, 280)), "parameters"), "parameters", 0.05) == ""


_PAIR = st.tuples(
    st.sampled_from([1.0, 2.0, 3.0]) | st.floats(0.5, 5),
    st.sampled_from([1.0, 2.0, math.nan]) | st.floats(0, 5) | st.none(),
)


@settings(max_examples=100)
@given(st.lists(_PAIR, max_size=12), st.sampled_from([0.0, 0.5]) | st.floats(0, 2))
def test_the_front_is_what_its_definition_says(pairs: list[tuple[float, float | None]], band: float) -> None:
    known = {n: (v, c) for n, (v, c) in enumerate(pairs) if c is not None and not math.isnan(c)}
    table = pareto(priced(*pairs), "parameters", band)
    assert set(table["number"]) == set(known)
    assert table["cost"].is_monotonic_increasing
    for row in table.to_dict("records"):
        value, cost = known[row["number"]]
        beaten = any(v <= value and c <= cost and (v < value or c < cost) for v, c in known.values())
        assert row["on_front"] == (not beaten)
        cheaper = {c for v, c in known.values() if c < cost and v <= value + band}
        assert math.isnan(row["as_good"]) != bool(cheaper)
        if cheaper:
            assert known[int(row["as_good"])][1] == min(cheaper)


@settings(max_examples=25)
@given(histories(), st.sampled_from(COSTS), st.floats(0, 1))
def test_every_history_has_a_front_and_a_word(record: Any, cost: Any, band: float) -> None:
    table = pareto(frame(record), cost, band)
    assert table["on_front"].any() == (not table.empty)
    assert isinstance(bargain(table, cost, band), str)


def test_the_hypervolume_is_the_share_of_the_box_that_the_front_dominates() -> None:
    def share(points: list[tuple[float, float]]) -> float | None:
        table = pd.DataFrame(sorted(points, key=lambda point: (point[1], point[0])), columns=["value", "cost"])
        return hypervolume(table)

    assert share([(1.0, 1.0), (2.0, 2.0)]) == 1.0  # the best is the cheapest too
    assert share([(2.0, 1.0), (1.0, 2.0)]) == 0.0
    assert share([(3.0, 0.0), (2.0, 1.0), (1.0, 2.0)]) == 0.25
    assert share([(3.0, 0.0), (1.0, 1.0), (2.0, 2.0)]) == 0.5
    assert share([]) is share([(1.0, 1.0)]) is share([(1.0, 1.0), (1.0, 2.0)]) is None


@settings(max_examples=25)
@given(histories(), st.sampled_from(COSTS))
def test_every_history_has_a_hypervolume_between_none_and_all(record: Any, cost: Any) -> None:
    found = hypervolume(pareto(frame(record), cost))
    assert found is None or 0 <= found <= 1 + 1e-9
