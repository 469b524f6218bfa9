"""Studies and histories copied to another store: equal to the last digit, never half, and one of the two goes on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from cases import few
from histories import ENTRY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from test_driver import build

from tuner.promotion.ledger import Ledger, Stage
from tuner.run.folder import claim
from tuner.search.asktell import Search
from tuner.search.history import read_study, study_names
from tuner.search.requests import enqueue
from tuner.search.store.address import MEMORY_URL
from tuner.search.store.lock import store_lock
from tuner.search.store.reader import engine_of
from tuner.search.store.storage import copy_study, open_storage
from tuner.search.store.url import DEFAULT_URL
from tuner.spec.errors import StoreError, StudyLockedError
from tuner.spec.load import parse
from tuner.study.copy import copy_store

OTHER = "sqlite:///other.db"
DONE = replace(ENTRY, stage=Stage.DONE)


@pytest.fixture(params=few("postgresql", "sqlite", mark=pytest.mark.long))
def other(request: pytest.FixtureRequest) -> str:
    """The store to copy to."""
    return OTHER if request.param == "sqlite" else str(request.getfixturevalue("postgres"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the study ``fake``: 24 trials that ended, one that runs, one that waits."""
    folder = tmp_path_factory.mktemp("made")
    storage: Any = open_storage(f"sqlite:///{folder}/tuner.db", create=True)
    build(folder / "runs", storage).run()
    build(folder / "runs", storage, **{"study.trials": 40}).search.ask()
    enqueue(storage, "fake", {"model.depth": 3}, "ann@desk")
    storage.remove_session()
    storage._backend.engine.dispose()
    return folder / "tuner.db"


@pytest.fixture
def study(made: Path) -> Any:
    """That store, opened, in the test's own folder."""
    shutil.copy(made, "tuner.db")
    return open_storage(DEFAULT_URL)


def copied(source: str, target: str, *names: str) -> str:
    said = StringIO()
    copy_store(Console(file=said, width=200), source, target, names)
    return said.getvalue()


def everything(storage: Any) -> list[Any]:
    """What Optuna holds of the study, but for its own keys."""
    trials = storage.get_all_trials(storage.get_study_id_from_name("fake"))
    return [
        (t.number, t.state, t.values, t.params, t.distributions, t.user_attrs, t.system_attrs, t.constraints,
         t.intermediate_values, t.datetime_start, t.datetime_complete)
        for t in trials
    ]  # fmt: skip


def test_the_copy_is_the_same_and_goes_on_as_the_original_would(study: Any, other: str, tmp_path: Path) -> None:
    said = copied(DEFAULT_URL, other)
    assert "study fake: 26 trials copied" in said
    target = open_storage(other)
    assert everything(target) == everything(study)
    assert read_study(target, "fake").trials == read_study(study, "fake").trials
    ends = []
    for number, storage in enumerate((study, target)):
        build(tmp_path / f"on-{number}", storage, **{"study.trials": 40}).run()
        ends.append([(t.number, t.state, t.point, t.value, t.milestones) for t in read_study(storage, "fake").trials])
    assert len(ends[0]) >= 40
    assert ends[0] == ends[1]


class Cut(BaseException):
    """A copy's process died."""


