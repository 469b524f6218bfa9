"""The winner as it would be on a re-run, and the names of what pages ask about luck.
Arithmetic on a study's own numbers; what a promotion demands is said in tuner/promotion.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from tuner.analysis.study.frame import at_milestone
from tuner.search.noise import Noise as Noise  # pages take these from here
from tuner.search.noise import Z
from tuner.search.noise import study_noise as study_noise
from tuner.search.noise import tie_band as tie_band
from tuner.search.repeats import Standing as Standing
from tuner.search.repeats import luckiest
from tuner.search.repeats import standings as standings


def expected_again(one: Standing, noise: Noise) -> tuple[float, float]:
    """Where settings that ran again would land with yet another seed, 95 times of 100: around the mean of the seeds
    that followed, as sure as that is.
    """
    reach = Z * noise.deviation * (1 + 1 / one.fresh) ** 0.5
    return one.mean - reach, one.mean + reach


def expected_on_rerun(frame: pd.DataFrame, noise: Noise) -> tuple[float, float] | None:
    """Where the best trial would land if it were run again with another seed, 95 times of 100; None without one.

    The best of n values looks better than it is: by the mean of the luckiest of n normal values, the same that
    tuner/promotion/noise.py takes off.
    It is the most that luck may have given: n trials that truly differ leave it less room.
    """
    values = at_milestone(frame, None)
    n = int(np.isfinite(values).sum())
    if n == 0:
        return None
    luck = luckiest(n) * noise.deviation
    center = float(np.nanmin(values)) + luck
    return center - Z * noise.deviation, center + Z * noise.deviation
