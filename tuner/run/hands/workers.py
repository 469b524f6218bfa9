"""What the driver needs of its hands: start a trial, hear of it, answer it, stop it. A protocol and its events.
No process, no clock, no Optuna; local.py and fake.py are two kinds of hands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tuner.run.hands.link import Message, TrialJob
from tuner.spec.records import Verdict


@dataclass(frozen=True)
class Died:
    """A worker ended without an outcome: its exit code, negative for a signal; ``memory`` where the kernel ended
    something for want of memory meanwhile; ``why`` where more is known than the code tells.
    """

    exit_code: int
    memory: bool = False
    why: str = ""

    @property
    def exhausted(self) -> bool:
        """Killed because memory ran out, as far as can be known."""
        return self.memory and self.exit_code == -9

    @property
    def killed(self) -> bool:
        """Ended from outside (SIGKILL): not the trial's own fault, unless it filled the memory.

        255 is what is left of it where the fork server died as well.
        """
        return self.exit_code in (-9, 255)

    @property
    def sentence(self) -> str:
        names = {
            -4: "SIGILL",
            -6: "SIGABRT",
            -7: "SIGBUS",
            -8: "SIGFPE",
            -9: "SIGKILL",
            -11: "SIGSEGV",
            -15: "SIGTERM",
        }
        if self.why:
            return self.why
        if self.exhausted:
            return "the worker was killed by the kernel (SIGKILL) because memory ran out"
        if self.exit_code == -9:
            return "the worker was killed (SIGKILL): by hand, or by the kernel because memory ran out"
        if self.exit_code < 0:
            return f"the worker died of signal {names.get(self.exit_code, -self.exit_code)}"
        return f"the worker exited with code {self.exit_code} before its trial ended"


@dataclass(frozen=True)
class Event:
    """Something heard from the worker of trial ``number``."""

    number: int
    message: Message | Died


class Workers(Protocol):
    """Hands: each of ``slots`` trains one trial at a time."""

    @property
    def slots(self) -> int:
        """How many trials may train at once, now."""

    @property
    def idle(self) -> int:
        """Slots without a trial."""

    def start(self, job: TrialJob) -> None:
        """Train ``job`` in an idle slot."""

    def wait(self, timeout: float) -> list[Event]:
        """Events since the last call, in order per trial; blocks up to ``timeout`` seconds for the first."""

    def answer(self, number: int, verdict: Verdict) -> None:
        """Answer a milestone's measurement; a worker that has died meanwhile is heard of as Died."""

    def interrupt(self, number: int | None = None) -> None:
        """Ask the worker of a trial, or every one, to write a checkpoint and leave."""

    def kill(self, number: int | None = None) -> None:
        """End the worker of a trial, or every one, at once."""
