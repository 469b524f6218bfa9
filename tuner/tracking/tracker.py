"""The driver's tracker: every call is kept in the trial's spool and returns; of a real study a thread mirrors them.
No MLflow client and no waiting here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.spec.errors import StoreError
from tuner.spec.records import Measurement, Outcome, Value
from tuner.tracking.base import Kept
from tuner.tracking.mirror import Mirror, Say
from tuner.tracking.spool import SPOOL, Finish, Record, Resume, Spool, Start, Tags


class Spooler:
    """A Tracker whose memory is the spools in ``folder`` (``runs/<study>``); ``wrote`` hears of each record's trial."""

    def __init__(self, folder: Path, say: Say, wrote: Callable[[int], None] = lambda trial: None) -> None:
        self._folder, self._say, self._wrote = folder, say, wrote
        self._spools: dict[int, Spool] = {}
        self._kept: dict[int, Kept] = {}

    def start(self, trial: int, params: Mapping[str, Value], tags: Mapping[str, str], spec: Mapping[str, Any]) -> None:
        self._close_spool(trial)
        spool = self._open(trial)
        if spool.cut:
            self._say(f"trial {trial}: a torn last line ({spool.cut} bytes) was cut from its record")
        if spool.started:
            self._write(trial, Resume(self._now_ms(trial), spool.resumes + 1, dict(tags)), durable=True)
        else:
            self._write(trial, Start(self._now_ms(trial), dict(params), dict(tags), spec), durable=True)

    def row(self, trial: int, measurement: Measurement) -> bool:
        timed = replace(measurement, time_ms=self._now_ms(trial, measurement.time_ms))
        self._started(trial)
        before = self._kept[trial]
        kept = before.admit(timed)
        if kept is None:
            return False
        self._write(trial, kept, durable=kept.milestone is not None)
        self._kept[trial] = before.after(kept)
        return True

    def tag(self, trial: int, tags: Mapping[str, str]) -> None:
        self._write(trial, Tags(self._now_ms(trial), dict(tags)), durable=False)

    def finish(self, trial: int, outcome: Outcome, tags: Mapping[str, str]) -> None:
        self._write(trial, Finish(self._now_ms(trial), outcome, dict(tags)), durable=True)
        self._close_spool(trial)

    def runs(self) -> dict[int, str]:
        return {}

    def close(self, timeout: float = 4.0) -> int:
        for trial in list(self._spools):
            self._close_spool(trial)
        return 0

    def _started(self, trial: int) -> Spool:
        if trial in self._spools:
            return self._spools[trial]
        path = self._folder / str(trial) / SPOOL
        if not path.exists():
            raise StoreError(f"{path}: expected a started trial, got none; call start({trial}, ...) first")
        return self._open(trial)

    def _open(self, trial: int) -> Spool:
        spool = self._spools[trial] = Spool(self._folder / str(trial) / SPOOL)
        self._kept[trial] = spool.kept
        return spool

    def _now_ms(self, trial: int, said: int = 0) -> int:
        """The time of a record, as ``said`` or now; never before the last one, though clocks are set back."""
        return max(said or time.time_ns() // 1_000_000, self._started(trial).latest)

    def _write(self, trial: int, record: Record, *, durable: bool) -> None:
        self._started(trial).append(record, durable=durable)
        self._wrote(trial)

    def _close_spool(self, trial: int) -> None:
        if (spool := self._spools.pop(trial, None)) is not None:
            spool.close()
            self._kept.pop(trial, None)


class StudyTracker(Spooler):
    """The Tracker of a real study: ``folder`` is ``runs/<study>``, ``uri`` MLflow's (see store.location).

    ``say`` receives one sentence at the first failure of MLflow and one at its recovery, from another thread.
    """

    def __init__(self, folder: Path, study: str, uri: str, say: Say, *, interval: float = 1.0) -> None:
        self._mirror = Mirror(folder, study, uri, say, interval)
        super().__init__(folder, say, self._mirror.touch)
        self._mirror.start()

    def runs(self) -> dict[int, str]:
        return self._mirror.runs()

    def close(self, timeout: float = 4.0) -> int:
        super().close()
        return self._mirror.close(timeout)
