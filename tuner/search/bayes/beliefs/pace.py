"""How long a trial would take, and how large one may be where the study's total is one of seconds: none that would take
most of it, or not end in it. Shapes and seconds; how long trials took is told by the history.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tuner.search.bayes.beliefs.size import Values, shape
from tuner.search.bayes.beliefs.slopes import correction
from tuner.search.bayes.past import Seen
from tuner.search.bayes.places.axis import Array
from tuner.spec.budget import Unit
from tuner.spec.study import StudySpec

SHARE = 0.5
"""Of the study's seconds, what a single trial may take: a search has to compare."""

FIRST = 3.0
"""So many times as long as the trial as written one may take while nobody knows how long that is."""

SPARE = 1.2
"""What a trial takes of the clock for each second that it trains: it is evaluated too."""

POWERS, DOUBT = np.array([1.0, 1.2, 1.0]), np.array([0.1, 0.5, 0.3])
"""Seconds go with so much power of depth, width and context, give or take so much, until trials say more: with the
square of the width where all is arithmetic, with the width where all is memory.
"""

_SCATTER = 0.1  # of a trial's seconds around that, as their logarithm


class Pace(NamedTuple):
    """Logarithms: how long the typical trial takes, where its (depth, width, context) lies, and the powers."""

    typical: float
    centre: Array
    powers: Array

    def seconds(self, spec: StudySpec, values: Values) -> Array:
        """How long the trial at a point trains, or (n,) many."""
        return np.asarray(np.exp(self.typical + (_logs(spec, values) - self.centre) @ self.powers))


def pace(spec: StudySpec, history: Sequence[Seen]) -> Pace:
    """By what took how long; that of the trial as written is 1 as long as nobody knows."""
    known = [seen for seen in history if seen.seconds]
    if not known:
        return Pace(0.0, _logs(spec, {}), POWERS)
    logs = np.array([_logs(spec, seen.point) for seen in known])
    seconds = np.log([seen.seconds or 1.0 for seen in known])
    centre, typical = logs.mean(0), float(seconds.mean())
    far = logs - centre
    rest = seconds - typical - far @ POWERS
    return Pace(typical, centre, POWERS + correction(far, rest, DOUBT, _SCATTER**2))


def longest(spec: StudySpec, history: Sequence[Seen], clock: float) -> float:
    """The seconds up to which a trial is begun once the study has run for ``clock``, as its ``pace`` counts them;
    infinite where it is not ``hurried``.
    """
    if (whole := _seconds(spec)) is None:
        return math.inf
    if not any(seen.seconds for seen in history):
        return FIRST
    return max(0.0, min(SHARE * whole, whole - clock)) / SPARE


def expected(spec: StudySpec, ended: int, clock: float) -> float:
    """How many trials the study will come to, when so many have ended after ``clock`` seconds."""
    whole = _seconds(spec)
    return spec.study.trials if whole is None or clock <= 0 else min(spec.study.trials, ended * whole / clock)


def hurried(spec: StudySpec) -> bool:
    """Has the study so many seconds, and trials that take the longer the larger they are?"""
    return _seconds(spec) is not None


def _seconds(spec: StudySpec) -> float | None:
    totals = spec.study.totals
    return None if totals is None or spec.trial.budget.unit is not Unit.TOKENS else totals.seconds


def _logs(spec: StudySpec, values: Values) -> Array:
    """(3,), or (n, 3) of many: the logarithms of depth, width and context."""
    return np.stack(np.broadcast_arrays(*(np.log(size) for size in shape(spec, values))), axis=-1)
