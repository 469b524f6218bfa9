"""What the driver tells the memory of a study, and the one rule about rows that come twice.
A protocol, a memory that forgets, a pure rule; nothing here touches a disk or MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tuner.spec.records import Measurement, Outcome, Value


class Tracker(Protocol):
    """The memory of one study, called by one process, the driver. No call waits for a network."""

    def start(self, trial: int, params: Mapping[str, Value], tags: Mapping[str, str], spec: Mapping[str, Any]) -> None:
        """Begin ``trial``, or go on with it: on a trial already started, only ``tags`` are new.

        Raises:
            StoreError: the disk refused the record.
        """

    def row(self, trial: int, measurement: Measurement) -> bool:
        """Keep one row. False: its step was recorded already and nothing was kept (see ``Kept``).

        Raises:
            StoreError: the trial was not started, or the disk refused the record.
        """

    def tag(self, trial: int, tags: Mapping[str, str]) -> None:
        """Set tags of a started trial; the last value of a tag stands.

        Raises:
            StoreError: the trial was not started, or the disk refused the record.
        """

    def finish(self, trial: int, outcome: Outcome, tags: Mapping[str, str]) -> None:
        """End ``trial``; a later finish overrides an earlier one.

        Raises:
            StoreError: the trial was not started, or the disk refused the record.
        """

    def runs(self) -> dict[int, str]:
        """Trial -> MLflow run id, as far as known by now."""

    def close(self, timeout: float = 4.0) -> int:
        """Mirror what ``timeout`` seconds allow, never longer; the number of records not mirrored."""


class NullTracker:
    """Keeps nothing but the last row of each trial: for simulations, which still meet the rule on rows."""

    def __init__(self) -> None:
        self._kept: dict[int, Kept] = {}

    def start(self, trial: int, params: Mapping[str, Value], tags: Mapping[str, str], spec: Mapping[str, Any]) -> None:
        pass

    def row(self, trial: int, measurement: Measurement) -> bool:
        before = self._kept.get(trial, Kept())
        kept = before.admit(measurement)
        if kept is not None:
            self._kept[trial] = before.after(kept)
        return kept is not None

    def tag(self, trial: int, tags: Mapping[str, str]) -> None:
        pass

    def finish(self, trial: int, outcome: Outcome, tags: Mapping[str, str]) -> None:
        pass

    def runs(self) -> dict[int, str]:
        return {}

    def close(self, timeout: float = 4.0) -> int:
        return 0


@dataclass(frozen=True)
class Kept:
    """What of a trial was kept so far, as far as it decides what is new: the ``last`` row (merged), the highest step
    and the highest milestone.
    """

    last: Measurement | None = None
    step: int = -1
    milestone: int = 0

    def admit(self, row: Measurement) -> Measurement | None:
        """What of ``row`` is new, or None.

        A resumed trial does again, bit-identically, the steps after its last checkpoint: a row whose step is not beyond
        all others is dropped. But no milestone is: a row at the last step that brings the milestone the kept one lacked
        adds to it (the milestone, what came with it and metrics not yet known; time and spent stay those of the first
        row, so that a step has one time and one value of each metric wherever it is copied); one that reaches several
        milestones in one step is kept for each; and where the budget is in seconds, a resumed trial may reach one at an
        earlier step than it was at before.
        """
        if row.spent.steps > self.step:
            return row
        if row.milestone is None or row.milestone <= self.milestone or self.last is None:
            return None
        if row.spent.steps != self.last.spent.steps:
            return row
        known = self.last.metrics if self.last.milestone is None else {}
        fresh = {key: value for key, value in row.metrics.items() if key not in known}
        return Measurement(self.last.spent, fresh, row.milestone, self.last.time_ms, row.samples, row.confusion)

    def after(self, kept: Measurement) -> Kept:
        """With ``kept`` (from ``admit``) too."""
        return Kept(merge(self.last, kept), max(self.step, kept.spent.steps), max(self.milestone, kept.milestone or 0))


def merge(last: Measurement | None, kept: Measurement) -> Measurement:
    """The last row after ``kept`` (from ``admit``): itself, or both parts of one step as one row."""
    if last is None or last.spent.steps != kept.spent.steps or last.milestone is not None:
        return kept
    samples, confusion = kept.samples or last.samples, kept.confusion or last.confusion
    metrics = {**last.metrics, **kept.metrics}
    return Measurement(last.spent, metrics, kept.milestone, last.time_ms, samples, confusion)
