"""The driver's tracker of a real study: a spooler whose spools a thread mirrors to MLflow.
No MLflow client and no waiting here.
"""

from __future__ import annotations

from pathlib import Path

from tuner.tracking.mirror import Mirror, Say
from tuner.tracking.spooler import Spooler


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
