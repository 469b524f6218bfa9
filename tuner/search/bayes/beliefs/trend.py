"""What is thought of size before it was tried: at equal tokens a larger model has the lower loss, along a line.
Formulas and arrays; what follows from it is decided elsewhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tuner.search.bayes.beliefs.pace import hurried
from tuner.search.bayes.beliefs.prior import lawful
from tuner.search.bayes.beliefs.slopes import correction
from tuner.search.bayes.places.axis import Array
from tuner.spec.study import StudySpec

GAIN = 0.05
"""Share of the loss that a model of e times the size saves, give or take as much: 0.076 without embeddings (Kaplan et
al., 2020, equation 1.1), less where tokens are few.
"""


class Line(NamedTuple):
    """A straight line through ``x`` and ``y``."""

    x: float
    y: float
    slope: float

    def at(self, x: Array) -> Array:
        """Its height at each (n,)."""
        return np.asarray(self.y + self.slope * (x - self.x))


def line(x: Array, y: Array, slope: float, doubt: float) -> Line:
    """The line along which values ``y`` (n,) lie at ``x`` (n,), whose slope was thought to be ``slope`` give or take
    ``doubt`` before any were known; they scatter as they do around that one.
    """
    far = x - x.mean()
    rest = y - y.mean() - slope * far
    scatter = max(float(rest.var()), 1e-12)
    (found,) = correction(far[:, None], rest, np.array([doubt]), scatter)
    return Line(float(x.mean()), float(y.mean()), slope + float(found))


def trend(spec: StudySpec, sizes: Array, values: Array) -> Line:
    """How losses ``values`` (n,) go with the logarithm of the size (n,). Flat where no law says that they do, and where
    there is time to find out: simulated, the belief then costs more tokens than it saves.
    """
    if not lawful(spec) or not hurried(spec):
        return Line(0.0, 0.0, 0.0)
    gain = GAIN * abs(float(np.median(values)))
    return line(sizes, values, -gain, gain)._replace(y=0.0)
