"""OptimSpec: the optimizer, its rates, and how they move with the budget.
Fields and what contradicts what; what a kind does stands in train/model/optim.py.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tuner.spec.parts.scalars import Float, Fraction, Frozen, Positive


class MuonSpec(Frozen):
    """Muon's own settings, for the hidden matrices; read only where ``optim.kind`` is muon."""

    lr: Positive = 0.01
    momentum: Annotated[Float, Field(ge=0, lt=1)] = 0.95


class OptimSpec(Frozen):
    """The optimizer. ``warmup`` and ``decay`` are fractions of the budget, never numbers of steps."""

    kind: Literal["adamw", "muon"] = "adamw"
    lr: Positive = 3e-3
    betas: tuple[Annotated[Float, Field(ge=0, lt=1)], Annotated[Float, Field(ge=0, lt=1)]] = (0.9, 0.99)
    weight_decay: Annotated[Float, Field(ge=0)] = 0.1  # on matrices only
    warmup: Annotated[Float, Field(ge=0, lt=1)] = 0.05
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    decay: Annotated[Float, Field(gt=0, le=1)] = 0.3  # wsd: the last share of the budget, in which lr falls
    floor: Fraction = 0.05  # the last lr as a fraction of the first
    clip: Positive | None = 1.0  # gradient norm; None: no clipping
    muon: MuonSpec = MuonSpec()
