"""What the driver tells the memory of a study, and the one rule about rows that come twice.
A protocol, a memory that forgets, a pure rule; nothing here touches a disk or MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        """Keep one row. False: its step was recorded already and nothing was kept (see ``admit``).

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
        self._last: dict[int, Measurement] = {}

    def start(self, trial: int, params: Mapping[str, Value], tags: Mapping[str, str], spec: Mapping[str, Any]) -> None:
        pass

    def row(self, trial: int, measurement: Measurement) -> bool:
        last = self._last.get(trial)
        kept = admit(last, measurement)
        if kept is not None:
            self._last[trial] = merge(last, kept)
        return kept is not None

    def tag(self, trial: int, tags: Mapping[str, str]) -> None:
        pass

    def finish(self, trial: int, outcome: Outcome, tags: Mapping[str, str]) -> None:
        pass

    def runs(self) -> dict[int, str]:
        return {}

    def close(self, timeout: float = 4.0) -> int:
        return 0


def admit(last: Measurement | None, row: Measurement) -> Measurement | None:
    """What of ``row`` is new after ``last`` (the last row kept, merged), or None.

    A resumed trial does again, bit-identically, the steps after its last checkpoint: a row whose step is not
    beyond the last is dropped. One exception: a row at the last step that brings the milestone the kept one
    lacked. Of it the milestone, what came with it and metrics not yet known are new; time and spent stay those of the
    first row, so that a step has one time and one value of each metric wherever it is copied.
    """
    if last is None or row.spent.steps > last.spent.steps:
        return row
    if row.spent.steps == last.spent.steps and row.milestone is not None and last.milestone is None:
        fresh = {key: value for key, value in row.metrics.items() if key not in last.metrics}
        return Measurement(last.spent, fresh, row.milestone, last.time_ms, row.samples, row.confusion)
    return None


def merge(last: Measurement | None, kept: Measurement) -> Measurement:
    """The last row after ``kept`` (from ``admit``): itself, or both parts of one step as one row."""
    if last is None or last.spent.steps != kept.spent.steps:
        return kept
    samples, confusion = kept.samples or last.samples, kept.confusion or last.confusion
    metrics = {**last.metrics, **kept.metrics}
    return Measurement(last.spent, metrics, kept.milestone, last.time_ms, samples, confusion)
