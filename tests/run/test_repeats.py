"""The winner run again: which settings, with which seeds, in whatever order a study was interrupted; and who wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_driver import YAML, Interrupting, build

from tuner.promotion.candidate import choose, nominate
from tuner.run.driver import Ending
from tuner.run.hands.landscape import SimulatedWorkers
from tuner.search.history import StudyRecord, TrialRecord
from tuner.search.repeats import REPEAT, seed_of, standings, wanted, winner
from tuner.search.store.address import MEMORY_URL
from tuner.search.store.storage import open_storage
from tuner.spec.errors import SpecError
from tuner.spec.load import parse

AGAIN = {"study.trials": 10, "study.repeats": "{top: 3, seeds: 3}"}


def repeats(record: StudyRecord) -> dict[int, set[object]]:
    """Trial -> the seeds that its settings were run again with."""
    found: dict[int, set[object]] = {}
    for trial in record.trials:
        if REPEAT in trial.facts:
            found.setdefault(int(str(trial.facts[REPEAT])), set()).add(trial.facts["seed"])
    return found


def test_the_best_settings_run_again_with_other_seeds_and_the_whole_budget(tmp_path: Path) -> None:
    driver = build(tmp_path, hands=SimulatedWorkers(2), **AGAIN)
    assert driver.run() is Ending.COMPLETE
    record = driver.search.record()
    first = [trial for trial in record.ranked() if REPEAT not in trial.facts and trial.value is not None][:3]
    assert repeats(record) == {trial.number: {2, 3} for trial in first}
    for trial in record.trials:
        if REPEAT in trial.facts:
            like = record.find(int(str(trial.facts[REPEAT])))
            assert trial.point == like.point
            assert trial.state == "complete"  # no pruner ends a repeat
            assert trial.value != like.value
    assert driver.search.spent == 10
    assert not driver.search.left
    assert len(nominate(record, choose(record, None)).values) == 3


def test_a_repeat_is_promoted_as_the_trial_it_was(tmp_path: Path) -> None:
    """With its own seed; and by what is nobody's choice: neither its own value nor the one that it was repeated for."""
    driver = build(tmp_path, hands=SimulatedWorkers(2), **AGAIN)
    driver.run()
    record = driver.search.record()
    for trial in record.trials:
        if REPEAT in trial.facts:
            candidate, like = nominate(record, trial), record.find(int(str(trial.facts[REPEAT])))
            assert candidate.spec["seed"] == trial.facts["seed"]
            others = {one for one in candidate.values if one not in (str(trial.facts["seed"]), seed_of(record, like))}
            assert candidate.others is not None
            assert set(candidate.others) == others
            assert len(others) == 1
            assert len(nominate(record, like).others or {}) == 2


def test_a_repeat_that_a_total_cut_short_runs_again(tmp_path: Path) -> None:
    storage, over = open_storage(MEMORY_URL), {"study.trials": 8, "study.pruner": "none"}
    build(tmp_path, storage, SimulatedWorkers(2), **over).run()
    over["study.repeats"] = "{top: 3, seeds: 3}"
    short = build(tmp_path, storage, SimulatedWorkers(2), **over)
    spent = sum(float(trial.facts["tokens"] or 0) for trial in short.search.record().trials)
    short = build(tmp_path, storage, SimulatedWorkers(2), **over, **{"study.totals": f"{{tokens: {spent * 1.3:.0f}}}"})
    short.run()
    cut = [trial for trial in short.search.record().trials if REPEAT in trial.facts and trial.state == "pruned"]
    assert cut
    whole = build(tmp_path, storage, SimulatedWorkers(2), **over)
    assert whole.run() is Ending.COMPLETE
    again = [trial for trial in whole.search.record().trials if REPEAT in trial.facts and trial.state == "complete"]
    assert len(again) == 6


