"""Ranking, noise, progress and the header: known tables, and what holds in every history."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from analysis_helpers import YAML, histories, study, trial
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.analysis.study.frame import frame
from tuner.analysis.study.live import headline
from tuner.analysis.study.noise import (
    Noise,
    expected_again,
    expected_on_rerun,
    standings,
    study_noise,
    tie_band,
)
from tuner.analysis.study.progress import advice, best_so_far, funnel, gain_recent, spent, stale
from tuner.analysis.study.ranking import by_path, hidden, leaderboard
from tuner.search.history import IMPORTED
from tuner.search.repeats import REPEAT

SMALL = Noise(0.01, 4, assumed=False)
BAND = 1.96 * math.sqrt(2) * 0.01
AXES = ("trials", "tokens", "flops", "hours")


def falling(*values: float) -> Any:
    return frame(study(*(trial(number, value) for number, value in enumerate(values))))


def test_near_losses_tie_and_groups_begin_at_their_own_best() -> None:
    table = leaderboard(falling(2.05, 2.0, 2.02, 2.5, 2.041), None, 0.01)
    assert list(table["number"]) == [1, 2, 4, 0, 3]
    assert list(table["tie"]) == [1, 1, 2, 2, 3]
    assert table["gap"].to_list() == pytest.approx([0, 0.02, 0.041, 0.05, 0.5])
    assert list(table.columns[:3]) == ["value_at", "gap", "tie"]
    assert leaderboard(falling(2.0, 2.0, 2.1), None, SMALL)["tie"].to_list() == [1, 1, 2]
    assert leaderboard(falling(2.0, 2.0, 2.1), None, 0.0)["tie"].to_list() == [1, 1, 2]


def test_a_pruned_trial_counts_only_where_it_was() -> None:
    record = study(
        trial(0, 2.0), trial(1, state="pruned", milestones={1: 1.0, 2: 0.9}), trial(2, state="failed"),
        trial(3, state="running", milestones={1: math.nan}), trial(4, state="pruned", milestones={1: math.inf}),
    )  # fmt: skip
    table = frame(record)
    assert list(leaderboard(table, None, 0.0)["number"]) == [0]
    assert list(leaderboard(table, 2, 0.0)["number"]) == [1, 0]
    assert hidden(table, None) == "4 hidden: 2 never reached 400k tokens, 1 failed, 1 running"
    assert hidden(table, 1) == "3 hidden: 1 without a finite loss there, 1 failed, 1 running"
    assert hidden(table[table["number"] < 2], None) == "1 hidden: 1 never reached 400k tokens"
    assert hidden(table.head(1), None) == ""
    assert hidden(frame(study()), None) == ""


@settings(max_examples=40)
@given(histories(), st.sampled_from([None, 1, 2, 3, 4]), st.floats(0, 1))
def test_a_leaderboard_is_sorted_and_nobody_is_lost(record: Any, milestone: int | None, noise: float) -> None:
    table = frame(record)
    board = leaderboard(table, milestone, noise)
    assert board["value_at"].is_monotonic_increasing
    assert np.isfinite(board["value_at"]).all()
    assert board["tie"].is_monotonic_increasing
    assert list(dict.fromkeys(board["tie"])) == list(range(1, board["tie"].nunique() + 1))
    for _, group in board.groupby("tie"):
        assert group["value_at"].max() <= group["value_at"].min() + tie_band(noise)
    for number, least in enumerate(board.groupby("tie")["value_at"].min()[1:], start=1):
        assert least > board[board["tie"] == number]["value_at"].min() + tie_band(noise)
    said = hidden(table, milestone)
    left = len(table) - len(board)
    assert (said == "") == (left == 0)
    if left:
        head, parts = said.split(" hidden: ")
        assert int(head) == left == sum(int(part.split()[0]) for part in parts.split(", "))


@settings(max_examples=40)
@given(histories(), st.sampled_from(AXES), st.sampled_from([None, 1, 2, 3, 4]))
def test_the_best_so_far_never_rises_and_its_axis_never_falls(record: Any, axis: Any, milestone: int | None) -> None:
    table = frame(record)
    line = best_so_far(table, axis, milestone)
    assert list(line.columns) == ["x", "best", "number", "state", "value"]
    assert len(line) == table["ended"].notna().sum()
    assert line["x"].is_monotonic_increasing
    best = line["best"].dropna()
    assert best.is_monotonic_decreasing
    assert line["best"].isna().to_numpy()[: len(line) - len(best)].all()
    if len(best):
        assert best.iloc[-1] == line["value"].min()


def test_the_axis_adds_up_what_all_trials_spent() -> None:
    record = study(trial(0, 2.0), trial(1, state="pruned", milestones={1: 2.5}), trial(2, state="infeasible"))
    table = frame(record)
    assert best_so_far(table, "tokens")["x"].to_list() == [400_000, 500_000, 500_000]
    assert best_so_far(table, "hours")["x"].to_list() == pytest.approx([4 / 60, 5 / 60, 5 / 60])
    assert best_so_far(table, "trials")["x"].to_list() == [1, 2, 2]
    assert best_so_far(table, "flops", 1)["best"].to_list() == pytest.approx([2.3, 2.3, 2.3])


def test_advice_says_stop_only_when_gain_is_below_noise() -> None:
    assert advice(frame(study()), SMALL).startswith("Too early to judge: 0 finished")
    assert advice(falling(2.0, 1.9), SMALL).startswith("Too early")
    failed = frame(study(*(trial(n, state="failed") for n in range(3))))
    assert advice(failed, SMALL) == "No trial of 3 came to a loss: look at the causes first."
    going = falling(*(2.0 - 0.1 * n for n in range(10)))
    assert advice(going, SMALL) == "Go on: the last gain above seed noise came with the newest trial."
    assert advice(falling(3.0, 2.9, 2.8, 2.0, 2.1, 2.2), SMALL).endswith("came 2 trials ago.")
    assert gain_recent(going) == pytest.approx(0.2)
    flat = falling(2.0, 1.9, 1.895, 2.2, 2.1, 1.89, 1.9, 1.95)
    assert stale(flat, SMALL) == 6
    assert advice(flat, SMALL) == "Gain below seed noise for 6 trials: stop, or repeat the top 3 with new seeds."
    assert gain_recent(flat) == 0.0
    assert gain_recent(falling(2.0)) is None


@settings(max_examples=40)
@given(histories())
def test_every_history_has_advice_and_a_header(record: Any) -> None:
    table, noise = frame(record), study_noise(record)
    assert advice(table, noise).endswith(".")
    gain = gain_recent(table)
    assert gain is None or gain >= 0
    told = headline(record, table, noise)
    assert sum(told["counts"].values()) == len(table)
    board = leaderboard(table, None, noise)
    assert told["best_number"] == (int(board["number"][0]) if len(board) else None)
    steps = funnel(table, 4)
    assert steps["reached"].is_monotonic_decreasing
    assert steps["pruned"].sum() == (table["state"] == "pruned").sum()


def test_the_header_of_a_study_under_way() -> None:
    record = study(trial(0, 2.0), trial(1, 1.9), trial(2, state="failed"), trial(3, state="running"))
    told = headline(record, frame(record), SMALL)
    assert told["counts"] == {"complete": 2, "failed": 1, "running": 1}
    assert (told["best"], told["best_number"], told["budget"]) == (1.9, 1, "400k tokens")
    assert (told["spent"], told["total"]) == (3, 24)
    assert told["failure_rate"] == pytest.approx(1 / 3)
    assert told["band"] == pytest.approx(BAND)
    assert told["last_activity"] == record.trials[3].started


def test_noise_comes_from_the_settings_then_repeats_then_an_assumption() -> None:
    alone = study(trial(0, 2.0), trial(1, 1.8, batch=4))
    assert study_noise(alone) == Noise(pytest.approx(0.005 * 1.8), 0, assumed=True)  # type: ignore[arg-type]
    repeats = [trial(number, 2.0 + 0.1 * number, batch=batch, seed=number % 3 + 1)
               for number, batch in enumerate([4, 4, 4, 8, 8, 8])]  # fmt: skip
    found = study_noise(study(*repeats))
    assert found == Noise(pytest.approx(0.1), 4, assumed=False)  # type: ignore[arg-type]
    few = study(trial(0, 2.0), trial(1, 2.001, seed=2))
    assert study_noise(few) == Noise(pytest.approx(0.01), 1, assumed=True)  # type: ignore[arg-type]
    said = study(*repeats, text=YAML + "promotion: {noise: 0.02}")
    assert study_noise(said).deviation == 0.02
    assert not study_noise(said).assumed
    assert study_noise(study()) == Noise(0.0, 0, assumed=True)


def test_a_share_of_few_texts_scatters_as_a_coin_does_at_least() -> None:
    text = YAML.replace("trial: {", "trial: {task: classify, data: {source: csv, path: a, column: b, label: c}, ")
    text = text.replace("study: {", "study: {metric: val_error, ")
    few = study(trial(0, 0.1, facts={"val_texts": 400}), trial(1, 0.05, facts={"val_texts": 400}), text=text)
    assert study_noise(few).deviation == pytest.approx((0.05 * 0.95 / 400) ** 0.5)
    assert study_noise(study(trial(0, 0.05), text=text)).deviation == pytest.approx(0.005 * 0.05)


def test_the_best_of_many_falls_back_further() -> None:
    few, many = falling(2.0, 2.1), falling(2.0, *([2.1] * 50))
    assert expected_on_rerun(frame(study()), SMALL) is None
    assert expected_on_rerun(falling(2.0), SMALL) == pytest.approx((2 - 0.0196, 2 + 0.0196))
    low, high = expected_on_rerun(many, SMALL) or (0, 0)
    assert high - low == pytest.approx(2 * 0.0196)
    assert low > (expected_on_rerun(few, SMALL) or (9, 9))[0]
    assert (low + high) / 2 == pytest.approx(2 + 0.0225, abs=0.0005)  # the mean of the luckiest of 51: 2.25 deviations


def test_noise_in_nats_is_no_noise_of_another_metric() -> None:
    record = study(trial(0, 2.0), trial(1, 1.8, batch=4))
    for metric, told in (("val_loss", Noise(0.02, 0, False, said=True)), ("val_bpb", Noise(0.009, 0, True))):
        spec = {**record.spec, "study": {**record.spec["study"], "metric": metric}, "promotion": {"noise": 0.02}}
        found = study_noise(replace(record, spec=spec))
        assert found == replace(told, deviation=pytest.approx(told.deviation))
    assert study_noise(replace(record, spec=spec)).basis == "assumed seed noise"
    assert Noise(0.02, 0, False, said=True).basis == "seed noise as promotion.noise says"


def test_a_searched_seed_is_a_path_beside_the_fact() -> None:
    board = by_path(leaderboard(frame(study(trial(0, 2.0, seed=3), trial(1, 1.8, seed=2))), None, SMALL))
    assert board.columns.is_unique
    assert board[["number", "value", "seed"]].to_numpy().tolist() == [[1, 1.8, 2], [0, 2.0, 3]]


def test_what_another_study_spent_is_not_spent_here_and_stops_nothing() -> None:
    """Its best is the one to beat, and what follows a search is no trial without gain."""
    theirs = [trial(n, 2.0 + 0.01 * n, facts={IMPORTED: f"base/{n}"}) for n in range(20)]
    table = frame(study(*theirs))
    assert spent(table, "tokens").sum() == 0
    assert best_so_far(table, "tokens")["x"].to_list() == [0.0] * 20
    assert advice(table, SMALL).startswith("Too early to judge: 0 finished")
    own = [trial(20 + n, 2.5, batch=16) for n in range(6)]
    mixed = frame(study(*theirs, *own))
    assert stale(mixed, SMALL) == 6
    assert spent(mixed, "tokens").sum() == 6 * 400_000
    better = frame(study(*theirs, *own, trial(26, 1.5, facts={REPEAT: 0})))
    assert stale(better, SMALL) == 6
    assert advice(mixed, SMALL) == "Gain below seed noise for 6 trials: stop, or repeat the top 3 with new seeds."
    assert advice(better, SMALL).endswith("for 6 trials, and the best ran again: this search has done its work.")
    again = [trial(26, None, state, facts={REPEAT: 0}) for state in ("running", "failed")]
    said = [advice(frame(study(*theirs, *own, one)), SMALL) for one in again]
    assert said[0].endswith("for 6 trials; the best is running again.")
    assert "repeat the top 3" in said[1]
    failed = [trial(30 + n, None, "failed") for n in range(8)]
    assert advice(frame(study(*theirs, *failed)), SMALL).startswith("No trial of 8 came to a loss")


def test_the_header_names_the_one_to_ship() -> None:
    record = study(trial(0, 1.9, batch=4), trial(1, 1.95), trial(2, 2.05, batch=4, seed=2, facts={REPEAT: 0}),
                   trial(3, 1.94, seed=2, facts={REPEAT: 1}))  # fmt: skip
    told = headline(record, frame(record), SMALL)
    assert (told["best"], told["best_number"]) == (1.94, 3)
    for value, best in ((1.93, 3), (1.5, 4)):  # the search goes on: within what luck explains, and beyond
        later = study(*record.trials, trial(4, value, batch=16))
        assert headline(later, frame(later), SMALL)["best_number"] == best
    low, high = expected_again(standings(record)[0], SMALL)
    assert (low + high) / 2 == pytest.approx(1.94)
    assert high - low == pytest.approx(2 * 1.96 * SMALL.deviation * 2**0.5)