@pytest.mark.parametrize("left", few(3, 0, 1, 2, 27, 30, 32, 33, mark=pytest.mark.long))  # of 34 writes
def test_a_copy_cut_off_at_any_write_is_no_study_and_is_begun_anew(
    study: Any, other: str, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, last_write = open_storage(other, create=True), left == 33
    with monkeypatch.context() as patch:
        for name in ("create_new_study", "set_study_user_attr", "set_study_system_attr", "create_new_trial"):

            def cut(*words: Any, whole: Any) -> Any:
                nonlocal left
                if left == 0:
                    raise Cut
                left -= 1
                return whole(*words)

            patch.setattr(target, name, partial(cut, whole=getattr(target, name)))
        with pytest.raises(Cut):
            copy_study(study, target, "fake")
    if study_names(target):
        if not last_write:  # by then all of it is there to be read
            with pytest.raises(StoreError, match="no spec"):
                read_study(target, "fake")
        if target.get_study_user_attrs(target.get_study_id_from_name("fake")):
            with pytest.raises(StoreError, match="a copy that was cut off"):
                Search(parse("name: fake"), target)
    copied(DEFAULT_URL, other)
    assert everything(open_storage(other)) == everything(study)


def test_what_is_there_already_stays_and_the_rest_is_copied(study: Any) -> None:
    ledger = Ledger(DEFAULT_URL)
    ledger.write(DONE)
    Search(parse("name: second"), study)
    copied(DEFAULT_URL, OTHER, "fake")
    before = everything(open_storage(OTHER))
    said = copied(DEFAULT_URL, OTHER)  # as after a copy that was cut off between two studies
    assert "study fake: there already" in said
    assert "study second: 0 trials copied" in said
    assert everything(open_storage(OTHER)) == before
    Search(parse("name: second"), open_storage("sqlite:///third.db", create=True))
    with pytest.raises(StoreError, match="another study of the name 'second'"):
        copied(DEFAULT_URL, "sqlite:///third.db", "second")


def test_a_study_of_optunas_own_is_left_out_and_one_in_the_way_stays(study: Any) -> None:
    target = open_storage(OTHER, create=True)
    for storage, name in ((study, "mine"), (target, "fake")):
        optuna.create_study(study_name=name, storage=storage)
    theirs = optuna.load_study(study_name="fake", storage=target)
    theirs.tell(theirs.ask(), 1.0)
    with pytest.raises(StoreError, match="another study of the name 'fake'"):
        copied(DEFAULT_URL, OTHER)
    assert len(theirs.trials) == 1
    assert "study mine: not made by this platform, left out" in copied(DEFAULT_URL, "sqlite:///third.db")


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        (DEFAULT_URL, DEFAULT_URL, "onto itself"),
        (DEFAULT_URL, "sqlite:///./tuner.db", "onto itself"),
        (DEFAULT_URL, MEMORY_URL, "in memory"),
        (DEFAULT_URL, "postgresql+psycopg//u:geheim@h/d", "not a database URL"),
        (DEFAULT_URL, "postgresql+psycopg://u:geheim@h:port/d", "not a database URL"),
        ("foo", "foo", "not a database URL"),
        ("sqlite:///none.db", OTHER, "no trial store at none.db"),
    ],
)
def test_wrong_stores_are_sentences(study: Any, source: str, target: str, sentence: str) -> None:
    with pytest.raises(StoreError, match=sentence) as caught:
        copied(source, target)
    assert "geheim" not in str(caught.value)
    assert not Path("other.db").exists()


def test_a_wrong_name_is_told_before_anything_is_made(study: Any) -> None:
    with pytest.raises(StoreError, match="Did you mean 'fake'"):
        copied(DEFAULT_URL, OTHER, "fak")
    assert not Path("other.db").exists()


def test_a_full_disk_is_a_sentence_and_the_copy_can_be_made_anew(study: Any) -> None:
    target = open_storage(OTHER, create=True)
    with engine_of(target).begin() as connection:  # type: ignore[union-attr]
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON trials WHEN (SELECT COUNT(*) FROM trials) = 9 "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    with pytest.raises(StoreError, match="disk is full"):
        copied(DEFAULT_URL, OTHER)
    with engine_of(target).begin() as connection:  # type: ignore[union-attr]
        connection.exec_driver_sql("DROP TRIGGER full")
    copied(DEFAULT_URL, OTHER)
    assert everything(open_storage(OTHER)) == everything(study)


def test_what_is_enqueued_meanwhile_is_not_lost(study: Any) -> None:
    target = open_storage(OTHER, create=True)

    def step(done: int, of: int) -> None:
        if done == of:
            enqueue(study, "fake", {"model.depth": 4}, "ann@desk")

    with pytest.raises(StoreError, match="changed while it was copied"):
        copy_study(study, target, "fake", step)
    with pytest.raises(StoreError, match="cut off"):
        Search(parse("name: fake"), target)
    assert "study fake: 27 trials copied" in copied(DEFAULT_URL, OTHER)


