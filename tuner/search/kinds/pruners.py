"""Pruners by name: which trials stop at a milestone. Resources are milestones, never optimizer steps.
One row a kind; a test holds these rows and the spec's words equal.
"""

from __future__ import annotations

from collections.abc import Callable

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

from tuner.search.bayes.past import Past
from tuner.search.bayes.sampler import ForecastPruner
from tuner.spec.study import StudySpec

PRUNERS: dict[str, Callable[[StudySpec, Past], BasePruner]] = {
    "forecast": ForecastPruner,
    "hyperband": lambda spec, _: HyperbandPruner(
        min_resource=1, max_resource=spec.study.milestones, reduction_factor=3
    ),
    "asha": lambda spec, _: SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    "median": lambda spec, _: MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    "none": lambda spec, _: NopPruner(),
}
