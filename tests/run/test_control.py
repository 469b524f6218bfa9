"""Control from outside: what another process asks is done by the driver within seconds, and recorded."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from study_helpers import URL, drive, record, yaml
from test_driver import build

from tuner.run.control.study import enqueue, prune, stop
from tuner.run.driver import Ending
from tuner.search.asktell import Search
from tuner.search.requests import Request, Wish, answered, dismiss, post
from tuner.search.store.storage import open_storage
from tuner.spec.errors import SpecError, StoreError
from tuner.spec.load import parse


@pytest.fixture
def made(text_file: Path) -> str:
    """A store with a study that has no trial yet, and its YAML."""
    text = yaml(text_file, trials=2, budget="2M tokens")
    Search(parse(text), open_storage(URL, create=True))
    return text


def test_an_enqueued_point_is_tried_next_and_keeps_its_actor(made: str) -> None:
    assert enqueue(URL, "small", {"optim.lr": 0.004}, "ann") == 0
    search = Search(parse(made), open_storage(URL))
    first = search.ask()
    assert enqueue(URL, "small", {"batch": 4}, "bob", like=0) == 1
    second = search.ask()
    assert first.point["optim.lr"] == 0.004
    assert second.point == {"optim.lr": 0.004, "batch": 4}
    facts = [trial.facts["enqueued_by"] for trial in search.record().trials]
    assert facts == ["ann", "bob"]


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"optim.lr": 5.0}, "none of its values: 0.001 to 0.01"),
        ({"batch": 5}, "none of its values: 4, 8"),
        ({"optim.warmup": 0.1}, "no dimension of study 'small'"),
    ],
)
def test_a_point_outside_the_space_is_a_sentence(made: str, point: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        enqueue(URL, "small", point, "ann")
    assert not record(Path()).trials


RULED = """
name: ruled
trial: {batch: 32}
space: {model.depth: {choice: [2, 8]}, batch: {choice: [8, 16, 32]}, optim.lr: {float: [1e-4, 1e-2]}}
forbid: ["model.depth > 6 and batch > 8"]
study: {prior: none}
"""


def test_a_rule_neither_refuses_nor_spoils_a_point_that_says_only_a_part(tmp_path: Path) -> None:
    """What is written, batch 32, would forbid it, and so might what the sampler adds; 8 would not."""
    url = f"sqlite:///{tmp_path}/ruled.db"
    search = Search(parse(RULED), open_storage(url, create=True))
    for _ in range(4):
        enqueue(url, "ruled", {"model.depth": 8}, "ann")
    assert [search.ask().point["batch"] for _ in range(4)] == [8] * 4
    assert enqueue(url, "ruled", {"model.depth": 2}, "ann") == 4
    assert search.ask().point["model.depth"] == 2
    with pytest.raises(SpecError, match=r"this point cannot be a trial: .*batch > 8"):
        enqueue(url, "ruled", {"model.depth": 8, "batch": 16}, "ann")


def test_without_a_driver_nobody_answers_and_nothing_lingers(made: str) -> None:
    with pytest.raises(StoreError, match="is the study running"):
        stop(URL, "small", "ann", patience=0.3)
    assert Search(parse(made), open_storage(URL)).requests() == []
    with pytest.raises(StoreError, match="no study 'smal'"):
        stop(URL, "smal", "ann", patience=0.3)


def test_what_was_asked_of_a_driver_that_died_is_not_done_by_the_next(tmp_path: Path) -> None:
    storage = open_storage(URL, create=True)
    driver = build(tmp_path, storage)
    asked = post(storage, "fake", Request(Wish.STOP, "ann", "enough"))
    dismiss(storage, "fake")
    assert driver.run() is Ending.COMPLETE
    assert answered(storage, "fake", asked) == "no driver was running"


def test_what_is_asked_while_a_study_prepares_is_done_once_it_runs(tmp_path: Path) -> None:
    storage = open_storage(URL, create=True)
    driver = build(tmp_path, storage)
    asked = post(storage, "fake", Request(Wish.STOP, "ann", "enough"))
    assert driver.run() is Ending.INTERRUPTED
    assert "stopping" in str(answered(storage, "fake", asked))


def test_stop_and_prune_take_effect_within_seconds(made: str, tmp_path: Path) -> None:
    """Two real trials that would take minutes: one is pruned from another thread, then the study is stopped."""
    times: dict[str, float] = {}

    def outside() -> None:
        while sum(t.state == "running" for t in record(tmp_path).trials) < 2:
            time.sleep(0.2)
        time.sleep(1)
        since = time.monotonic()
        times["said"] = prune(URL, "small", 0, "ann", "it is too slow") == "trial 0 is being pruned"
        while record(tmp_path).trials[0].state == "running":
            time.sleep(0.1)
        times["prune"] = time.monotonic() - since
        since = time.monotonic()
        stop(URL, "small", "bob", "the machine is needed")
        times["answered"] = time.monotonic() - since

    thread = threading.Thread(target=outside)
    thread.start()
    ending = drive(made, tmp_path)[0].run()
    thread.join(30)
    assert ending is Ending.INTERRUPTED
    trials = record(tmp_path).trials
    assert trials[0].state == "pruned"
    assert trials[0].reason == "pruned by ann: it is too slow"
    assert trials[1].state == "running"  # it goes on with the same command
    assert times["prune"] < 5
    assert times["answered"] < 5
