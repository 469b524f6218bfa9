"""A text that changes, or cannot be read, while a study runs: it halts in a sentence; two texts share no ranking."""

from __future__ import annotations

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
from tuner.spec.records import Outcome, Started, State


class Reading(FakeWorkers):
    """Each trial tells which text it reads; from the third on it may be another one, or none."""

    later: str | None = "aaaa"

    def story(self, job: TrialJob) -> Iterator[Message | Died]:
        text = "aaaa" if job.number < 2 else self.later
        if text is None:
            yield Outcome(State.INTERRUPTED, "data: cannot read book.txt: Stale file handle")
            return
        for message in super().story(job):
            if isinstance(message, Started):
                message = replace(message, facts={**message.facts, "data_fingerprint": text})
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
    assert "infeasible" not in states
    again = build(tmp_path, storage, Reading(1), **{"study.trials": 6})
    assert again.run() is Ending.COMPLETE
    assert len(again.search.record().trials) == 6


def test_where_the_search_chooses_what_is_read_texts_differ(tmp_path: Path) -> None:
    hands = Reading(1)
    hands.later = "bbbb"
    text = "name: s\nspace: {data.context: {choice: [32, 64]}}\nstudy: {trials: 6, pruner: none}"
    assert build(tmp_path, hands=hands, text=text).run() is Ending.COMPLETE
