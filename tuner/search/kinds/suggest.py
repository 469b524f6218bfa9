"""A dimension's value as Optuna suggests it for a trial.
One call each; what is known of a dimension is said in spec/.
"""

from __future__ import annotations

from optuna.distributions import BaseDistribution
from optuna.trial import Trial

from tuner.spec.dimensions.dimension import ChoiceDim, Dimension, FloatDim, IntDim
from tuner.spec.records import Value


def suggest(trial: Trial, path: str, dimension: Dimension, before: BaseDistribution | None = None) -> Value:
    """The trial's value of the dimension: chosen now, or what was chosen ``before``, from that distribution."""
    if before is not None:
        _draw_again(trial, path, before)
    match dimension:
        case FloatDim():
            low, high = dimension.float
            return trial.suggest_float(path, low, high, step=dimension.step, log=dimension.log)
        case IntDim():
            first, last = dimension.int
            return trial.suggest_int(path, first, last, step=dimension.step or 1, log=dimension.log)
        case ChoiceDim():
            chosen: Value = trial.suggest_categorical(path, list(dimension.choice))
            return chosen


def _draw_again(trial: Trial, path: str, before: BaseDistribution) -> None:
    """Let the sampler draw what it drew before, in vain: what it draws next is what it would have been."""
    frozen = trial.storage.get_trial(trial._trial_id)
    fixed = frozen.system_attrs.get("fixed_params", {})
    if path not in fixed and not before.single() and path not in trial.relative_params:
        trial.study.sampler.sample_independent(trial.study, frozen, path, before)