def test_repeats_of_a_study_that_searches_the_seed_come_to_an_end(tmp_path: Path) -> None:
    text = YAML.replace("space:", "space:\n  seed: {int: [1, 9]}")
    driver = build(tmp_path, hands=SimulatedWorkers(2), text=text, **{**AGAIN, "study.repeats": "{top: 1, seeds: 3}"})
    assert driver.run() is Ending.COMPLETE
    again = [trial for trial in driver.search.record().trials if REPEAT in trial.facts]
    assert 1 <= len(again) <= 2
    assert len({trial.facts["seed"] for trial in again}) == len(again)


def test_repeats_wait_until_the_search_has_ended_and_are_asked_for_later_too(tmp_path: Path) -> None:
    storage = open_storage(MEMORY_URL)
    build(tmp_path, storage, SimulatedWorkers(3), **{"study.trials": 8}).run()
    again = build(tmp_path, storage, SimulatedWorkers(3), **{"study.trials": 8, "study.repeats": "{top: 1, seeds: 4}"})
    assert again.search.left
    again.run()
    record = again.search.record()
    assert [len(seeds) for seeds in repeats(record).values()] == [3]
    more = build(tmp_path, storage, SimulatedWorkers(3), **{"study.trials": 12, "study.repeats": "{top: 1, seeds: 4}"})
    more.run()
    assert sum(REPEAT not in t.facts and t.state != "infeasible" for t in more.search.record().trials) == 12


@settings(max_examples=12)
@given(cuts=st.lists(st.integers(1, 40), max_size=4), slots=st.integers(1, 3))
def test_whatever_interrupts_the_same_settings_get_the_same_seeds(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], slots: int
) -> None:
    folder, storage = tmp_path_factory.mktemp("cut"), open_storage(MEMORY_URL)
    over: dict[str, Any] = {"study.trials": 6, "study.repeats": "{top: 2, seeds: 3}", "study.sampler": "random"}
    for cut in cuts:
        hands = Interrupting(slots, cut)
        hands.driver = build(folder, storage, hands, **over)
        hands.driver.run()
    driver = build(folder, storage, **over)
    assert driver.run() is Ending.COMPLETE
    record = driver.search.record()
    assert sum(REPEAT not in trial.facts for trial in record.trials if trial.state != "infeasible") == 6
    found = repeats(record)
    assert sum(map(len, found.values())) == 4
    assert all(seeds == {2, 3} for seeds in found.values())
    assert wanted(record, 2, 3) == []


def trial(number: int, value: float, like: int | None = None, seed: int = 1) -> TrialRecord:
    facts = {"seed": seed} | ({} if like is None else {REPEAT: like})
    return TrialRecord(
        number, "complete", "", {"optim.lr": float(number if like is None else like)}, value, {1: value}, facts
    )


def study(*trials: TrialRecord) -> StudyRecord:
    return StudyRecord("seen", {"trial": {"seed": 1}, "study": {"metric": "val_loss"}}, trials)


def test_what_was_chosen_for_its_luck_loses_when_it_is_run_again() -> None:
    lucky, sound = trial(0, 1.90), trial(1, 1.95)
    record = study(lucky, sound, trial(2, 2.05, 0, 2), trial(3, 2.06, 0, 3), trial(4, 1.95, 1, 2), trial(5, 1.94, 1, 3))
    first, second = standings(record)
    assert (first.first, second.first) == (1, 0)
    assert first.mean == pytest.approx(1.945)
    assert first.probability + second.probability == pytest.approx(1)
    assert winner(record) == record.find(5)
    assert winner(study(lucky, sound)) == lucky
    assert winner(study()) is None


def test_near_ones_tie_and_far_ones_do_not() -> None:
    near = study(trial(0, 2.0), trial(1, 2.0), trial(2, 2.001, 0, 2), trial(3, 2.003, 1, 2))
    assert [one.ties for one in standings(near)] == [True, True]
    assert all(0.2 < one.probability < 0.8 for one in standings(near))
    far = study(trial(0, 2.0), trial(1, 2.5), trial(2, 2.001, 0, 2), trial(3, 2.503, 1, 2))
    assert [one.ties for one in standings(far)] == [True, False]


def test_one_seed_is_no_repeat() -> None:
    with pytest.raises(SpecError, match="seeds"):
        parse(YAML, overrides=["study.repeats={top: 3, seeds: 1}"])
