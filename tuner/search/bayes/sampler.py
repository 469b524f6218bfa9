"""The model's sampler and pruner as Optuna knows such things; what they decide is worked out in propose.py and
forecast.py.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from tuner.search.bayes.beliefs.size import cost, shape
from tuner.search.bayes.forecast import Forecasts
from tuner.search.bayes.past import Past, Seen
from tuner.search.bayes.pieces import Pieces, whole
from tuner.search.bayes.propose import proposing
from tuner.spec.dimensions.dimension import ChoiceDim, Dimension, FloatDim
from tuner.spec.records import Point
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


class BayesSampler(BaseSampler):
    """Points by ``propose``; ``seed`` alone is drawn from. ``chosen``: the point, where it is known already."""

    def __init__(self, spec: StudySpec, seed: int, past: Past) -> None:
        self._spec, self._seed, self._past, self._random = spec, seed, past, RandomSampler(seed)
        self.chosen: Point | None = None

    def choosing(self, trials: Sequence[FrozenTrial], number: int, clock: float = 0.0) -> Pieces[Point]:
        """The point of trial ``number`` of ``trials``, a piece at a time, after ``clock`` seconds of the study."""
        before = bisect.bisect_left(trials, number, key=lambda one: one.number)
        history = self._past.seen(trials[:before])
        yield
        return (yield from proposing(self._spec, self._past.axes, history, self._seed, clock))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {path: distribution(dimension) for path, dimension in self._spec.space.items()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        if self.chosen is not None:
            return dict(self.chosen)
        return dict(whole(self.choosing(study.get_trials(deepcopy=False), trial.number)))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)


class ForecastPruner(BasePruner):
    """Ends a trial that has little hope to end below the best, as the complete ones went on from where it is.

    It asks for the complete ones once, until it is told to ``look_again`` because a trial has ended.
    """

    def __init__(self, spec: StudySpec, past: Past) -> None:
        self._spec, self._past = spec, past
        self.look_again()

    def look_again(self) -> None:
        """Forget which trials are complete."""
        self._complete: list[Seen] | None = None

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        if self._complete is None:
            self._complete = self._past.seen(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
            self._complete = [seen for seen in self._complete if seen.value is not None]
            self._values = np.array([seen.value for seen in self._complete])
            self._sizes = np.array([self._size(seen.point) for seen in self._complete])
            curves = [(seen.row, seen.curve) for seen in self._complete]
            self._forecasts = Forecasts(curves, self._spec.study.milestones)
        if not self._complete:
            return False
        # with a second objective it has to beat only what is no larger
        slack = 1.0 if self._spec.study.against == "latency_ms" else 1.01
        rivals = self._values[(self._sizes <= slack * np.array(self._size(trial.params))).all(1)]
        if not len(rivals):
            return False
        end = self._forecasts.of(self._past.curve(trial.intermediate_values), self._past.axes.encode(trial.params))
        return end is not None and end.chance_below(float(rivals.min())) < HOPE

    def _size(self, point: Point) -> tuple[float, ...]:
        """What a rival has to have no more of."""
        said = self._spec.trial.compress
        match self._spec.study.against:
            case None:
                return (0.0,)
            case "latency_ms":  # surely no slower: neither deeper nor wider nor larger, and computed likewise
                whole = point.get("compress.compute", said.compute) == "int8"
                return (*shape(self._spec, point), cost(self._spec, point), float(whole), float(not whole))
            case "bytes":
                bits, zeros = (point.get(f"compress.{name}", getattr(said, name)) for name in ("bits", "sparsity"))
                return (cost(self._spec, point) * int(bits or 32), 1 - float(zeros or 0))
        return (cost(self._spec, point),)
