"""The store of a study that one driver holds: what it knows is what is there, what belongs together is there whole."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.search.store.own.held import Held, held, together
from tuner.search.store.reader import engine_of
from tuner.search.store.storage import open_storage

SPACE: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-4, 1e-1, log=True),
    "depth": IntDistribution(1, 8),
    "kind": CategoricalDistribution(("adamw", None, 3)),
}


@pytest.fixture
def store(url: str) -> Iterator[Held]:
    with opened(url) as storage:
        yield storage


@contextlib.contextmanager
def opened(url: str) -> Iterator[Held]:
    storage = held(open_storage(url, create=True))
    assert isinstance(storage, Held)
    yield storage
    storage.remove_session()
    storage._backend.engine.dispose()


@contextlib.contextmanager
def another(url: str) -> Iterator[RDBStorage]:
    """The store as another process has it."""
    other = RDBStorage(url)
    yield other
    other.remove_session()
    other.engine.dispose()


def stored(url: str, study: int) -> list[FrozenTrial]:
    """What Optuna itself reads, in another connection."""
    with another(url) as other:
        found: list[FrozenTrial] = other.get_all_trials(study, deepcopy=False)
    return found


def told(trials: list[FrozenTrial]) -> list[str]:
    """In a form in which NaN equals NaN, and attributes have no order."""

    def plain(value: Any) -> Any:
        return sorted(value.items()) if isinstance(value, dict) else value

    return [repr(sorted((key, plain(value)) for key, value in vars(trial).items())) for trial in trials]


def act(rng: random.Random, storage: Any, study: int, running: list[int], number: int) -> None:
    """Anything that a driver does to a trial."""
    if not running or rng.random() < 0.2:
        if rng.random() < 0.3:
            template = create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {"depth": 2}})
            trial = storage.create_new_trial(study, template)
            assert storage.set_trial_state_values(trial, TrialState.RUNNING)
        else:
            trial = storage.create_new_trial(study)
        running.append(trial)
        return
    trial = rng.choice(running)
    known = storage.get_trial(trial)
    match rng.randrange(5):
        case 0:
            for name, distribution in SPACE.items():
                if name not in known.params:
                    value = {"lr": 0.01 * (1 + rng.random()), "depth": 3.0, "kind": float(rng.randrange(3))}[name]
                    storage.set_trial_param(trial, name, value, distribution)
        case 1:
            value = rng.choice([1.5, math.inf, -math.inf, math.nan, rng.random()])
            storage.set_trial_intermediate_value(trial, rng.randrange(4), value)
        case 2:
            storage.set_trial_user_attr(trial, rng.choice(["a", "b"]), rng.choice([1, "x", None, [1, 2], number]))
        case 3:
            storage.set_trial_system_attr(trial, rng.choice(["rung", "constraints:fits"]), rng.random())
        case _:
            state = rng.choice([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
            storage.set_trial_state_values(trial, state, [rng.random()] if state is TrialState.COMPLETE else None)
            running.remove(trial)


@pytest.mark.parametrize("seed", range(3))
def test_what_it_knows_is_what_is_there(store: Held, url: str, seed: int) -> None:
    rng, running = random.Random(seed), list[int]()
    study = store.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    for number in range(40):
        with together(store):
            for _ in range(rng.randrange(1, 5)):
                act(rng, store, study, running, number)
        if number % 8 == 0:
            assert told(store.get_all_trials(study, deepcopy=False)) == told(stored(url, study))
    known = store.get_all_trials(study, deepcopy=False)
    assert told(known) == told(stored(url, study))
    assert all(store.get_trial(trial._trial_id) is trial for trial in known)
    assert {trial.state for trial in known} >= {TrialState.RUNNING, TrialState.COMPLETE}
    with opened(url) as again:
        assert told(again.get_all_trials(study, deepcopy=False)) == told(known)


def test_what_others_add_is_found(store: Held, url: str) -> None:
    study = optuna.create_study(storage=store, study_name="s")
    study.ask()
    assert len(study.get_trials()) == 1
    with another(url) as other:
        optuna.load_study(storage=other, study_name="s").enqueue_trial({"depth": 4})
    assert [trial.state for trial in study.get_trials()] == [TrialState.RUNNING, TrialState.WAITING]
    assert study.ask().suggest_int("depth", 1, 8) == 4
    with another(url) as other:
        optuna.load_study(storage=other, study_name="s").enqueue_trial({"depth": 5})
    third, fourth = study.ask(), study.ask()
    assert (third.number, third.suggest_int("depth", 1, 8), fourth.number) == (2, 5, 3)


def test_all_is_written_or_nothing_and_then_it_is_read_again(store: Held, url: str) -> None:
    study = store.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    trial = store.create_new_trial(study)
    store.set_trial_user_attr(trial, "kept", 1)

    def broken() -> None:
        with store.together():
            store.set_trial_user_attr(trial, "lost", 1)
            store.set_trial_intermediate_value(trial, 1, 2.0)
            assert store.get_trial(trial).intermediate_values == {1: 2.0}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert store.get_trial(trial).user_attrs == {"kept": 1}
    assert store.get_trial(trial).intermediate_values == {}
    assert told(store.get_all_trials(study)) == told(stored(url, study))


def test_one_transaction_for_all_of_it(store: Held) -> None:
    study = store.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    trial = store.create_new_trial(study)
    engine, commits = engine_of(store), []
    sqlalchemy.event.listen(engine, "commit", commits.append)
    with store.together():
        for name, distribution in SPACE.items():
            store.set_trial_param(trial, name, 1.0, distribution)
        store.set_trial_user_attr(trial, "a", 1)
        store.set_trial_user_attr(trial, "a", 2)
        store.set_study_user_attr(study, "seconds", 3.0)
        with store.together():
            store.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
    assert len(commits) == 1
    assert store.get_study_user_attrs(study) == {"seconds": 3.0}
    assert (store.get_trial(trial).user_attrs, store.get_trial(trial).value) == ({"a": 2}, 1.0)


def test_a_finished_trial_stays_as_it_is(store: Held, url: str) -> None:
    study = store.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    trial, other = store.create_new_trial(study), store.create_new_trial(study)
    store.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
    with pytest.raises(UpdateFinishedTrialError):
        store.set_trial_user_attr(trial, "a", 1)
    with another(url) as foreign:  # against the rule that it is held
        foreign.set_trial_state_values(other, TrialState.FAIL)
    with pytest.raises(UpdateFinishedTrialError):
        store.set_trial_state_values(other, TrialState.COMPLETE, [1.0])
    assert store.get_trial(other).state is TrialState.FAIL


def test_no_trial_ends_before_it_began(store: Held, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is set back by an hour meanwhile."""

    class Back(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - timedelta(hours=1)

    study = store.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    trial = store.create_new_trial(study)
    monkeypatch.setattr("tuner.search.store.own.held.datetime", Back)
    store.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
    (found,) = stored(url, study)
    assert found.datetime_start == found.datetime_complete == store.get_trial(trial).datetime_complete


def test_two_spaces_of_one_name_do_not_mix(store: Held) -> None:
    study = store.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    store.set_trial_param(store.create_new_trial(study), "lr", 0.01, SPACE["lr"])
    with pytest.raises(ValueError, match="distribution"):
        store.set_trial_param(store.create_new_trial(study), "lr", 1.0, SPACE["kind"])


def test_a_fact_of_the_study_that_two_set_at_once_is_set_twice(postgres: str) -> None:
    """The other has written it and not committed when this one begins."""
    with opened(postgres) as storage, opened(postgres) as other:
        study = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "one")
        engine = engine_of(other)
        assert engine is not None
        row = {"study_id": study, "key": "identity", "value_json": "1"}

        def write() -> None:
            with storage.together():
                storage.set_study_user_attr(study, "identity", 2)

        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        with ThreadPoolExecutor(1) as pool, engine.connect() as first, engine.connect() as looking:
            first.execute(sqlalchemy.insert(models.StudyUserAttributeModel), [row])
            second = pool.submit(write)
            while not looking.execute(sqlalchemy.text(waiting)).scalar_one() and not second.done():
                looking.rollback()
            first.commit()
            second.result(timeout=60)
        assert other.get_study_user_attrs(study) == {"identity": 2}
