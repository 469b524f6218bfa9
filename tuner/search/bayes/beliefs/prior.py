"""A first guess: where good values lie before any trial has run, and how far they may lie from there.
Formulas of papers and what the user says; the sampler decides how long it listens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tuner.search.bayes.beliefs.size import Values, shape
from tuner.search.bayes.places.axis import Array
from tuner.spec.budget import Budget, Unit
from tuner.spec.dimensions.dimension import proportional
from tuner.spec.study import StudySpec


class Guess(NamedTuple):
    """A centre, and the deviation around it: a ``factor`` (2: one octave), else in the field's own units. Where it is
    of many points at once, the centre is an array (n,).
    """

    centre: float | Array
    spread: float
    factor: bool

    def at(self, deviations: float) -> float:
        """The value so many deviations above the centre."""
        if self.factor:
            return float(self.centre * self.spread**deviations)
        return float(self.centre + self.spread * deviations)

    def distance(self, values: Array) -> Array:
        """How many deviations the values (n,) lie above the centre."""
        if self.factor:
            return np.asarray(np.log(values / self.centre) / np.log(self.spread))
        return np.asarray((values - self.centre) / self.spread)


LR_SPREAD, BATCH_SPREAD = 2.0, 2.0
"""One octave: the law holds within half of one down to 60M parameters; below, it is an extrapolation."""


def step_law(depth: Any, width: Any, context: Any, budget: Budget) -> dict[str, Guess]:
    """The Step Law (arXiv 2503.04715) for a model and budget: ``lr = 1.79 N^-0.713 D^0.307``, batch of
    ``0.58 D^0.571`` tokens; N parameters without embeddings, D tokens. Of many models where the sizes are arrays.
    Empty for a budget in seconds: D is not known.
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


def lawful(spec: StudySpec) -> bool:
    """Whether scaling laws are asked, and speak of such trials: they are of new text models."""
    return spec.study.prior == "steplaw" and spec.trial.init.source is None and spec.trial.task != "classify"


def guesses(spec: StudySpec, values: Values) -> dict[str, Guess]:
    """What the study's prior says of the dimensions of a point, given its others (a wider model wants a lower rate)."""
    prior = spec.study.prior
    if prior == "none":
        return {}
    if isinstance(prior, Mapping):
        return {path: Guess(*pair, proportional(spec.space[path])) for path, pair in prior.items() if path in values}
    if not lawful(spec):
        return {}
    law = step_law(*shape(spec, values), spec.trial.budget)
    return {path: guess for path, guess in law.items() if path in values}


def log_prior(spec: StudySpec, values: Values, count: int) -> Array:
    """Log density of the prior at each of ``count`` points, without its constant."""
    total = np.zeros(count)
    for path, guess in guesses(spec, values).items():
        total -= 0.5 * np.nan_to_num(guess.distance(values[path])) ** 2
    return total
