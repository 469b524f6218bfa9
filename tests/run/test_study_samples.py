"""A study with real workers: its trials' samples reach the driver, as many as were asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from study_helpers import Hook, drive, yaml

from tuner.run.driver import Ending
from tuner.spec.records import Measurement
from tuner.tracking.spool import SPOOL, read_spool
from tuner.tracking.tracker import StudyTracker


class Listener(Hook):
    def __init__(self) -> None:
        super().__init__()
        self.written: dict[int, tuple[str, ...]] = {}

    def measured(self, number: int, measurement: Measurement) -> None:
        if measurement.milestone == 4:
            self.written[number] = measurement.samples


@pytest.mark.parametrize("count", [0, 3])
def test_a_trial_writes_as_many_samples_as_the_study_asks_for(text_file: Path, tmp_path: Path, count: int) -> None:
    hook = Listener()
    text = yaml(text_file, trials=2, budget="4k tokens").replace("keep: 2", f"keep: 2, samples: {count}")
    driver, _ = drive(text, tmp_path, hook)
    unreachable = "http://127.0.0.1:9"  # a store that is away: what counts is the local record
    tracker = driver.tracker = StudyTracker(driver.folder, "small", unreachable, hook.say, interval=3600)
    assert driver.run() is Ending.COMPLETE
    tracker.close(timeout=0)
    assert [len(hook.written[number]) for number in (0, 1)] == [count, count]
    for number, texts in hook.written.items():
        last = read_spool(driver.folder / str(number) / SPOOL).rows[-1]
        assert (last.milestone, last.samples) == (4, texts)
        assert all(text.strip() for text in texts)
