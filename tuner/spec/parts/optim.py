"""OptimSpec: the optimizer, its rates, and how they move with the budget.
Fields and what contradicts what; what a kind does stands in train/model/optim.py.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tuner.spec.parts.scalars import Count, Float, Fraction, Frozen, Positive

Decay = Annotated[Float, Field(ge=0, lt=1)]
"""The share of a running mean that each step keeps."""


class MuonSpec(Frozen):
    """Muon's own settings, for the hidden matrices; read only where ``optim.kind`` is muon."""

    lr: Positive = 0.01
    momentum: Decay = 0.95


class MultiplierSpec(Frozen):
    """What the learning rate is multiplied by, a group of parameters at a time; the schedule comes on top."""

    embedding: Positive = 1.0
    head: Positive = 1.0  # of an untied head; a tied one is the embedding
    vectors: Positive = 1.0  # norm gains and the like
    layer_decay: Annotated[Float, Field(gt=0, le=1)] = 1.0  # each layer has this times the rate of the one above


class DistilSpec(Frozen):
    """How much of what is minimised is to expect what the model of ``init.source`` does, in place of the text alone."""

    weight: Fraction = 0.0
    temperature: Positive = 2.0  # above 1 its lesser expectations count for more


class OptimSpec(Frozen):
    """The optimizer. ``warmup`` and ``decay`` are fractions of the budget, never numbers of steps."""

    kind: Literal["muon", "adamw", "adafactor"] = "muon"
    lr: Positive = 3e-3
    beta1: Decay = 0.9
    beta2: Decay = 0.99
    beta2_tokens: Count | None = None  # tokens a step at which beta2 holds: then its half-life is fixed in tokens
    weight_decay: Annotated[Float, Field(ge=0)] = 0.1  # on matrices only
    z_loss: Annotated[Float, Field(ge=0)] = 0.0  # weight of the mean squared log-partition (PaLM, arXiv 2204.02311)
    label_smoothing: Annotated[Float, Field(ge=0, lt=1)] = 0.0  # share of a target given to all tokens
    distil: DistilSpec = DistilSpec()
    warmup: Annotated[Float, Field(ge=0, lt=1)] = 0.05
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    decay: Annotated[Float, Field(gt=0, le=1)] = 0.3  # wsd: the last share of the budget, in which lr falls
    floor: Fraction = 0.05  # the last lr as a fraction of the first
    clip: Positive | None = 1.0  # gradient norm; None: no clipping
    muon: MuonSpec = MuonSpec()
    multipliers: MultiplierSpec = MultiplierSpec()
