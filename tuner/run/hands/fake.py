"""Fake hands on a fake clock: a whole study in milliseconds, for tests and simulations. Nothing here is trained.
The losses are a made-up function of the trial; they say so in every fact they report.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterator

from tuner.run.hands.link import Exhausted, Message, TrialJob
from tuner.run.hands.workers import Died, Event
from tuner.spec.records import Measurement, Outcome, Spent, Started, State, Value, Verdict
from tuner.spec.trial import TrialSpec

Curve = Callable[[TrialSpec, float], float]
"""(trial, share of the budget in (0, 1]) -> validation loss in nats a token."""


def bowl(spec: TrialSpec, share: float) -> float:
    """A plausible loss: best near lr 3e-3 and 0.1 of warmup, better with depth, falling with the budget; noisy."""
    miss = math.log10(spec.optim.lr / 3e-3) ** 2 + 4 * (spec.optim.warmup - 0.1) ** 2
    noise = random.Random(f"{spec.hash}-{share}").gauss(0, 0.004)
    return 1.5 + 0.3 * miss + 0.4 / spec.model.depth + 1.2 * math.exp(-4 * share) + noise


class FakeWorkers:
    """In-process hands: each trial's messages come in the order of a virtual clock, by the seconds they pretend."""

    def __init__(self, slots: int, curve: Curve = bowl, seconds: float = 60.0) -> None:
        self.slots, self.curve, self.seconds, self.now = slots, curve, seconds, 0.0
        self._queue: list[tuple[float, int, Event]] = []
        self._order = itertools.count()
        self._stories: dict[int, Iterator[Message | Died]] = {}
        self._verdicts: dict[int, Verdict] = {}

    @property
    def idle(self) -> int:
        return self.slots - len(self._stories)

    def clock(self) -> float:
        """Virtual seconds since the beginning."""
        return self.now

    def start(self, job: TrialJob) -> None:
        self._stories[job.number] = self.story(job)
        self._go_on(job.number, 0.0)

    def story(self, job: TrialJob) -> Iterator[Message | Died]:
        """What the worker of ``job`` says; override to tell of crashes, divergence or refusals."""
        facts: dict[str, Value] = {"device": "fake", "seed": job.spec.seed, "spec_hash": job.spec.hash}
        yield Started(job.spec.as_data(), facts)
        for milestone in range(1, job.milestones + 1):
            share = milestone / job.milestones
            steps = milestone * 100
            spent = Spent(steps, steps * job.spec.tokens_per_step, 1e9 * steps, self.seconds * share)
            loss = self.curve(job.spec, share)
            if not math.isfinite(loss):
                yield Outcome(State.DIVERGED, f"validation loss {loss} at milestone {milestone}")
                return
            metrics = {"val_loss": loss, "val_bpb": loss / math.log(2) / 3, "train_loss": loss - 0.05}
            yield Measurement(spent, metrics, milestone, time_ms=int(1000 * self.now) + 1)
            if self._verdicts.get(job.number) is Verdict.STOP:
                yield Outcome(State.PRUNED, f"stopped by the pruner at milestone {milestone}")
                return
        yield Outcome(State.COMPLETE, "the budget is spent")

    def _go_on(self, number: int, after: float) -> None:
        message = next(self._stories[number])
        heapq.heappush(self._queue, (self.now + after, next(self._order), Event(number, message)))

    def wait(self, timeout: float) -> list[Event]:
        if not self._queue or (timeout == 0 and self._queue[0][0] > self.now):
            return []
        self.now, _, event = heapq.heappop(self._queue)
        match event.message:
            case Outcome() | Exhausted() | Died():
                del self._stories[event.number]
            case Measurement(milestone=int()):
                pass  # waits for the verdict
            case _:
                self._go_on(event.number, self.seconds / 100)
        return [event]

    def answer(self, number: int, verdict: Verdict) -> None:
        self._verdicts[number] = verdict
        self._go_on(number, self.seconds / 10)

    def interrupt(self, number: int | None = None) -> None:
        self._replace(Outcome(State.INTERRUPTED, "interrupted"), list(self._stories) if number is None else [number])

    def kill(self, number: int | None = None) -> None:
        self._replace(Died(-9), list(self._stories) if number is None else [number])

    def _replace(self, message: Outcome | Died, numbers: list[int]) -> None:
        self._queue = [entry for entry in self._queue if entry[2].number not in numbers]
        self._queue += [(self.now, next(self._order), Event(number, message)) for number in numbers]
        heapq.heapify(self._queue)
