"""Slopes that were thought of before any values were known, as values correct them.
Arrays in, arrays out; what is thought is said in pace.py and trend.py.
"""

from __future__ import annotations

import numpy as np

from tuner.search.bayes.places.axis import Array


def correction(far: Array, rest: Array, doubt: Array, scatter: float) -> Array:
    """What to add to slopes (d,) that were sure to within ``doubt`` (d,): values at ``far`` (n, d) from their middle
    lie ``rest`` (n,) from what the slopes said, and scatter with so much variance (Bayesian linear regression).
    """
    return np.asarray(np.linalg.solve(far.T @ far + np.diag(scatter / doubt**2), far.T @ rest))
