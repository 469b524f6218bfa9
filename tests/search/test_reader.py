"""Reading Optuna's tables straight: equal to reading through Optuna, on both databases, the first time and after."""

from __future__ import annotations

import gc
import itertools
import math
import threading
import weakref
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import optuna
import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.search.asktell import Search
from tuner.search.history import LATE_RUN, REPEAT, fanova_importance, parameter_importance, read_study
from tuner.search.store import reader
from tuner.search.store.address import MEMORY_URL
from tuner.search.store.storage import open_storage
from tuner.search.store.url import DEFAULT_URL
from tuner.spec.errors import StoreError
from tuner.spec.load import parse

SPACE: dict[str, BaseDistribution] = {
    "optim.lr": FloatDistribution(1e-5, 1e-1, log=True),
    "warmup": FloatDistribution(0.0, 1.0, step=0.25),
    "dropout": FloatDistribution(-1.0, 1.0),
    "depth": IntDistribution(1, 12),
    "width": IntDistribution(64, 256, step=32),
    "batch": IntDistribution(1, 512, log=True),
    "kind": CategoricalDistribution(["adamw", "muon", None, True, 1.5, 7]),
}

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
FACTS = st.dictionaries(TEXT | st.sampled_from(["outcome", "reason", "mlflow_run", 'a"b', "a\\b", "a,b", "a\n"]), JSON)
LOSS = st.floats()


def value_of(path: str) -> st.SearchStrategy[Any]:
    match SPACE[path]:
        case CategoricalDistribution() as space:
            return st.sampled_from(space.choices)
        case IntDistribution() as space:
            return st.sampled_from(range(space.low, space.high + 1, space.step))
        case FloatDistribution(step=None) as space:
            return st.floats(space.low, space.high)
    return st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


@st.composite
def trials(draw: Any) -> FrozenTrial:
    """A trial in any state, with anything that may be kept with it."""
    paths = draw(st.lists(st.sampled_from(sorted(SPACE)), unique=True))
    state = draw(st.sampled_from(list(TrialState)))
    value = draw(st.floats(allow_nan=False)) if state is TrialState.COMPLETE else None
    moment = datetime(2026, 3, 29, 1, 30, 0, 123456)
    made = create_trial(
        state=state,
        value=value,
        params={path: draw(value_of(path)) for path in paths},
        distributions={path: SPACE[path] for path in paths},
        user_attrs=draw(FACTS),
        system_attrs={"fixed_params": {"depth": 3}} if state is TrialState.WAITING else {},
        intermediate_values=draw(st.dictionaries(st.integers(0, 12), LOSS, max_size=4)),
    )
    made.datetime_start = None if state is TrialState.WAITING else moment
    made.datetime_complete = moment.replace(month=draw(st.integers(4, 12))) if state.is_finished() else None
    return made


@pytest.fixture
def storage(url: str) -> Iterator[BaseStorage]:
    opened: Any = open_storage(url, create=True)
    yield opened
    opened._backend.remove_session()
    opened._backend.engine.dispose()


names = (f"study{number}" for number in itertools.count())


def made(storage: BaseStorage) -> optuna.Study:
    study = optuna.create_study(study_name=next(names), storage=storage)
    study.set_user_attr("spec", {"study": {"metric": "val_loss"}})
    return study


def plain(storage: BaseStorage, name: str) -> list[Any]:
    """Everything that a record says, where NaN equals NaN, 1 is not 1.0, and the order in a point counts."""
    record = read_study(storage, name)
    return [record.name, record.spec] + [
        repr((t.number, t.state, t.reason, list(t.point.items()), t.value, sorted(t.milestones.items()),
              sorted(t.facts.items()), t.started, t.ended))
        for t in record.trials
    ]  # fmt: skip


def through_optuna(storage: Any, name: str) -> list[Any]:
    """The same study as Optuna reads it: without what it has kept, and copied to a store that has no tables."""
    memory = InMemoryStorage()
    optuna.copy_study(from_study_name=name, from_storage=storage._backend, to_storage=memory, to_study_name=name)
    return plain(memory, name)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(history=st.lists(trials(), max_size=3), runs=st.dictionaries(st.integers(0, 4), st.text(max_size=5)))
