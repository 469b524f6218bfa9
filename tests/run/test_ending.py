"""When a study has had enough: each total ends it, the stop rule counts trials without gain, and both say why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_driver import YAML, build, log

from tuner.run.driver import Ending
from tuner.run.hands.fake import FakeWorkers
from tuner.search.asktell import Search
from tuner.search.ending import spent, stale
from tuner.search.fork import fork
from tuner.search.history import IMPORTED
from tuner.search.repeats import REPEAT
from tuner.search.store.address import MEMORY_URL
from tuner.search.store.storage import open_storage
from tuner.spec.errors import SpecError
from tuner.spec.load import parse
from tuner.spec.trial import TrialSpec

FLAT = {"study.pruner": "none", "study.sampler": "random"}


@pytest.mark.parametrize(
    ("totals", "said"),
    [
        ("{tokens: 5M}", "5,000,000 tokens"),
        ("{flops: 6e12}", "FLOPs"),
        ("{seconds: 3 min}", "180 seconds"),
        ("{device_hours: 0.1}", "hours of device"),
    ],
)
def test_each_total_ends_the_study_and_what_runs_is_pruned(tmp_path: Path, totals: str, said: str) -> None:
    driver = build(tmp_path, **FLAT, **{"study.totals": totals})
    assert driver.run() is Ending.COMPLETE
    trials = driver.search.record().trials
    assert 2 <= len(trials) < 24
    late = [trial for trial in trials if trial.state == "pruned"]
    assert late
    assert all("is spent" in trial.reason and said in trial.reason for trial in late)
    assert any(said in sentence for sentence in log(driver).sentences)
    assert not driver.search.left


@settings(max_examples=40)
@given(cuts=st.lists(st.integers(5, 60), max_size=5), slots=st.integers(1, 3))
def test_a_total_holds_across_restarts_and_workers(cuts: list[int], slots: int) -> None:
    """Interrupted wherever: never more than one row of each worker beyond the total, and nothing left running."""
    storage, over = open_storage(MEMORY_URL), {**FLAT, "study.totals": "{tokens: 10M}"}
    for cut in cuts:
        hands = FakeWorkers(slots)
        driver = build(Path("runs"), storage, hands, **over)
        wait, left = hands.wait, [cut]

        def counted(timeout: float, wait: Any = wait, left: list[int] = left, driver: Any = driver) -> Any:
            left[0] -= 1
            if left[0] == 0:
                driver.stop()
            return wait(timeout)

        hands.wait = counted  # type: ignore[method-assign]
        driver.run()
    driver = build(Path("runs"), storage, FakeWorkers(slots), **over)
    driver.run()
    record = driver.search.record()
    row = 100 * TrialSpec().tokens_per_step
    assert 10_000_000 <= spent(record, {}).tokens < 10_000_000 + (slots + 1) * row
    assert {trial.state for trial in record.trials} <= {"complete", "pruned"}


def test_the_clock_goes_on_where_the_last_session_stopped(tmp_path: Path) -> None:
    storage, over = open_storage(MEMORY_URL), {**FLAT, "study.totals": "{seconds: 400}"}
    first = build(tmp_path, storage, **{**over, "study.trials": 4})
    first.run()
    used = first.search.seconds
    assert 0 < used < 400
    second = build(tmp_path, storage, **over)
    assert second.search.seconds == used
    second.run()
    assert 400 <= second.search.seconds < 410


def test_a_search_that_no_longer_pays_ends_with_its_reason_and_repeats_follow(tmp_path: Path) -> None:
    over = {"study.trials": 200, "study.stop": "{over: 12}", "study.repeats": "{top: 2, seeds: 2}"}
    driver = build(tmp_path, **over)
    assert driver.run() is Ending.COMPLETE
    record = driver.search.record()
    searched = [t for t in record.trials if "repeat_of" not in t.facts]
    assert 12 < len(searched) < 200
    assert len(record.trials) - len(searched) == 2
    assert any("no longer pays: gain below seed noise" in said for said in log(driver).sentences)
    assert not driver.search.left


@pytest.mark.parametrize("totals", ["{tokens: 20M}", "{flops: 3e13}", "{seconds: 12 min}", "{device_hours: 0.3}"])
@pytest.mark.parametrize("pruner", ["none", "forecast"])
def test_a_total_leaves_room_for_the_repeats(tmp_path: Path, totals: str, pruner: str) -> None:
    over = {"study.trials": 200, "study.totals": totals, "study.repeats": "{top: 2, seeds: 3}", "study.pruner": pruner}
    driver = build(tmp_path, **over)
    assert driver.run() is Ending.COMPLETE
    record = driver.search.record()
    repeats = [trial for trial in record.trials if REPEAT in trial.facts]
    assert [trial.state for trial in repeats] == ["complete"] * 4
    assert len(record.trials) > 2 * len(repeats)
    assert any("is kept for its repeats" in said for said in log(driver).sentences)
    assert not any("is spent" in said for said in log(driver).sentences)


@pytest.mark.parametrize(
    ("slots", "over"),
    [
        (8, {"study.totals": "{tokens: 30M}", "study.pruner": "median", "study.repeats": "{top: 3, seeds: 3}"}),
        (2, {"study.totals": "{seconds: 12 min}", "study.pruner": "none", "study.repeats": "{top: 1, seeds: 2}"}),
        (8, {"study.totals": "{seconds: 12 min}", "study.pruner": "none", "study.repeats": "{top: 2, seeds: 3}"}),
        (2, {"study.totals": "{flops: 2e13}", "study.pruner": "forecast", "study.repeats": "{top: 2, seeds: 2}"}),
        (2, {"study.totals": "{flops: 3.6e13}", "study.pruner": "none", "study.repeats": "{top: 2, seeds: 3}"}),
    ],
)
def test_however_many_work_no_repeat_is_cut_and_it_is_said_once(
    tmp_path: Path, slots: int, over: dict[str, str]
) -> None:
    driver = build(tmp_path, open_storage(MEMORY_URL), FakeWorkers(slots), **{"study.trials": 500, **over})
    assert driver.run() is Ending.COMPLETE
    record = driver.search.record()
    repeats = [trial.state for trial in record.trials if REPEAT in trial.facts]
    assert repeats == ["complete"] * driver.spec.study.repeats.most
    told = [said for said in log(driver).sentences if "kept for its repeats" in said]
    assert len(told) == 1
    (end,) = [driver.search.enough()]
    assert end is None or end.raising == "study.totals"


def test_a_search_whose_trials_are_used_up_keeps_nothing(tmp_path: Path) -> None:
    over = {"study.trials": 8, "study.totals": "{tokens: 30M}", "study.repeats": "{top: 2, seeds: 3}"}
    driver = build(tmp_path, **{**FLAT, **over})
    assert driver.run() is Ending.COMPLETE
    assert not any("kept for its repeats" in said for said in log(driver).sentences)
    assert len(driver.search.record().trials) == 12
    assert driver.search.enough() is None


def test_a_gain_in_nats_can_be_asked_for(tmp_path: Path) -> None:
    trials = []
    for gain in (0.2, 0.0001):
        driver = build(tmp_path, **{"study.trials": 60, "study.stop": f"{{gain: {gain}, over: 8}}"})
        driver.run()
        trials.append(len(driver.search.record().trials))
    assert trials[0] < trials[1]


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0.001, 3))
def test_stale_counts_the_values_since_the_best_was_as_good(values: list[float], band: float) -> None:
    best = [min(values[: k + 1]) for k in range(len(values))]
    since = stale(best, band)
    assert best[len(best) - 1 - since] <= best[-1] + band
    assert since == len(best) - 1 or best[len(best) - 2 - since] > best[-1] + band


@pytest.mark.parametrize("wrong", ["{tokens: 5 min}", "{seconds: -3}", "{trials: 3}", "{flops: many}"])
def test_a_total_that_is_none_is_a_sentence(wrong: str) -> None:
    with pytest.raises(SpecError, match=r"study\.totals"):
        parse("name: s", overrides=[f"study.totals={wrong}"])


def test_trials_of_another_study_set_the_best_and_are_no_trials_without_gain(tmp_path: Path) -> None:
    storage = open_storage(MEMORY_URL)
    build(tmp_path, storage).run()
    text = YAML.replace("name: fake", "name: new")
    spec = parse(text, overrides=["study.stop={over: 10}"])
    Search(spec, storage)
    fork(storage, spec, "fake", "any")
    search = Search(spec, storage)
    assert search.enough() is None
    driver = build(tmp_path, storage, text=text, **{"study.stop": "{over: 10}", "study.trials": 60})
    driver.run()
    own = [trial for trial in driver.search.record().trials if IMPORTED not in trial.facts]
    assert 10 <= len(own) < 60


def test_repeats_do_not_undo_the_decision_to_stop(tmp_path: Path) -> None:
    storage, over = open_storage(MEMORY_URL), {"study.trials": 200, "study.stop": "{over: 12}"}
    driver = build(tmp_path, storage, **over, **{"study.repeats": "{top: 3, seeds: 4}"})
    driver.run()
    assert not driver.search.left
    again = build(tmp_path, storage, **over, **{"study.repeats": "{top: 3, seeds: 4}"})
    assert not again.search.left


def test_totals_hold_for_repeats_too(tmp_path: Path) -> None:
    over = {"study.stop": "{over: 6}", "study.repeats": "{top: 20, seeds: 20}", "study.totals": "{tokens: 40M}"}
    driver = build(tmp_path, **{**FLAT, **over, "study.trials": 200})
    driver.run()
    used = spent(driver.search.record(), {}).tokens
    assert 40_000_000 <= used < 42_000_000


def test_hours_are_of_every_device(tmp_path: Path) -> None:
    tokens = []
    for devices in (1, 2):
        over = {**FLAT, "trial.devices": devices, "trial.batch": 8, "study.totals": "{device_hours: 0.2}"}
        driver = build(tmp_path / str(devices), **over)
        driver.run()
        tokens.append(sum(float(trial.facts["tokens"] or 0) for trial in driver.search.record().trials))
    assert tokens[1] < 0.75 * tokens[0]
