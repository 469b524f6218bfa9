"""A trial that ends before its budget because it has stopped to get better: what counts is the model it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_driver import build

from tuner.run.hands.fake import FakeWorkers
from tuner.run.hands.link import Message, TrialJob
from tuner.run.hands.workers import Died
from tuner.spec.records import Measurement, Outcome, Spent, Started, State


class Overfitting(FakeWorkers):
    """Each trial is best at its second milestone and ends at its third."""

    def story(self, job: TrialJob) -> Iterator[Message | Died]:
        yield Started(job.spec.as_data(), {})
        for milestone, loss in enumerate((3.0, 2.0, 2.5), 1):
            metrics = {"val_loss": loss, "val_bpb": loss / 3}
            yield Measurement(Spent(milestone, milestone, 1.0, 1.0), metrics, milestone, time_ms=milestone)
        yield Outcome(State.COMPLETE, "no lower validation loss", metrics={"val_loss": 2.0, "val_bpb": 2 / 3})


@pytest.mark.parametrize(("metric", "value"), [("val_loss", 2.0), ("val_bpb", 2 / 3)])
def test_its_lowest_loss_is_its_value(tmp_path: Path, metric: str, value: float) -> None:
    driver = build(
        tmp_path, hands=Overfitting(2), **{"study.trials": 3, "study.pruner": "none", "study.metric": metric}
    )
    driver.run()
    assert [trial.value for trial in driver.search.record().trials] == [value] * 3
