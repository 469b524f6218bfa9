"""Ask and tell: every kind has its row, milestones are told once, verdicts survive a crash, FAIL is avoided."""

from __future__ import annotations

import contextlib
from typing import Any, get_args

import pytest
import sqlalchemy
from optuna.trial import Trial
from sqlalchemy.engine.default import DefaultDialect

from tuner.search import asktell
from tuner.search.asktell import Search
from tuner.search.kinds.pruners import PRUNERS
from tuner.search.kinds.samplers import SAMPLERS, grid_points
from tuner.search.kinds.suggest import suggest
from tuner.search.store import outage
from tuner.search.store.address import MEMORY_URL
from tuner.search.store.storage import open_storage
from tuner.spec.dimensions.dimension import Dimension
from tuner.spec.load import parse
from tuner.spec.parts.settings import StudySettings
from tuner.spec.records import Measurement, Outcome, Spent, State, Value

YAML = """
name: s
space:
  optim.lr: {float: [1e-4, 1e-1], log: true}
  optim.kind: {choice: [adamw, muon]}
  optim.muon.lr: {float: [1e-3, 1e-1], log: true, when: {optim.kind: muon}}
study: {milestones: 9, pruner: median}
"""


def measured(milestone: int, loss: float) -> Measurement:
    return Measurement(Spent(milestone, milestone, 1.0, 1.0), {"val_loss": loss}, milestone)


def test_every_word_of_the_spec_has_a_builder_and_no_builder_is_without_a_word() -> None:
    fields = StudySettings.model_fields
    assert set(get_args(fields["sampler"].annotation)) == set(SAMPLERS)
    assert set(get_args(fields["pruner"].annotation)) == set(PRUNERS)


def test_inactive_dimensions_are_not_in_the_point() -> None:
    search = Search(parse(YAML), open_storage(MEMORY_URL))
    points = [search.ask().point for _ in range(12)]
    assert {point["optim.kind"] for point in points} == {"adamw", "muon"}
    for point in points:
        assert ("optim.muon.lr" in point) == (point["optim.kind"] == "muon")


def test_a_reopened_study_goes_on_with_the_same_points_and_numbers(url: str) -> None:
    first = Search(parse(YAML), open_storage(url, create=True))
    asked = [first.ask() for _ in range(3)]
    first.report(1, measured(1, 2.0))
    again = Search(parse(YAML), open_storage(url))
    assert again.unfinished() == asked
    assert again.left
    again.report(1, measured(1, 2.0))
    again.report(1, measured(2, 1.9))
    again.tell(1, Outcome(State.COMPLETE), 1.9)
    assert again.record().trials[1].milestones == {1: 2.0, 2: 1.9}
    assert again.ask().number == 3


def test_the_choice_depends_on_history_and_number_alone() -> None:
    whole = Search(parse(YAML), open_storage(MEMORY_URL))
    points = []
    for number in range(14):
        asked = whole.ask()
        whole.tell(number, Outcome(State.COMPLETE), float(number % 5))
        points.append(asked.point)
    storage = open_storage(MEMORY_URL)
    for number in range(14):
        search = Search(parse(YAML), storage)  # a new process each time
        assert search.ask().point == points[number]
        search.tell(number, Outcome(State.COMPLETE), float(number % 5))


def test_a_verdict_is_given_again_after_a_crash(url: str) -> None:
    storage = open_storage(url, create=True)
    search = Search(parse(YAML), storage)
    for number in range(6):
        search.ask()
        assert not search.report(number, measured(1, 1.0))
        search.report(number, measured(2, 1.0))
        search.tell(number, Outcome(State.COMPLETE), 1.0)
    search.ask()
    search.report(6, measured(1, 9.0))
    assert search.report(6, measured(2, 9.0))
    again = Search(parse(YAML), storage)
    assert again.report(6, measured(2, 9.0))


def test_the_pruner_reads_the_complete_trials_once_and_anew_when_one_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """To read them, Optuna reads all trials that run: with many workers that is most of a verdict."""
    search = Search(parse(YAML.replace("median", "forecast")), open_storage(MEMORY_URL))
    read: list[int] = []
    real = search._study.get_trials

    def counted(*args: Any, **kwargs: Any) -> Any:
        found = real(*args, **kwargs)
        read.append(len(found))
        return found

    numbers = [search.ask().number for _ in range(3)]
    monkeypatch.setattr(search._study, "get_trials", counted)
    for number in numbers:
        search.report(number, measured(1, 3.0))
    assert read == [0]
    search.tell(numbers[0], Outcome(State.COMPLETE, "done"), 3.0)
    for number in numbers[1:]:
        search.report(number, measured(2, 3.0))
    assert read == [0, 1]


