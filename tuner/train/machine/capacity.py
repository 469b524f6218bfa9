"""What a trial takes of a machine's memory: foretold, or remembered from a real one; and in how many parts it fits.
Arithmetic and small notes; torch is not needed, so a driver can ask before any worker exists.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.spec.disk import note as write
from tuner.spec.disk import seal, unseal
from tuner.spec.parts.scalars import digest
from tuner.spec.trial import TrialSpec
from tuner.train.model.memory import memory_bytes

SHARE = 0.8
"""Of the free memory: what trials may fill together where nothing is said."""

MACHINE = ".machine"
"""The folder of a machine's notes, beside its corpora."""

_CGROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Folder, limit, use, and the line of ``memory.stat`` that says how much of the use is file cache to be dropped."""


class TooLargeError(Exception):
    """A trial took more memory than it may: ``taken`` bytes."""

    def __init__(self, taken: int, limit: int) -> None:
        super().__init__(f"it took {taken / 1e6:,.0f} MB of memory and may take {limit / 1e6:,.0f} MB")
        self.taken = taken


def available_bytes() -> int:
    """Host memory that new processes could take now: the machine's, or what a container has left of its own."""
    import psutil  # here: a packaged model comes by this file, and does not need it

    free = int(psutil.virtual_memory().available)
    for folder, limit, used, cache in _CGROUPS:
        with suppress(OSError, ValueError, KeyError):  # "max", or no such group
            whole = int((Path(folder) / limit).read_text())
            stat = dict(line.split() for line in (Path(folder) / "memory.stat").read_text().splitlines())
            free = min(free, max(0, whole - int((Path(folder) / used).read_text()) + int(stat[cache])))
    return free


def limit_of(wanted: int | str, slots: int, accelerated: bool, each: int = 1) -> int | None:
    """Bytes that each of the ``each`` processes of one of ``slots`` trials may take: as wanted for the trial, else its
    share of the free memory; None where a GPU's own memory decides, which only a worker can ask for.
    """
    if isinstance(wanted, int):
        return wanted // each
    return None if accelerated else int(SHARE * available_bytes() / (slots * each))


def divisions(spec: TrialSpec) -> list[int]:
    """The numbers of micro-batches that a step of the trial may have, fewest first."""
    if spec.accumulate != "auto":
        return [spec.accumulate]
    small = [d for d in range(1, math.isqrt(spec.batch) + 1) if spec.batch % d == 0]
    return sorted({*small, *(spec.batch // d for d in small)})


def finer(spec: TrialSpec, parts: int) -> int | None:
    """The next number of micro-batches, each at most half as large as one of ``parts``; None where there is none."""
    return next((more for more in divisions(spec) if more >= 2 * parts), None)


@dataclass(frozen=True)
class Capacity:
    """What a trial may take, ``limit`` bytes, on a kind of device; ``notes`` is the folder of this machine's notes."""

    limit: int
    kind: str
    notes: Path

    def parts(self, spec: TrialSpec, vocab: int) -> int | None:
        """The fewest micro-batches a step with which the trial fits; None where it never does."""
        return next((parts for parts in divisions(spec) if self.needed(spec, vocab, parts) <= self.limit), None)

    def needed(self, spec: TrialSpec, vocab: int, parts: int) -> int:
        """Peak bytes of the trial with so many micro-batches a step: as a real one of its shape took here, else as
        estimated.
        """
        with suppress(OSError, ValueError, KeyError, TypeError):
            return int(read_note(self._note(spec, vocab, parts))["bytes"])
        return memory_bytes(spec.model_copy(update={"accumulate": parts}), vocab)

    def learn(self, spec: TrialSpec, vocab: int, parts: int, taken: int) -> None:
        """Remember what a real trial of this shape took, at its fullest. A disk that is full forgets it."""
        with suppress(OSError):
            self.notes.mkdir(parents=True, exist_ok=True)
            about = self._about(spec, vocab, parts)
            write_note(self._note(spec, vocab, parts), {"about": about, "bytes": taken})

    def _note(self, spec: TrialSpec, vocab: int, parts: int) -> Path:
        return self.notes / f"memory-{digest(self._about(spec, vocab, parts))[:24]}.json"

    def _about(self, spec: TrialSpec, vocab: int, parts: int) -> dict[str, object]:
        return shape_on(self.kind, spec, vocab, parts) | {"precision": spec.precision, "compile": spec.compile}


def shape_on(kind: str, spec: TrialSpec, vocab: int, parts: int) -> dict[str, object]:
    """What a note about a trial's steps in ``parts`` micro-batches on a kind of device holds for."""
    adapted: dict[str, object] = {}
    if spec.init.source is not None:
        adapted = spec.init.model_dump(include={"freeze", "lora"})
    if spec.optim.distil.weight:
        adapted["teacher"] = spec.init.sha256
    return {
        **adapted,
        **({} if spec.task == "generate" else {"task": spec.task}),
        **({"rounds": True} if spec.compress.round_from < 1 else {}),
        "device": kind,
        "model": spec.as_data()["model"],
        "vocab": vocab,
        "context": spec.data.context,
        "batch": spec.batch,
        "micro_batch": spec.batch // parts,
        "optimizer": spec.optim.kind,
    }


def write_note(path: Path, note: Mapping[str, object]) -> None:
    """Replace a note at once, so that no reader finds half of it.

    Raises:
        OSError: the disk is full, or its folder is not there; it names the file.
    """
    fresh = path.with_suffix(f".{os.getpid()}")
    write(fresh, json.dumps(seal(note), indent=1))
    fresh.replace(path)


def read_note(path: Path) -> dict[str, Any]:
    """What ``write_note`` wrote.

    Raises:
        OSError: there is none.
        ValueError: it is damaged, or from before notes were sealed.
    """
    return unseal(json.loads(path.read_text()))
