"""The line between driver and worker: which messages cross, and the worker's end of the pipe.
Plain records only; neither torch nor Optuna is known here.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from tuner.spec.parts.data import DataSpec
from tuner.spec.parts.sampling import Sampling
from tuner.spec.records import Measurement, Outcome, Preparing, Started, Verdict
from tuner.spec.trial import TrialSpec


@dataclass(frozen=True)
class TrialJob:
    """Train one trial in ``folder``; ``corpora`` holds the tokenised texts; it writes ``samples`` at milestones.

    It may take ``memory`` bytes (None: what there is); a step has ``parts`` micro-batches (None: as it finds). The
    checkpoint of its lowest ``metric`` stands for it.
    """

    number: int
    spec: TrialSpec
    milestones: int
    folder: Path
    corpora: Path
    code_version: str
    samples: int = 0
    memory: int | None = None
    parts: int | None = None
    metric: str = "val_loss"


@dataclass(frozen=True)
class DataJob:
    """Build (or find) one corpus, and those of what is mixed in; answers with its CorpusInfo. ``apart``: they are held
    to being other texts than what is judged by.
    """

    data: DataSpec
    corpora: Path
    apart: bool = False


@dataclass(frozen=True)
class DevicesJob:
    """Name what trials can run on; answers with device -> kind: the GPUs, or the CPU on a machine without."""


@dataclass(frozen=True)
class ExamineJob:
    """Look at a checkpoint, and on the test part beside a packaged ``champion``; answers with Evidence."""

    checkpoint: Path
    corpora: Path
    champion: Path | None
    test_tokens: int | None


@dataclass(frozen=True)
class ProveJob:
    """Load a packaged model and generate a little; answers with None, or the TunerError that says why not."""

    folder: Path


@dataclass(frozen=True)
class WriteJob:
    """Continue a prompt with a checkpoint for at most ``seconds``; answers with Written, or a TunerError."""

    checkpoint: Path
    corpora: Path
    prompt: str
    sampling: Sampling
    seconds: float


@dataclass(frozen=True)
class KeepJob:
    """Keep the model in ``folder`` below ``root``, for trials to begin with; answers with Ancestor, or a TunerError."""

    folder: Path
    corpora: Path
    root: Path


@dataclass(frozen=True)
class WeighJob:
    """How good and how small the model in each of ``folders`` is, on ``test_tokens`` of the test part too (None: all);
    answers with a tuple of Weighed, or a TunerError.
    """

    folders: tuple[Path, ...]
    data: DataSpec
    corpora: Path
    test_tokens: int | None


Job = TrialJob | DataJob | DevicesJob | ExamineJob | ProveJob | WriteJob | KeepJob | WeighJob


@dataclass(frozen=True)
class Interrupt:
    """From the driver: finish the step, write a checkpoint, leave."""


@dataclass(frozen=True)
class Alive:
    """From a worker with nothing else to say: it has done a step, or a batch of an evaluation."""


@dataclass(frozen=True)
class Exhausted:
    """From a worker whose trial did not fit into memory: why, in words; ``known`` if the machine's notes have it."""

    reason: str
    known: bool


Message = Preparing | Started | Measurement | Alive | Outcome | Exhausted
"""What a worker says, in this order: any Preparing, one Started, Measurements and Alive; one Outcome or Exhausted."""

QUIET = 1.0
"""Seconds after which a worker that still works says so."""


class PipeLink:
    """The trainer's link over a pipe. When the driver is gone, so is the worker: its state is on disk."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._interrupted = False
        self._said = time.monotonic()

    def send(self, message: object) -> None:
        self._said = time.monotonic()
        try:
            self._pipe.send(message)
        except (BrokenPipeError, ConnectionResetError):
            os._exit(1)

    def preparing(self, work: Preparing) -> None:
        self.send(work)

    def started(self, started: Started) -> None:
        self.send(started)

    def report(self, measurement: Measurement) -> Verdict:
        self.send(measurement)
        if measurement.milestone is None:
            return Verdict.CONTINUE
        while True:
            answer = self._receive()
            if isinstance(answer, Verdict):
                return answer

    def interrupted(self) -> bool:
        if time.monotonic() - self._said > QUIET:
            self.send(Alive())
        while not self._interrupted and self._pipe.poll():
            self._receive()
        return self._interrupted

    def _receive(self) -> object:
        try:
            message = self._pipe.recv()
        except (EOFError, OSError):
            os._exit(1)
        if isinstance(message, Interrupt):
            self._interrupted = True
        return message
