"""What the driver knows of a trial that is in a worker."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.search.asktell import Asked
from tuner.spec.records import Spent
from tuner.spec.trial import TrialSpec


@dataclass
class Running:
    """A trial in a worker: its kills since it reached a further milestone, and the value there; micro-batches a step,
    where known, and whether memory has made them smaller; for how many seconds the worker has said nothing.
    """

    asked: Asked
    spec: TrialSpec
    kills: int = 0
    reached: int = 0
    value: float | None = None
    started: bool = False
    parts: int | None = None
    refined: bool = False
    spent: Spent | None = None
    silence: float = 0.0
