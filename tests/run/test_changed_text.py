"""A text that changes, or cannot be read, while a study runs: it halts in a sentence; two texts share no ranking."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_driver import build

from tuner.run.driver import Ending
from tuner.run.hands.fake import FakeWorkers
from tuner.run.hands.link import Message, TrialJob
from tuner.run.hands.workers import Died
from tuner.search.store.address import MEMORY_URL
from tuner.search.store.storage import open_storage
from tuner.spec.errors import StudyStoppedError
from tuner.spec.records import MIXED, Outcome, Started, State, Value


class Reading(FakeWorkers):
    """Each trial tells which text it reads; from the third on it may be another one, or none."""

    later: str | None = "aaaa"
    killed: int | None = None

    def kill(self, number: int | None = None) -> None:
        self.killed = number
        super().kill(number)

    def story(self, job: TrialJob) -> Iterator[Message | Died]:
        text = "aaaa" if job.number < 2 else self.later
        if text is None:
            yield Outcome(State.INTERRUPTED, "data: cannot read book.txt: Stale file handle")
            return
        yield from _told(super().story(job), {"data_fingerprint": text})


def _told(story: Iterator[Message | Died], facts: dict[str, Value]) -> Iterator[Message | Died]:
    for message in story:
        if isinstance(message, Started):
            message = replace(message, facts={**message.facts, **facts})
        yield message


@pytest.mark.parametrize(("later", "said"), [("bbbb", "the text has changed while it ran"), (None, "cannot read book")])
def test_a_study_halts_and_goes_on_once_the_text_is_as_it_was(tmp_path: Path, later: str | None, said: str) -> None:
    storage, hands = open_storage(MEMORY_URL), Reading(1)
    hands.later = later
    driver = build(tmp_path, storage, hands, **{"study.trials": 6})
    with pytest.raises(StudyStoppedError, match=said):
        driver.run()
    states = [trial.state for trial in driver.search.record().trials]
    assert len(states) == 3
    assert hands.killed == (2 if later else None)  # or it would save what it has learned of another text
    assert "infeasible" not in states
    again = build(tmp_path, storage, Reading(1), **{"study.trials": 6})
    assert again.run() is Ending.COMPLETE
    assert len(again.search.record().trials) == 6


SEARCHED = "name: s\nspace: {PATH: {choice: CHOICE}}\nstudy: {trials: 6, pruner: none, sampler: grid}"


def test_where_the_search_chooses_the_tokens_texts_differ(tmp_path: Path) -> None:
    class Tokens(FakeWorkers):
        def story(self, job: TrialJob) -> Iterator[Message | Died]:
            yield from _told(super().story(job), {"data_fingerprint": job.spec.data.tokenizer.kind})

    text = SEARCHED.replace("PATH", "data.tokenizer.kind").replace("CHOICE", "[char, byte]")
    text = text.replace("study: {", "study: {metric: val_bpb, ")
    assert build(tmp_path, hands=Tokens(1), text=text).run() is Ending.COMPLETE


@pytest.mark.parametrize(
    ("path", "choice"), [("data.context", "[32, 64, 96, 128]"), ("data.augment.mask", "[0.0, 0.1, 0.2, 0.3]")]
)
def test_where_the_search_chooses_how_it_is_read_it_is_one_text(tmp_path: Path, path: str, choice: str) -> None:
    hands = Reading(1)
    hands.later = "bbbb"
    text = SEARCHED.replace("PATH", path).replace("CHOICE", choice)
    with pytest.raises(StudyStoppedError, match="the text has changed while it ran"):
        build(tmp_path, hands=hands, text=text).run()


def test_a_text_that_is_mixed_in_may_not_change_either(tmp_path: Path) -> None:
    class Mixing(FakeWorkers):
        def story(self, job: TrialJob) -> Iterator[Message | Died]:
            mixed = {"notes": "aaaa" if job.number < 2 else "bbbb"}
            yield from _told(super().story(job), {"data_fingerprint": "cccc", MIXED: json.dumps(mixed)})

    with pytest.raises(StudyStoppedError, match="the text notes has changed while it ran"):
        build(tmp_path, hands=Mixing(1), **{"study.trials": 6}).run()
