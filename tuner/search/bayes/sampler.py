"""The model's sampler and pruner as Optuna knows such things; what they decide is worked out in propose.py and
forecast.py.
"""

from __future__ import annotations

import math
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from tuner.search.bayes.axes import Array, Axes
from tuner.search.bayes.forecast import Curve, forecast
from tuner.search.bayes.prior import cost, shape
from tuner.search.bayes.propose import Ending, Seen, propose
from tuner.spec.dimensions.dimension import ChoiceDim, Dimension, FloatDim
from tuner.spec.records import State
from tuner.spec.study import StudySpec

HOPE = 0.1
"""A trial goes on while its chance to end below the best is at least this."""


def distribution(dimension: Dimension) -> BaseDistribution:
    """The dimension as Optuna stores it."""
    match dimension:
        case ChoiceDim():
            return CategoricalDistribution(dimension.choice)
        case FloatDim():
            return FloatDistribution(dimension.low, dimension.high, dimension.log, dimension.step)
    return IntDistribution(dimension.low, dimension.high, dimension.log, dimension.step or 1)


def seen(trial: FrozenTrial) -> Seen | None:
    """A trial as the model sees it; None for one that tells nothing (failed, or still waiting)."""
    finite = {k: v for k, v in trial.intermediate_values.items() if math.isfinite(v)}
    ending: Ending
    match trial.state:
        case TrialState.COMPLETE if trial.value is not None and math.isfinite(trial.value):
            ending = "complete"
        case TrialState.RUNNING:
            ending = "running"
        case TrialState.PRUNED | TrialState.COMPLETE if trial.user_attrs.get("outcome") == State.INFEASIBLE:
            ending = "impossible"
        case TrialState.PRUNED | TrialState.COMPLETE if trial.user_attrs.get("outcome") == State.DIVERGED:
            ending = "bad"
        case TrialState.PRUNED if finite:
            ending = "pruned"
        case _:
            return None
    latency = trial.user_attrs.get("latency_ms")
    return Seen(trial.params, ending, finite, trial.value if ending == "complete" else None, latency)


class BayesSampler(BaseSampler):
    """Points by ``propose``; ``seed`` alone is drawn from."""

    def __init__(self, spec: StudySpec, seed: int) -> None:
        self._spec, self._seed, self._random = spec, seed, RandomSampler(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {path: distribution(dimension) for path, dimension in self._spec.space.items()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        others = [other for other in study.get_trials(deepcopy=False) if other.number < trial.number and other.params]
        history = [one for one in map(seen, others) if one is not None]
        return dict(propose(self._spec, history, self._seed))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)


class ForecastPruner(BasePruner):
    """Ends a trial that has little hope to end below the best, as the complete ones went on from where it is.

    It asks for the complete ones once: when a trial has ended, another pruner is made. To read them, Optuna reads all
    that run, which with many workers takes longer than all else.
    """

    def __init__(self, spec: StudySpec) -> None:
        self._spec, self._axes, self._last = spec, Axes(spec), spec.study.milestones
        self._complete: list[FrozenTrial] | None = None
        self._known: list[tuple[Array, Curve]] = []

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        if self._complete is None:
            self._complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            self._known = [(self._axes.encode(one.params), one.intermediate_values) for one in self._complete]
        values = [one.value for one in self._complete if one.value is not None and self._rivals(one, trial)]
        if not values:
            return False
        end = forecast(trial.intermediate_values, self._axes.encode(trial.params), self._known, self._last)
        return end is not None and end.chance_below(min(values)) < HOPE

    def _rivals(self, one: FrozenTrial, trial: FrozenTrial) -> bool:
        """Whether the trial has to beat this one: with a second objective only what is no larger."""
        if one.value is None or not math.isfinite(one.value):
            return False
        match self._spec.study.against:
            case None:
                return True
            case "latency_ms":  # surely no slower: neither deeper nor wider
                sizes = zip(shape(self._spec, one.params), shape(self._spec, trial.params), strict=True)
                return all(theirs <= own for theirs, own in sizes)
        return cost(self._spec, one.params) <= 1.01 * cost(self._spec, trial.params)
