"""A first guess: where good values lie before any trial has run, and how far they may lie from there.
Formulas of papers and what the user says; the sampler decides how long it listens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from tuner.spec.budget import Budget, Unit
from tuner.spec.dimensions.dimension import proportional
from tuner.spec.records import Point
from tuner.spec.study import StudySpec


class Guess(NamedTuple):
    """A centre, and the deviation around it: a ``factor`` (2: one octave), else in the field's own units."""

    centre: float
    spread: float
    factor: bool

    def at(self, deviations: float) -> float:
        """The value so many deviations above the centre."""
        if self.factor:
            return float(self.centre * self.spread**deviations)
        return self.centre + self.spread * deviations

    def distance(self, value: float) -> float:
        """How many deviations a value lies above the centre."""
        if self.factor:
            return math.log(value / self.centre) / math.log(self.spread)
        return (value - self.centre) / self.spread


LR_SPREAD, BATCH_SPREAD = 2.0, 2.0
"""One octave: the law holds within half of one down to 60M parameters; below, it is an extrapolation."""


def step_law(depth: int, width: int, context: int, budget: Budget) -> dict[str, Guess]:
    """The Step Law (arXiv 2503.04715) for a model and budget: ``lr = 1.79 N^-0.713 D^0.307``, batch of
    ``0.58 D^0.571`` tokens; N parameters without embeddings, D tokens. Empty for a budget in seconds: D is not known.
    """
    parameters = 12 * depth * width**2
    match budget.unit:
        case Unit.TOKENS:
            tokens = budget.amount
        case Unit.FLOPS:
            tokens = budget.amount / (6 * parameters)
        case Unit.SECONDS:
            return {}
    return {
        "optim.lr": Guess(1.79 * parameters**-0.713 * tokens**0.307, LR_SPREAD, True),
        "batch": Guess(0.58 * tokens**0.571 / context, BATCH_SPREAD, True),
    }


def cost(spec: StudySpec, point: Point) -> float:
    """About how large a trial is, in any unit: its parameters, and where the budget is in tokens its FLOPs."""
    depth, width, _ = shape(spec, point)
    return float(12 * depth * width**2 + 500 * width)  # and the head of a small vocabulary


def shape(spec: StudySpec, point: Point) -> tuple[int, int, int]:
    """Depth, width and context of the trial at a point."""
    trial = spec.trial

    def number(path: str, written: int) -> int:
        value = point.get(path, written)
        return int(value) if isinstance(value, int | float) else written

    return (
        number("model.depth", trial.model.depth),
        number("model.width", trial.model.width),
        number("data.context", trial.data.context),
    )


def guesses(spec: StudySpec, point: Point) -> dict[str, Guess]:
    """What the study's prior says of the dimensions of a point, given its others (a wider model wants a lower rate)."""
    prior = spec.study.prior
    if prior == "none":
        return {}
    if isinstance(prior, Mapping):
        return {path: Guess(*pair, proportional(spec.space[path])) for path, pair in prior.items() if path in point}
    law = step_law(*shape(spec, point), spec.trial.budget)
    return {path: guess for path, guess in law.items() if path in point}