def test_the_last_milestone_is_never_pruned() -> None:
    search = Search(parse(YAML), open_storage(MEMORY_URL))
    for number in range(7):
        search.ask()
        for milestone in range(1, 9):
            search.report(number, measured(milestone, 1.0 + number))
        assert not search.report(number, measured(9, 1.0 + number))
        search.tell(number, Outcome(State.COMPLETE), 1.0 + number)


@pytest.mark.parametrize(
    ("state", "stored"),
    [(State.PRUNED, "PRUNED"), (State.DIVERGED, "PRUNED"), (State.INFEASIBLE, "PRUNED"), (State.FAILED, "FAIL")],
)
def test_states_are_told_so_that_samplers_learn_from_them(url: str, state: State, stored: str) -> None:
    storage = open_storage(url, create=True)
    search = Search(parse(YAML), storage)
    search.ask()
    search.tell(0, Outcome(state, "why"))
    (trial,) = storage.get_all_trials(storage.get_study_id_from_name("s"))
    assert trial.state.name == stored
    assert bool(trial.constraints) == (state in (State.INFEASIBLE, State.DIVERGED))
    record = search.record().trials[0]
    assert (record.state, record.reason, record.value) == (state.value, "why", None)
    assert search.spent == (state is not State.INFEASIBLE)


def test_run_ids_are_kept_whenever_they_become_known(url: str) -> None:
    search = Search(parse(YAML), open_storage(url, create=True))
    search.ask()
    search.ask()
    search.link_runs({0: "early"})
    search.tell(0, Outcome(State.PRUNED))
    search.tell(1, Outcome(State.PRUNED))
    search.link_runs({0: "early", 1: "late"})
    assert [trial.facts["mlflow_run"] for trial in search.record().trials] == ["early", "late"]


def test_a_grid_has_every_active_combination_once() -> None:
    spec = parse(
        "name: g\nspace:\n  optim.kind: {choice: [adamw, muon]}\n"
        "  optim.muon.lr: {choice: [0.01, 0.02], when: {optim.kind: muon}}\n"
        "  optim.warmup: {float: [0, 0.2], step: 0.1}\n"
        "study: {sampler: grid}"
    )
    points = grid_points(spec)
    assert len(points) == 3 * (1 + 2)
    assert len({tuple(sorted(point.items())) for point in points}) == len(points)


def test_a_grid_has_no_point_that_cannot_be() -> None:
    space = "  model.depth: {choice: [8, 6, 4, 2]}\n  batch: {choice: [8, 16]}\n"
    spec = parse(f"name: g\nspace:\n{space}forbid: [model.depth * batch > 64]\nstudy: {{sampler: grid}}")
    assert {(point["model.depth"], point["batch"]) for point in grid_points(spec)} == {
        (8, 8), (6, 8), (4, 8), (4, 16), (2, 8), (2, 16)
    }  # fmt: skip


def test_a_full_disk_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlalchemy

    from tuner.spec.errors import StoreError

    search = Search(parse(YAML), open_storage(MEMORY_URL))

    def full(*_: object, **__: object) -> None:
        raise sqlalchemy.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))

    monkeypatch.setattr(search._storage, "create_new_trial", full)
    with pytest.raises(StoreError, match="disk is full"):
        search.ask()


def test_a_grid_misses_and_doubles_nothing_when_a_driver_dies_between_queue_and_ask(url: str) -> None:
    spec = parse("name: g\nspace: {model.depth: {int: [1, 4]}}\nstudy: {sampler: grid}")
    storage = open_storage(url, create=True)
    Search(spec, storage).ask()
    Search(spec, storage)._study.enqueue_trial({"model.depth": 2})
    search = Search(spec, storage)
    while not search.exhausted:
        search.ask()
    assert sorted(str(trial.point["model.depth"]) for trial in search.record().trials) == ["1", "2", "3", "4"]


