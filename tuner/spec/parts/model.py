"""ModelSpec: the shape of the GPT and the kinds it is built of.
Fields and what contradicts what; what a kind does stands in train/model/.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tuner.spec.parts.scalars import Count, Float, Frozen, Int


class ModelSpec(Frozen):
    """The GPT. Head count ``auto`` is derived from the width (see train/model/shape.py)."""

    depth: Annotated[Int, Field(ge=1, le=1000)] = 4
    width: Annotated[Int, Field(ge=8, le=65_536)] = 128
    heads: Literal["auto"] | Count = "auto"
    positions: Literal["rotary", "learned"] = "rotary"
    norm: Literal["rms", "layer"] = "rms"
    activation: Literal["relu2", "gelu", "swiglu"] = "relu2"
    head: Literal["untied", "tied"] = "untied"
    qk_norm: bool = True
    zero_init: bool = True  # output projections start at zero: every block starts as the identity
    dropout: Annotated[Float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % 2:
            raise ValueError(f"width must be even, got {self.width}")
        if self.heads != "auto":
            if self.width % self.heads:
                raise ValueError(f"width {self.width} does not divide into {self.heads} heads")
            if self.positions == "rotary" and (self.width // self.heads) % 2:
                raise ValueError(f"rotary positions need an even head width, got {self.width // self.heads}")
        return self
