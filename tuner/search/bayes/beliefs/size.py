"""How large a trial is, and what that costs: of one point, or of many at once.
Sizes only; what is thought of them is said in prior.py and trend.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tuner.spec.study import StudySpec

Values = Mapping[str, Any]
"""A point, or the values of many by dimension, as arrays (n,) with NaN where one lacks it."""


SIZES = ("model.depth", "model.width", "data.context")
"""The dimensions that say how large a trial is."""


def cost(spec: StudySpec, values: Values) -> Any:
    """About how large a trial is, in any unit: its parameters, and where the budget is in tokens its FLOPs. An array
    where ``values`` has arrays.
    """
    depth, width, _ = shape(spec, values)
    layer = 12.0 * width**2
    if spec.trial.init.take == "part":  # no width of its own, but heads and neurons
        model = spec.trial.model
        heads = _number(values, "model.heads", model.head_count)
        hidden = _number(values, "model.hidden", model.hidden_size)
        layer = width * (4.0 * heads * model.head_size + (3 if model.activation == "swiglu" else 2) * hidden)
    return depth * layer + 500 * width  # and the head of a small vocabulary


def shape(spec: StudySpec, values: Values) -> tuple[Any, Any, Any]:
    """Depth, width and context of the trial at a point, or of many."""
    trial = spec.trial
    return (
        _number(values, "model.depth", trial.model.depth),
        _number(values, "model.width", trial.model.width),
        _number(values, "data.context", trial.data.context),
    )


def _number(values: Values, path: str, written: int) -> Any:
    """The whole number of a dimension, ``written`` where there is none; an array where ``values`` has one."""
    value = values.get(path, written)
    if isinstance(value, np.ndarray):
        return np.where(np.isnan(value), written, value)
    return int(value) if isinstance(value, int | float) else written