@pytest.mark.parametrize("held", [DEFAULT_URL, OTHER])
@pytest.mark.parametrize("lock", ["study.fake", "promotion.base"])
def test_what_is_in_use_is_not_copied(study: Any, held: str, lock: str) -> None:
    Ledger(DEFAULT_URL).write(DONE)
    with store_lock(held, lock), pytest.raises(StudyLockedError, match="is in use"):
        copied(DEFAULT_URL, OTHER)
    said = copied(DEFAULT_URL, OTHER)
    assert "model base: 1 rows" in said


def test_a_copy_between_two_schemas_of_one_database(study: Any, postgres: str) -> None:
    copied(DEFAULT_URL, postgres)
    beside = f"{postgres}&options=-csearch_path%3Dtrials"
    copied(postgres, beside)
    assert everything(open_storage(beside)) == everything(study)


def test_only_the_named_studies_are_copied(study: Any) -> None:
    Search(parse("name: second"), study)
    copied(DEFAULT_URL, OTHER, "second")
    assert study_names(open_storage(OTHER)) == ["second"]


def test_histories_are_copied_with_their_seals_and_only_what_is_new(study: Any, other: str) -> None:
    ledger = Ledger(DEFAULT_URL)
    rows = [ledger.write(ENTRY), ledger.write(DONE)]
    assert "model base: 2 rows" in copied(DEFAULT_URL, other, "fake")
    there = Ledger(other)
    assert [row.seal for row in there.history("base")] == [row.seal for row in rows]
    assert there.broken("base") is None
    rows.append(ledger.write(DONE))
    assert there.take_over(ledger, "base") == 1
    assert there.take_over(ledger, "base") == 0
    assert [(row.seal, row.at) for row in there.history("base")] == [(row.seal, row.at) for row in rows]
    ledger.write(DONE)
    there.write(replace(DONE, reason="another"))  # two equal rows of one millisecond are the same row
    with pytest.raises(StoreError, match="different histories"):
        there.take_over(ledger, "base")


def test_a_promotion_that_has_not_ended_is_not_copied(study: Any) -> None:
    ledger = Ledger(DEFAULT_URL)
    ledger.write(ENTRY)
    with pytest.raises(StoreError, match="tuner promote base --resume"):
        copied(DEFAULT_URL, OTHER)


def test_a_history_that_was_tampered_with_is_not_made_whole_by_copying(study: Any) -> None:
    ledger = Ledger(DEFAULT_URL)
    ledger.write(DONE)
    with sqlalchemy.create_engine(DEFAULT_URL, poolclass=sqlalchemy.pool.NullPool).begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER tuner_ledger_fixed")
        connection.exec_driver_sql("UPDATE tuner_ledger SET reason = 'nothing happened'")
    with pytest.raises(StoreError, match="changed at row 1"):
        copied(DEFAULT_URL, OTHER)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12))
def test_of_an_original_and_its_copies_one_line_goes_on_in_a_folder(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[int, bool]]
) -> None:
    """Each step copies a store or drives it: it may go on if it has all that was driven in the folder before."""
    folder = tmp_path_factory.mktemp("runs") / "fake"
    storages, driven, done = [open_storage(MEMORY_URL)], [set[int]()], set[int]()
    folder.mkdir()
    Search(parse("name: fake"), storages[0]).ask()
    for step, (which, copies) in enumerate(history):
        which %= len(storages)
        if copies:
            storages.append(open_storage(MEMORY_URL))
            driven.append(set(driven[which]))
            copy_study(storages[which], storages[-1], "fake")
            continue
        origin = Search(parse("name: fake"), storages[which]).origin
        if done <= driven[which]:
            claim(folder, origin, None)
            driven[which].add(step)
            done.add(step)
        else:
            with pytest.raises(StoreError, match="went on in another store"):
                claim(folder, origin, None)
