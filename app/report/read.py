"""What a report is made of: one study as it stands in the store, with its noise and importance, read once.
Nothing is drawn here, and no streamlit: a report is made without a dashboard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from tuner.analysis.store import Store, harmless
from tuner.analysis.study.frame import budget_at, frame, milestones
from tuner.analysis.study.importance import ENOUGH, witnesses
from tuner.analysis.study.noise import Noise, study_noise, tie_band
from tuner.spec.records import SIMULATED


@dataclass(frozen=True)
class Reading:
    """One study as read at ``at`` (UTC) from ``store`` (its URL without a password); ``runs`` holds the spools."""

    record: Any
    frame: pd.DataFrame
    noise: Noise
    importance: Mapping[str, float]
    store: str
    runs: Path
    at: datetime

    @property
    def band(self) -> float:
        """Two trials nearer than this tie, in units of the metric."""
        return tie_band(self.noise)

    @property
    def milestones(self) -> int:
        return milestones(self.record)

    @property
    def budget(self) -> str:
        """The full budget of a trial, in words."""
        return budget_at(self.record, self.milestones)

    @property
    def complete(self) -> int:
        return witnesses(self.frame)

    @property
    def simulated(self) -> int:
        """Trials that were made up."""
        return self._devices.count(SIMULATED)

    @property
    def trained(self) -> bool:
        """Whether any trial was trained on a device that is one."""
        return len(self._devices) > self.simulated

    @property
    def _devices(self) -> list[str]:
        """Of each trial that names one; those that never started do not."""
        return [str(one.facts["device_kind"]) for one in self.record.trials if "device_kind" in one.facts]


def read(url: str, name: str, runs: Path) -> Reading:
    """Read a study.

    Raises:
        StoreError: no store, no such study, or the store cannot be reached.
    """
    store = Store(url)
    record = store.study(name)
    table = frame(record)
    shares = store.importance(name) if witnesses(table) >= ENOUGH else {}
    return Reading(record, table, study_noise(record), shares, harmless(url), runs, datetime.now(UTC))
