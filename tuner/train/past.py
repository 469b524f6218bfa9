"""A trial's own past: the lowest training loss so far, and when a loss has left it for good.
Numbers only; what becomes of a trial that diverged is decided in life.py.
"""

from __future__ import annotations

import math

MARGIN = 1.0
"""Nats above the lowest row from which on a loss may have diverged: rows of few steps scatter by less."""

SHARE = 0.5
"""Of what was gained on knowing nothing (the logarithm of the vocabulary): who has lost more has diverged."""

EARLY = 10
"""Rows in which a trial may still overshoot: there only a loss twice that of knowing nothing has diverged."""


class Past:
    """The rows of one trial so far: how many, and ``lowest`` and ``last``, their least mean training loss in nats a
    token and their newest. ``vocab``: of so many it is to name one; ``early``: rows in which it may overshoot, all of
    them where a row is the mean of a few texts, as a classifier's.
    """

    def __init__(self, vocab: int, early: float = EARLY) -> None:
        self.nothing, self.lowest, self.rows, self.early = math.log(vocab), math.inf, 0, early
        self.last = math.nan

    def departure(self, loss: float) -> str | None:
        """Take a row's mean training loss in; why the trial has diverged, None where it has not.

        It has where the loss is not finite, or lies more than ``MARGIN`` above the lowest row and has lost more than
        ``SHARE`` of what that row had gained on the logarithm of the vocabulary; among the first ``EARLY`` rows only
        where it is twice that logarithm as well. Spikes pass: a row is the mean of a hundredth or so of
        the trial.
        """
        self.rows += 1
        self.last = loss
        if not math.isfinite(loss):
            return f"training loss {loss}"
        past = min(self.lowest, self.nothing)
        allowed = past + max(MARGIN, SHARE * (self.nothing - past))
        if self.rows <= self.early:
            allowed = max(allowed, 2 * self.nothing)
        if loss > allowed:
            return f"training loss {loss:.3f} has left its own past, which was down to {past:.3f}"
        self.lowest = min(self.lowest, loss)
        return None