def test_every_history_is_read_as_optuna_reads_it(
    storage: BaseStorage, history: list[FrozenTrial], runs: dict[int, str]
) -> None:
    study = made(storage)
    study.add_trials(history)
    for number, run in runs.items():
        study.set_user_attr(f"{LATE_RUN}{number}", run)
    assert plain(storage, study.study_name) == through_optuna(storage, study.study_name)


STEPS = ("ask", "report", "note", "complete", "fail", "prune", "queue", "link", "add")


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(st.sampled_from(STEPS), min_size=5, max_size=16))
def test_a_second_reading_is_as_good_as_a_first(storage: BaseStorage, steps: list[str]) -> None:
    study, running = made(storage), []
    for at, step in enumerate(steps):
        if step == "queue":
            study.enqueue_trial({"depth": 3}, user_attrs={"enqueued_by": "me"})
        elif step == "add":
            study.add_trial(create_trial(value=at))
        elif step == "link":
            study.set_user_attr(f"{LATE_RUN}{at % 3}", f"run{at}")
        elif step == "ask" or not running:
            running.append(study.ask())
        elif step == "report":
            running[0].report(at * 0.5 if at % 4 else math.nan, at)
        elif step == "note":
            running[0].suggest_int("depth", 1, 12)
            running[0].set_user_attr("seconds", at)
        else:
            state = {"complete": TrialState.COMPLETE, "fail": TrialState.FAIL, "prune": TrialState.PRUNED}[step]
            study.tell(running.pop(0), at if step == "complete" else None, state=state)
        if at % 3 == 0:
            read_study(storage, study.study_name)
    assert plain(storage, study.study_name) == through_optuna(storage, study.study_name)


def test_what_is_finished_is_read_once(storage: Any) -> None:
    study = made(storage)
    study.add_trials([create_trial(value=1.0, user_attrs={"seconds": 1})] * 3)
    asked = study.ask()
    said: list[str] = []
    sqlalchemy.event.listen(
        storage._backend.engine, "before_cursor_execute", lambda *event: said.append(f"{event[2]} {event[3]}")
    )
    first = read_study(storage, study.study_name)
    assert len(said) == 6, said  # one each: the study, trials, parameters, values, milestones, facts
    assert read_study(storage, study.study_name) is first
    study.tell(asked, 2.0)
    second = read_study(storage, study.study_name)
    assert [trial.value for trial in second.trials] == [1.0, 1.0, 1.0, 2.0]
    assert all(old is new for old, new in zip(first.trials[:3], second.trials, strict=False))
    said.clear()
    assert read_study(storage, study.study_name) is second
    assert len(said) == 2, said  # its attributes, and that there is nothing new


def test_a_study_made_anew_under_an_old_name_is_read_anew(storage: BaseStorage) -> None:
    for batch in (8, 16):
        search = Search(parse(f"name: base\nspace: {{batch: {{choice: [{batch}]}}}}"), storage)
        asked = search.ask()
        search.tell(asked.number, _complete(), float(batch))
        record = read_study(storage, "base")
        assert [(trial.point["batch"], trial.value) for trial in record.trials] == [(batch, batch)]
        optuna.delete_study(study_name="base", storage=storage)
        with pytest.raises(StoreError, match="no study 'base'"):
            read_study(storage, "base")


def test_visitors_may_read_at_once_while_trials_arrive(storage: BaseStorage) -> None:
    study, seen, broken = made(storage), [], []

    def visit() -> None:
        try:
            for _ in range(10):
                record = read_study(storage, study.study_name)
                assert [trial.number for trial in record.trials] == list(range(len(record.trials)))
                assert all(trial.facts == {"seconds": trial.number} for trial in record.trials)
                seen.append(len(record.trials))
        except Exception as error:
            broken.append(error)

    visitors = [threading.Thread(target=visit) for _ in range(3)]
    for visitor in visitors:
        visitor.start()
    for number in range(12):
        study.add_trial(create_trial(value=1.0, user_attrs={"seconds": number}))
    for visitor in visitors:
        visitor.join()
    assert not broken
    assert len(read_study(storage, study.study_name).trials) == 12
    assert len(seen) == 30


def test_what_was_read_goes_with_its_store() -> None:
    storage = open_storage(DEFAULT_URL, create=True)
    study = made(storage)
    study.add_trial(create_trial(value=1.0))
    trial = weakref.ref(read_study(storage, study.study_name).trials[0])
    gc.collect()
    assert trial() is not None
    del storage, study
    gc.collect()
    assert trial() is None


