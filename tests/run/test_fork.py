"""A study that begins with another's trials: the very same ones with their results, else the best points, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.storages import BaseStorage
from test_driver import YAML, build

from tuner.run.driver import Driver
from tuner.run.hands.fake import FakeWorkers
from tuner.run.retention import retain_best
from tuner.search.asktell import Search
from tuner.search.fork import Forked, fork
from tuner.search.history import IMPORTED
from tuner.search.requests import enqueue
from tuner.search.store.address import MEMORY_URL
from tuner.search.store.storage import open_storage
from tuner.spec.errors import SpecError, StoreError
from tuner.spec.load import parse
from tuner.spec.records import Measurement, Outcome, Spent, State

TEXT = "f00d"


class Told(FakeWorkers):
    """Fake hands whose trials say which text they were trained on; trial 5 diverges."""

    def story(self, job: Any) -> Any:
        for message in super().story(job):
            if hasattr(message, "facts"):
                message.facts["data_fingerprint"] = TEXT  # type: ignore[index]
            yield message


@pytest.fixture
def storage(tmp_path: Path) -> BaseStorage:
    """A store with the study ``fake`` of 24 trials."""
    opened = open_storage(MEMORY_URL)
    build(tmp_path, opened, Told(2), **{"study.sampler": "tpe", "study.pruner": "median", "study.prior": "none"}).run()
    return opened


def begun(storage: BaseStorage, text: str, fingerprint: str = TEXT, **over: Any) -> tuple[Search, Forked]:
    spec = parse(text.replace("name: fake", "name: new"), overrides=[f"{key}={value}" for key, value in over.items()])
    Search(spec, storage)
    forked = fork(storage, spec, "fake", fingerprint)
    return Search(spec, storage), forked


def test_the_same_space_takes_over_all_with_their_results(storage: BaseStorage) -> None:
    search, forked = begun(storage, YAML)
    old, new = Search(parse(YAML), storage).record(), search.record()
    assert forked.imported == tuple(range(24))
    assert not forked.queued
    for before, after in zip(old.trials, new.trials, strict=True):
        assert (after.point, after.state, after.value) == (before.point, before.state, before.value)
        assert (after.milestones, after.started, after.ended) == (before.milestones, before.started, before.ended)
        assert after.facts[IMPORTED] == f"fake/{before.number}"


def test_they_take_nothing_from_the_total_and_the_search_goes_on_from_them(
    storage: BaseStorage, tmp_path: Path
) -> None:
    search, _ = begun(storage, YAML, **{"study.trials": 6, "study.totals": "{tokens: 100M}"})
    assert search.left
    hands = FakeWorkers(2)
    driver = build(tmp_path, storage, hands, YAML.replace("name: fake", "name: new"), **{"study.trials": 6})
    driver.run()
    record = driver.search.record()
    assert len([trial for trial in record.trials if IMPORTED not in trial.facts]) == 6
    assert driver.search.spent == 6


def test_a_narrower_space_keeps_what_lies_in_it_and_says_why_not(storage: BaseStorage) -> None:
    search, forked = begun(storage, YAML.replace("int: [2, 8]", "int: [4, 8]"))
    old = Search(parse(YAML), storage).record()
    shallow = {trial.number for trial in old.trials if trial.point["model.depth"] < 4}  # type: ignore[operator]
    assert shallow
    assert set(forked.refused) == shallow
    assert all("model.depth = " in why and "4 to 8" in why for why in forked.refused.values())
    assert {trial.point["model.depth"] for trial in search.record().trials} <= set(range(4, 9))


def test_a_dimension_that_was_fixed_may_be_searched_now(storage: BaseStorage) -> None:
    text = YAML.replace("space:\n", "space:\n  batch: {choice: [8, 16, 32]}\n")
    search, forked = begun(storage, text)
    assert len(forked.imported) == 24
    assert {trial.point["batch"] for trial in search.record().trials} == {16}


@pytest.mark.parametrize(
    ("over", "fingerprint", "said"),
    [
        ({}, "beef", "trained on another text"),
        ({"trial.budget": "2M tokens"}, TEXT, "budget"),
        ({"study.milestones": 5}, TEXT, "study.milestones: 9 there, 5 here"),
        ({"study.metric": "val_bpb"}, TEXT, "study.metric"),
    ],
)
def test_results_that_do_not_compare_only_lend_their_best_points(
    storage: BaseStorage, over: dict[str, Any], fingerprint: str, said: str
) -> None:
    search, forked = begun(storage, YAML, fingerprint, **over)
    assert not forked.imported
    best = Search(parse(YAML), storage).record().ranked()[:3]
    assert forked.queued == tuple(trial.number for trial in best)
    assert all(said in why for why in forked.refused.values())
    asked = [search.ask().point for _ in range(3)]
    assert asked == [dict(trial.point) for trial in best]


def test_what_diverged_is_known_to_the_new_sampler(tmp_path: Path) -> None:
    opened = open_storage(MEMORY_URL)
    driver: Driver = build(tmp_path, opened, Told(1, lambda spec, share: float("nan")), **{"study.trials": 3})
    driver.run()
    search, forked = begun(opened, YAML)
    assert forked.imported == (0, 1, 2)
    stored = opened.get_all_trials(opened.get_study_id_from_name("new"))
    assert all(trial.constraints for trial in stored)
    assert {trial.state for trial in search.record().trials} == {State.DIVERGED.value}


def test_a_fork_of_nothing_or_of_itself_is_a_sentence(storage: BaseStorage) -> None:
    spec = parse(YAML.replace("name: fake", "name: new"))
    Search(spec, storage)
    with pytest.raises(StoreError, match="no study 'nobody'"):
        fork(storage, spec, "nobody", TEXT)
    with pytest.raises(SpecError, match="the same study"):
        fork(storage, parse(YAML), "fake", TEXT)


def test_a_fork_that_was_killed_goes_on_and_one_made_twice_changes_nothing(storage: BaseStorage) -> None:
    spec = parse(YAML.replace("name: fake", "name: new"))
    Search(spec, storage)
    whole = fork(storage, spec, "fake", TEXT)
    number = storage.get_study_id_from_name("new")
    assert fork(storage, spec, "fake", TEXT).imported == whole.imported
    assert len(storage.get_all_trials(number)) == 24
    assert not Search(spec, storage).begun


def test_a_fork_killed_while_it_queues_has_all_its_best_points_in_the_end(storage: BaseStorage) -> None:
    spec = parse(YAML.replace("name: fake", "name: new"), overrides=["trial.budget=2M tokens"])
    Search(spec, storage)
    enqueue(storage, "new", {"model.depth": 3}, "ann")  # somebody's own point keeps none of them out
    create, made = storage.create_new_trial, list[int]()

    def dying(study: int, template_trial: Any = None) -> int:
        if made:
            raise KeyboardInterrupt
        made.append(create(study, template_trial))
        return made[0]

    storage.create_new_trial = dying  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        fork(storage, spec, "fake", TEXT)
    storage.create_new_trial = create  # type: ignore[method-assign]
    best = tuple(trial.number for trial in Search(parse(YAML), storage).record().ranked()[:3])
    for _ in range(2):
        assert fork(storage, spec, "fake", TEXT).queued == best
    by = [trial.user_attrs["enqueued_by"] for trial in storage.get_all_trials(storage.get_study_id_from_name("new"))]
    assert by == ["ann", *(f"fake/{number}" for number in best)]


def test_a_study_that_searches_its_recipe_can_be_forked(tmp_path: Path) -> None:
    opened = open_storage(MEMORY_URL)
    text = (
        YAML.replace("space:\n", "space:\n  recipe: {choice: [modern, classic]}\n")
        .replace("  optim.lr:", "  optim.beta2:")
        .replace("{float: [1e-4, 1e-1], log: true}", "{float: [0.9, 0.99]}")
    )
    build(tmp_path, opened, Told(2), text, **{"study.trials": 4}).run()
    _, forked = begun(opened, text)
    assert len(forked.imported) == 4


def test_seconds_on_one_machine_are_not_seconds_on_another(tmp_path: Path) -> None:
    opened = open_storage(MEMORY_URL)
    build(tmp_path, opened, Told(2), **{"study.trials": 4, "trial.budget": "60 s"}).run()
    _, forked = begun(opened, YAML, **{"trial.budget": "60 s"})
    assert not forked.imported
    assert len(forked.queued) == 3


def test_checkpoints_of_its_own_trials_are_kept(storage: BaseStorage, tmp_path: Path) -> None:
    search, _ = begun(storage, YAML)
    own = search.ask().number
    search.report(own, Measurement(Spent(1, 1, 1.0, 1.0), {"val_loss": 99.0}, 9))
    search.tell(own, Outcome(State.COMPLETE), 99.0)
    (tmp_path / str(own) / "checkpoints" / "step-1").mkdir(parents=True)
    retain_best(tmp_path, search.record(), 1, None)
    assert (tmp_path / str(own) / "checkpoints" / "step-1").exists()