def test_a_grid_goes_on_where_it_was_though_repeats_came_in_between() -> None:
    text = (
        "name: g\nspace: {model.depth: {int: [1, 5]}}\nstudy: {sampler: grid, trials: 2, repeats: {top: 1, seeds: 3}}"
    )
    storage = open_storage(MEMORY_URL)
    search = Search(parse(text), storage)
    while search.left:
        asked = search.ask() if search.searching else search.ask_again()
        assert asked is not None
        search.tell(asked.number, Outcome(State.COMPLETE), 1.0)
    again = Search(parse(text.replace("trials: 2", "trials: 5")), storage)
    points = []
    while not again.exhausted:
        points.append(again.ask().point["model.depth"])
    assert points == [3, 4, 5]


def test_an_answer_lost_while_a_point_is_queued_queues_it_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each commit of a whole grid in turn is done, and its answer lost."""
    monkeypatch.setattr(outage, "_PAUSE", 0.0)
    real, spec = DefaultDialect.do_commit, parse("name: g\nspace: {model.depth: {int: [1, 4]}}\nstudy: {sampler: grid}")
    storage = open_storage(url, create=True)
    for lost in range(1, 9):
        search, commits = Search(spec.model_copy(update={"name": f"g{lost}"}), storage), [0]

        def losing(self: Any, connection: Any, commits: list[int] = commits, lost: int = lost) -> None:
            real(self, connection)
            commits[0] += 1
            if commits[0] == lost:
                raise self.loaded_dbapi.OperationalError("database is locked")

        with monkeypatch.context() as patched:
            patched.setattr(DefaultDialect, "do_commit", losing)
            while not search.exhausted:
                search.ask()
        assert sorted(str(trial.point["model.depth"]) for trial in search.record().trials) == ["1", "2", "3", "4"], lost


def test_a_trial_without_its_values_gets_those_it_would_have_had(url: str) -> None:
    whole = Search(parse(YAML), open_storage(MEMORY_URL))
    both = [whole.ask(), whole.ask()]
    storage = open_storage(url, create=True)
    search = Search(parse(YAML), storage)
    search.ask()
    search._study.ask()  # and then its driver died
    assert Search(parse(YAML), storage).unfinished() == both


@pytest.mark.parametrize("sampler", ["random", "tpe", "bayes"])
@pytest.mark.parametrize("given", [0, 1, 2])
def test_a_store_away_while_values_are_given_changes_none(
    sampler: str, given: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "_PAUSE", 0.0)
    spec = parse(YAML, overrides=[f"study.sampler={sampler}", "study.prior=none"])
    whole = Search(spec, open_storage(MEMORY_URL))
    both = [whole.ask(), whole.ask()]
    left: set[int] = set()

    def away(trial: Trial, path: str, dimension: Dimension, before: Any = None) -> Value:
        if len(trial.params) == given and trial.number not in left:
            left.add(trial.number)
            raise sqlalchemy.exc.OperationalError("UPDATE", {}, Exception("gone"), connection_invalidated=True)
        return suggest(trial, path, dimension, before)

    monkeypatch.setattr(asktell, "suggest", away)
    search = Search(spec, open_storage(MEMORY_URL))
    assert [search.ask(), search.ask()] == both
    assert left


@pytest.mark.parametrize("sampler", ["random", "tpe", "bayes"])
@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_trials_left_in_the_middle_of_their_values_get_the_others_as_they_would_have(
    sampler: str, chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was drawn before is drawn again. (Optuna's quasi-random sequence counts its points: it takes the next.)"""
    spec = parse(YAML, overrides=[f"study.sampler={sampler}", "study.prior=none"])
    whole, storage = Search(spec, open_storage(MEMORY_URL)), open_storage(MEMORY_URL)
    both = [whole.ask(), whole.ask()]
    for number in (0, 1):  # two drivers that died while they asked
        search, values = Search(spec, storage), 0
        monkeypatch.setattr(asktell, "suggest", suggest)
        assert search.unfinished() == both[:number]

        def cut(trial: Trial, path: str, dimension: Dimension, before: Any = None) -> Value:
            nonlocal values
            if values == chosen:
                raise KeyboardInterrupt
            values += 1
            return suggest(trial, path, dimension, before)

        monkeypatch.setattr(asktell, "suggest", cut)
        with contextlib.suppress(KeyboardInterrupt):  # a point may have no more values than that
            search.ask()
        assert len(search._study.get_trials()) == number + 1
    monkeypatch.setattr(asktell, "suggest", suggest)
    assert Search(spec, storage).unfinished() == both
