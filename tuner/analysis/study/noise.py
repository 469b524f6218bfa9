"""How far luck reaches in a study: the deviation between seeds, the band of a tie, the winner run again.
Arithmetic on a study's own numbers; what a promotion demands is said in tuner/promotion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tuner.analysis.study.frame import at_milestone
from tuner.search.history import StudyRecord
from tuner.search.repeats import Standing as Standing  # pages take the repeats from here
from tuner.search.repeats import deviation, families, luckiest, pooled
from tuner.search.repeats import standings as standings

Z = 1.96
"""95 of 100 normal values are nearer to their mean than so many deviations."""


@dataclass(frozen=True)
class Noise:
    """The deviation between seeds in units of the metric, the repeats beyond the first that it was measured from,
    and whether it is an assumption: too few repeats to tell.
    """

    deviation: float
    repeats: int
    assumed: bool


def study_noise(record: StudyRecord) -> Noise:
    """The study's deviation between seeds: as its settings say, as its repeats show, else assumed.

    0.0 and assumed in a study without a loss: there is nothing yet to be a share of.
    """
    measured, repeats = pooled(families(record).values())
    wanted = record.spec.get("promotion", {}).get("noise", "auto")
    said = None if wanted == "auto" else float(wanted)
    losses = [trial.value for trial in record.trials if trial.value is not None] or [
        trial.last[1] for trial in record.trials if trial.last
    ]
    finite = [loss for loss in losses if math.isfinite(loss)]
    found = deviation(said, measured, repeats, min(finite)) if finite else (said or 0.0)
    return Noise(found, repeats, assumed=said is None and found != measured)


def tie_band(noise: Noise | float) -> float:
    """How far apart two single trials may be and still tie: 1.96 deviations of a difference of two values."""
    return Z * math.sqrt(2) * (noise.deviation if isinstance(noise, Noise) else noise)


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
