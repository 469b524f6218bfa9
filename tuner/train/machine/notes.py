"""Notes of what was timed on this machine: one small JSON file per machine and shape, in a folder all studies share.
Seconds only; what follows from them is decided in probe.py.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock

from tuner.spec.parts.scalars import digest
from tuner.spec.trial import TrialSpec
from tuner.train.machine.capacity import read_note, shape_on, write_note
from tuner.train.machine.device import device_kind

Times = dict[str, float]
"""Least seconds of one step, by the way it is computed ("fp32", "bf16 compiled")."""


class Note:
    """The times of a spec's steps in ``accumulate`` micro-batches on ``device``, with the threads of this process."""

    def __init__(self, folder: Path, spec: TrialSpec, vocab: int, accumulate: int, device: torch.device) -> None:
        self.about = shape_on(device_kind(device), spec, vocab, accumulate) | {
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
        }
        self.path = folder / f"{digest(self.about)[:24]}.json"

    def read(self) -> Times:
        """What is known; empty where nothing is, or where the file is damaged."""
        try:
            known = read_note(self.path)["seconds"]
            times = {str(way): float(seconds) for way, seconds in known.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        return times if all(math.isfinite(s) and s > 0 for s in times.values()) else {}

    def write(self, times: Times) -> None:
        """Replace the note; times that are not finite are left out."""
        finite = {way: seconds for way, seconds in times.items() if math.isfinite(seconds)}
        write_note(self.path, {"about": self.about, "seconds": finite})

    @contextmanager
    def held(self) -> Iterator[Times]:
        """While the block runs no other process measures this shape: it waits, and then reads what was found.

        So trials of one shape that start together make one choice, and their timings do not disturb each other.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            yield self.read()
