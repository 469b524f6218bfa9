"""The meter of a trial: what is spent, how far the budget is, which milestone is due, when a row is due.
Pure counting on a given clock; it never touches the model, the disk or the driver.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from tuner.spec.budget import Budget
from tuner.spec.records import Spent
from tuner.train.model.shape import planned_steps

ROWS_PER_MILESTONE = 10


class Meter:
    """Counts steps of ``tokens_per_step`` against a budget cut into ``milestones`` equal shares.

    Time counts only between ``go`` and ``pause``, so that evaluation and checkpoints are not training seconds.
    """

    def __init__(
        self,
        budget: Budget,
        tokens_per_step: int,
        flops_per_token: float,
        milestones: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.budget, self.milestones = budget, milestones
        self.tokens_per_step, self.flops_per_token = tokens_per_step, flops_per_token
        self.steps = planned_steps(budget, tokens_per_step, flops_per_token)
        self.spent = Spent()
        self.reached = 0
        self._clock = clock
        self._since: float | None = None
        self._row_from = self.spent

    def restore(self, spent: Spent, reached: int) -> None:
        """Go on from a checkpoint: ``spent`` so far, ``reached`` milestones already evaluated."""
        self.spent, self.reached, self._row_from = spent, reached, spent

    def go(self) -> None:
        """Training goes on from here; also called after each pause."""
        self._since = self._clock()

    def pause(self) -> None:
        """Take the time since the last ``go`` or step into account, and stop counting it."""
        if self._since is not None:
            seconds = self.spent.seconds + max(0.0, self._clock() - self._since)
            self.spent = replace(self.spent, seconds=seconds)
            self._since = None

    def step(self) -> None:
        """One optimizer step was done."""
        now = self._clock()
        past = now if self._since is None else self._since
        tokens = self.spent.tokens + self.tokens_per_step
        self.spent = Spent(
            steps=self.spent.steps + 1,
            tokens=tokens,
            flops=tokens * self.flops_per_token,
            seconds=self.spent.seconds + max(0.0, now - past),
        )
        self._since = now

    def _shares(self, parts: int, spent: Spent) -> int:
        """How many of ``parts`` equal shares of the budget are spent, exactly where steps are planned."""
        if self.steps is not None:
            return min(parts, spent.steps * parts // self.steps)
        return min(parts, int(spent.seconds * parts / self.budget.amount))

    @property
    def done(self) -> bool:
        return self._shares(1, self.spent) == 1

    @property
    def progress(self) -> float:
        """The share of the budget at the middle of the coming step, for the schedule; in [0, 1]."""
        if self.steps is not None:
            return min(1.0, (self.spent.steps + 0.5) / self.steps)
        per_step = self.spent.seconds / self.spent.steps if self.spent.steps else 0.0
        return min(1.0, (self.spent.seconds + 0.5 * per_step + 1e-3) / self.budget.amount)

    @property
    def due(self) -> int | None:
        """The next milestone (1 .. K) if its share is spent and it was not yet evaluated."""
        return self.reached + 1 if self._shares(self.milestones, self.spent) > self.reached else None

    @property
    def row_due(self) -> bool:
        parts = self.milestones * ROWS_PER_MILESTONE
        return self._shares(parts, self.spent) > self._shares(parts, self._row_from)

    def row_written(self) -> float:
        """Close the interval of one row; returns its tokens a second (0 where no time passed)."""
        seconds = self.spent.seconds - self._row_from.seconds
        tokens = self.spent.tokens - self._row_from.tokens
        self._row_from = self.spent
        return tokens / seconds if seconds > 0 else 0.0
