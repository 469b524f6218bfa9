"""PromotionSettings: what a checkpoint must show before it becomes champion.
Thresholds only; they are judged in promotion/gates.py.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tuner.spec.errors import short
from tuner.spec.parts.scalars import Count, Float, Frozen, Positive, Size


def _model(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise ValueError(
            "a model's name has letters, digits, '.', '_' and '-', begins with a letter or digit and has at most "
            f"100 characters, got {short(value)!r}"
        )
    return value


class PromotionSettings(Frozen):
    """The thresholds of the gates. ``model`` is the registered model's name, the study's own where it is None."""

    model: Annotated[str, AfterValidator(_model)] | None = None
    seeds: Count = 1  # trials of the same settings, other seeds, that must be complete
    noise: Literal["auto"] | Positive = "auto"  # deviation between seeds, nats; auto: from repeats, else 0.5 % of loss
    confidence: Annotated[Float, Field(gt=0.5, lt=1)] = 0.95  # that the candidate is the better one, one-sided
    tolerance: Positive = 1e-3  # nats that a second evaluation may differ from the recorded one
    test_tokens: Count | None = 200_000  # of the test part are read; None: all
    max_parameters: Count | None = None
    max_size: Size | None = None  # of the packaged model, such as 50 MB
    max_latency: Positive | None = None  # milliseconds a generated token, on this machine, one thread
