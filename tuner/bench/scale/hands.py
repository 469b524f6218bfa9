"""Fake hands that measure how long the driver takes to answer them: on the fake clock, and in real time.
Nothing here is trained; nothing is printed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from tuner.run.hands.fake import FakeWorkers
from tuner.run.hands.link import TrialJob
from tuner.run.hands.workers import Event
from tuner.spec.records import Measurement, Verdict


class Flood(FakeWorkers):
    """Workers on the fake clock, who report as soon as the driver hears; ``answered``: seconds until it answers."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self.answered: list[float] = []
        self._heard = 0.0

    def wait(self, timeout: float) -> list[Event]:
        events = super().wait(timeout)
        self._heard = time.perf_counter()
        return events

    def answer(self, number: int, verdict: Verdict) -> None:
        self.answered.append(time.perf_counter() - self._heard)
        super().answer(number, verdict)


class Paced(FakeWorkers):
    """Workers in real time: each reports every ``every`` seconds or so, whether or not the driver has time to hear.

    ``answered`` are seconds from a report to its verdict, waiting for the driver included, once as many trials have
    begun as there are slots; ``begun`` counts all that have, ``empty`` the slots without one, each time the driver
    listens. After ``seconds`` from then ``end`` is called.
    """

    def __init__(self, slots: int, every: float, seconds: float, end: Callable[[], None]) -> None:
        super().__init__(slots, seconds=10 * every)
        self.answered: list[float] = []
        self.empty: list[int] = []
        self.begun, self.busy = 0, 0.0
        self._every, self._lasting, self._end = every, seconds, end
        self._origin, self._full, self._processor = time.monotonic(), 0.0, 0.0
        self._rng = random.Random(slots)
        self._due: dict[int, float] = {}

    def clock(self) -> float:
        """Real seconds since the beginning."""
        return time.monotonic() - self._origin

    @property
    def lasted(self) -> float:
        """Seconds since every slot has had a trial."""
        return self.clock() - self._full if self._full else 0.0

    def start(self, job: TrialJob) -> None:
        self.now = self.clock()
        super().start(job)
        self.begun += 1
        if self.begun == self.slots:
            self._full, self._processor = self.clock(), time.process_time()

    def wait(self, timeout: float) -> list[Event]:
        if self._full:
            self.empty.append(self.idle)
        if self._full and self.lasted > self._lasting:
            self.busy = (time.process_time() - self._processor) / self.lasted
            self._end()
        if self._queue and (early := self._queue[0][0] - self.clock()) > 0:
            time.sleep(min(timeout, early))
        heard = []
        while self._queue and self._queue[0][0] <= self.clock():
            due = self._queue[0][0]
            self.now = self.clock()
            (event,) = super().wait(0)
            if isinstance(event.message, Measurement):
                self._due[event.number] = due
            heard.append(event)
        return heard

    def answer(self, number: int, verdict: Verdict) -> None:
        self.now = self.clock()
        if self._full:
            self.answered.append(self.now - self._due[number])
        super().answer(number, verdict)

    def _go_on(self, number: int, after: float) -> None:
        super()._go_on(number, after * self._rng.uniform(0.5, 1.5))
