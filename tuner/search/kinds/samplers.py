"""Samplers by name: which of Optuna's, or our own, proposes the next point.
One row a kind; a test holds these rows and the spec's words equal.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Container, Mapping, Sequence

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from tuner.search.bayes.past import Past
from tuner.search.bayes.propose import possible
from tuner.search.bayes.sampler import BayesSampler
from tuner.search.repeats import REPEAT
from tuner.spec.records import Value
from tuner.spec.study import StudySpec


def _tpe(spec: StudySpec, seed: int, past: Past) -> BaseSampler:
    conditional = any(dimension.when for _, dimension in spec.space.items())
    startup = max(4, min(10, spec.study.trials // 3))  # a short study must leave trials to learn from
    return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=conditional)


SAMPLERS: dict[str, Callable[[StudySpec, int, Past], BaseSampler]] = {
    "bayes": BayesSampler,
    "tpe": _tpe,
    "gp": lambda spec, seed, _: GPSampler(seed=seed),
    "random": lambda spec, seed, _: RandomSampler(seed=seed),
    "cmaes": lambda spec, seed, _: CmaEsSampler(seed=seed),
    "qmc": lambda spec, seed, _: QMCSampler(
        seed=spec.study.seed, scramble=True, independent_sampler=RandomSampler(seed=seed)
    ),
    "grid": lambda spec, seed, _: RandomSampler(seed=seed),  # each point is enqueued, see grid_points
}


def build_sampler(spec: StudySpec, number: int, past: Past) -> BaseSampler:
    """The sampler for trial ``number``, seeded by study and number; ``past`` is what has been seen of the study.

    So a choice depends on the history and the number alone: a study that was interrupted goes on as if it had not
    been, and never repeats its first random points. (A quasi-random sequence must keep one seed.)
    """
    seed = (spec.study.seed * 1_000_003 + number) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # QMC: pinned by Optuna's major version
        return SAMPLERS[spec.study.sampler](spec, seed, past)


def grid_left(spec: StudySpec, trials: Sequence[FrozenTrial]) -> list[dict[str, Value]]:
    """The points of the grid that no trial of the search has yet; a repeat is none."""
    searched = [trial for trial in trials if REPEAT not in trial.user_attrs]
    return grid_points(spec, [trial.system_attrs.get("fixed_params") or trial.params for trial in searched])


def grid_points(spec: StudySpec, given: Container[Mapping[str, Value]] = ()) -> list[dict[str, Value]]:
    """Every distinct point of a space of choices, integers and stepped floats that can be a trial, conditions
    respected; without those ``given``.
    """
    axes = {path: dimension.grid() for path, dimension in spec.space.items()}
    seen: dict[tuple[tuple[str, Value], ...], dict[str, Value]] = {}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        point = spec.walk(lambda path, _, chosen=chosen: chosen[path])  # type: ignore[misc]
        seen.setdefault(tuple(point.items()), point)
    return [point for point in seen.values() if point not in given and possible(spec, point)]
