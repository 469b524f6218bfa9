"""Sampling: how text is drawn from a model, the same words for commands, packaged models and samples of trials.
Settings and their limits only; drawing is done in train/use/.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tuner.spec.parts.scalars import Count, Float, Frozen, Int


class Sampling(Frozen):
    """How the next tokens are drawn. Temperature 0 takes the likeliest; the same seed draws the same text."""

    max_tokens: Annotated[Count, Field(le=100_000)] = 200
    temperature: Annotated[Float, Field(ge=0, le=100)] = 0.8
    top_k: Count | None = None  # of the so many likeliest tokens
    top_p: Annotated[Float, Field(gt=0, le=1)] | None = None  # of the likeliest that make up this probability
    seed: Annotated[Int, Field(ge=0, lt=2**32)] = 1
