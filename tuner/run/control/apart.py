"""Models looked at, proved and asked to write, each time in a process of its own, on the CPU.
One that crashes takes nothing with it, and torch stays out of commands, servers and pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tuner.run.hands.link import ExamineJob, ProveJob, WriteJob
from tuner.run.hands.once import call
from tuner.spec.errors import TunerError
from tuner.spec.parts.sampling import Sampling
from tuner.spec.records import Evidence, Written

START_S = 60.0
"""Seconds that loading torch and a checkpoint may take on a busy machine, beyond those for writing."""


@dataclass(frozen=True)
class Apart:
    """The hands that a promotion needs; ``corpora`` holds the tokenised texts."""

    corpora: Path

    def examine(self, checkpoint: Path, champion: Path | None, test_tokens: int | None) -> Evidence:
        answer = call(ExamineJob(checkpoint, self.corpora, champion, test_tokens))
        assert isinstance(answer, Evidence)
        return answer

    def prove(self, folder: Path) -> None:
        if isinstance(error := call(ProveJob(folder)), TunerError):
            raise error

    def write(self, checkpoint: Path, prompt: str, sampling: Sampling, seconds: float) -> Written:
        """Continue ``prompt`` for at most ``sampling.max_tokens`` tokens and ``seconds``, whichever ends first.

        Raises:
            TunerError: the checkpoint is damaged or gone, or the process died or hung.
        """
        job = WriteJob(checkpoint, self.corpora, prompt, sampling, seconds)
        answer = call(job, patience=seconds + START_S)
        if isinstance(answer, TunerError):
            raise answer
        assert isinstance(answer, Written)
        return answer
