"""A dimension's value as Optuna suggests it for a trial.
One call each; what is known of a dimension is said in spec/.
"""

from __future__ import annotations

from optuna.trial import Trial

from tuner.spec.dimensions.dimension import ChoiceDim, Dimension, FloatDim, IntDim
from tuner.spec.records import Value


def suggest(trial: Trial, path: str, dimension: Dimension) -> Value:
    """The trial's value of the dimension: chosen now, or what was chosen before."""
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
