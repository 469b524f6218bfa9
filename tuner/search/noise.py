"""How far luck reaches in a study: the deviation between its seeds, and the band within which two trials tie.
Arithmetic on a study's own numbers; what follows for a page, a promotion or a stop is said there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tuner.search.history import StudyRecord
from tuner.search.repeats import deviation, families, pooled

Z = 1.96
"""95 of 100 normal values are nearer to their mean than so many deviations."""


@dataclass(frozen=True)
class Noise:
    """The deviation between seeds in units of the metric, the repeats beyond the first that it was measured from,
    and whether it is an assumption, as there are too few repeats to tell, or what the study's settings say.
    """

    deviation: float
    repeats: int
    assumed: bool
    said: bool = False

    @property
    def basis(self) -> str:
        """Where it is from, in words."""
        if self.said:
            return "seed noise as promotion.noise says"
        return "assumed seed noise" if self.assumed else f"seed noise from {self.repeats} repeats"


def study_noise(record: StudyRecord) -> Noise:
    """The study's deviation between seeds: as its settings say, as its repeats show, else assumed.

    0.0 and assumed in a study without a loss: there is nothing yet to be a share of.
    """
    measured, repeats = pooled(families(record).values())
    wanted = record.spec.get("promotion", {}).get("noise", "auto")
    said = None if wanted == "auto" or record.metric != "val_loss" else float(wanted)  # it is in nats
    losses = [trial.value for trial in record.trials if trial.value is not None] or [
        trial.last[1] for trial in record.trials if trial.last
    ]
    finite = [loss for loss in losses if math.isfinite(loss)]
    least = _of_few_texts(record, min(finite)) if finite else 0.0
    found = deviation(said, measured, repeats, min(finite), least) if finite else (said or 0.0)
    return Noise(found, repeats, assumed=said is None and found != measured, said=said is not None)


def _of_few_texts(record: StudyRecord, value: float) -> float:
    """How far a share of wrong answers scatters by which texts are asked: the binomial deviation. 0 for a loss."""
    texts = max((float(trial.facts.get("val_texts") or 0) for trial in record.trials), default=0.0)
    if not texts or not record.metric.endswith("_error"):
        return 0.0
    share = min(max(value, 1 / texts), 1 - 1 / texts)
    return math.sqrt(share * (1 - share) / texts)


def tie_band(noise: Noise | float) -> float:
    """How far apart two single trials may be and still tie: 1.96 deviations of a difference of two values."""
    return Z * math.sqrt(2) * (noise.deviation if isinstance(noise, Noise) else noise)