def test_importance_is_optunas_own() -> None:
    storage = open_storage(DEFAULT_URL, create=True)
    study = made(storage)
    study.sampler = optuna.samplers.RandomSampler(seed=1)
    assert parameter_importance(storage, study.study_name) == {}

    def objective(trial: optuna.Trial) -> float:
        rate, depth = trial.suggest_float("optim.lr", 1e-4, 1e-1, log=True), trial.suggest_int("depth", 1, 8)
        kind = trial.suggest_categorical("kind", ["adamw", "muon"])
        momentum = trial.suggest_float("momentum", 0.0, 1.0) if kind == "muon" else 0.5
        trial.set_constraint("fits", 0.0)
        return math.inf if depth == 8 else abs(math.log10(rate) + 2) + depth / 20 + momentum / 10

    study.optimize(objective, n_trials=30)
    study.add_trial(create_trial(state=TrialState.FAIL))
    study.ask()
    theirs = optuna.importance.get_param_importances(study)
    ours = parameter_importance(storage, study.study_name)
    assert ours == theirs
    assert list(ours) == list(theirs)
    assert sum(ours.values()) == pytest.approx(1)
    best = study.best_trial
    again = create_trial(
        params=best.params, distributions=best.distributions, value=best.value, user_attrs={REPEAT: best.number}
    )
    for _ in range(9):  # they were chosen for their value: no further witnesses for what they share
        study.add_trial(again)
    assert parameter_importance(storage, study.study_name) == ours

    complete = [t for t in study.get_trials() if t.state is TrialState.COMPLETE and not t.user_attrs]
    part = optuna.create_study()
    part.add_trials(complete)
    forest = optuna.importance.get_param_importances(part, evaluator=FanovaImportanceEvaluator(seed=0))
    assert fanova_importance(storage, study.study_name, 300) == forest
    assert set(fanova_importance(storage, study.study_name, 8)) == {"optim.lr", "depth", "kind"}


def test_a_store_without_tables_is_read_through_optuna() -> None:
    storage = open_storage(MEMORY_URL)
    assert reader.engine_of(storage) is None
    with pytest.raises(StoreError, match="store is empty"):
        read_study(storage, "base")
    study = made(storage)
    study.add_trial(create_trial(value=2.0, params={"depth": 3}, distributions={"depth": SPACE["depth"]}))
    assert read_study(storage, study.study_name).trials[0].point == {"depth": 3}
    assert isinstance(reader.engine_of(RDBStorage("sqlite:///a.db")), sqlalchemy.Engine)


READ = [reader.STUDIES, reader.STUDY_FACTS, reader.TRIALS, reader.PARAMS, reader.VALUES, reader.REPORTS, reader.FACTS]


@pytest.mark.parametrize("ours", READ, ids=lambda table: table.name)
def test_optunas_tables_are_what_the_reader_takes_them_for(ours: sqlalchemy.Table) -> None:
    theirs = models.BaseModel.metadata.tables.get(ours.name)
    advice = (
        f"Optuna's table '{ours.name}' has changed: mend tuner/search/store/reader.py, or have it read through Optuna."
    )
    assert theirs is not None, advice
    own = {column.name for column in theirs.primary_key if not column.foreign_keys}  # its rows' ids say nothing
    assert {column.name for column in theirs.columns} - own == {column.name for column in ours.columns} - own, advice
    for column in ours.columns:
        assert isinstance(theirs.columns[column.name].type, type(column.type)), f"{advice} ({column.name})"


def test_optunas_words_are_what_the_reader_takes_them_for() -> None:
    assert {kind.name for kind in models.TrialValueModel.TrialValueType} == {"FINITE", "INF_POS", "INF_NEG"}
    reported = models.TrialIntermediateValueModel.TrialIntermediateValueType
    assert {kind.name for kind in reported} == {"FINITE", "INF_POS", "INF_NEG", "NAN"}
    about_trials = {name for name in models.BaseModel.metadata.tables if name.startswith("trial")}
    assert about_trials - {table.name for table in READ} == {"trial_system_attributes", "trial_heartbeats"}


def _complete() -> Any:
    from tuner.spec.records import Outcome, State

    return Outcome(State.COMPLETE)
