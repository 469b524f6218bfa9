"""ModelSpec: the shape of the GPT and the kinds it is built of; InitSpec: the weights it begins with; CompressSpec:
what is left of them at the end; ClassifySpec: how it answers where it is to say what a text is.
Fields, what follows from them and what contradicts what; what a kind does stands in train/model/.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tuner.spec.parts.scalars import Bits, Count, Float, Frozen, Int, Positive


def fitting_heads(width: int) -> int:
    """Heads that suit a width: so many that one is about 32 wide (64 from width 512 on) and even."""
    target = width / (32 if width < 512 else 64)
    fitting = [h for h in range(1, width // 2 + 1) if width % h == 0 and (width // h) % 2 == 0]
    return min(fitting, key=lambda h: (abs(math.log(h / target)), h))


class ModelSpec(Frozen):
    """The GPT. ``auto`` heads follow the width; ``auto`` key-value heads are as many as heads."""

    depth: Annotated[Int, Field(ge=1, le=1000)] = 4
    width: Annotated[Int, Field(ge=8, le=65_536)] = 128
    heads: Literal["auto"] | Count = "auto"
    head_width: Literal["auto"] | Count = "auto"  # auto: width / heads
    hidden: Literal["auto"] | Count = "auto"  # neurons of a layer; auto: 4 x width, of swiglu 8/3 x width
    kv_heads: Literal["auto"] | Count = "auto"  # fewer: groups of heads share keys and values (arXiv 2305.13245)
    positions: Literal["rotary", "learned"] = "rotary"
    norm: Literal["rms", "layer"] = "rms"
    activation: Literal["relu2", "gelu", "gelu_tanh", "swiglu"] = "relu2"  # gelu_tanh: GPT-2's approximation
    head: Literal["untied", "tied"] = "untied"
    qk_norm: bool = True
    bias: bool = False  # in every product and layer norm of the blocks, as GPT-2 has them
    zero_init: bool = True  # output projections start at zero: every block starts as the identity
    conv: Annotated[Int, Field(ge=0, le=64)] = 2  # so many tokens before each are seen by a short convolution; 0: none
    smear: bool = True  # a learned part of the token before is added to each embedding
    softcap: Positive | None = None  # logits are bent into (-softcap, softcap) (Gemma 2, arXiv 2408.00118)
    vocab_multiple: Annotated[Count, Field(le=65_536)] = 1  # the head is padded to a multiple: 64 suits a GPU
    dropout: Annotated[Float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % 2:
            raise ValueError(f"width must be even, got {self.width}")
        if self.heads != "auto" and self.head_width == "auto" and self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")
        if self.positions == "rotary" and self.head_size % 2:
            raise ValueError(f"rotary positions need an even head width, got {self.head_size}")
        if self.kv_heads != "auto" and self.head_count % self.kv_heads:
            raise ValueError(f"kv_heads must divide the {self.head_count} heads, got {self.kv_heads}")
        return self

    @property
    def head_count(self) -> int:
        """Attention heads, as given or as the width has them."""
        return fitting_heads(self.width) if self.heads == "auto" else self.heads

    @property
    def head_size(self) -> int:
        """Width of one head, as given or as the heads divide the model's."""
        return self.width // self.head_count if self.head_width == "auto" else self.head_width

    @property
    def hidden_size(self) -> int:
        """Neurons of a layer: as given, or 4 x width, or 8/3 x width for SwiGLU's three matrices (arXiv 2002.05202)."""
        if self.hidden != "auto":
            return self.hidden
        return max(8, round(8 * self.width / 3 / 8) * 8) if self.activation == "swiglu" else 4 * self.width

    @property
    def kv_head_count(self) -> int:
        """Heads of keys and values."""
        return self.head_count if self.kv_heads == "auto" else self.kv_heads


class LoraSpec(Frozen):
    """Low-rank adapters (LoRA, arXiv 2106.09685): a matrix is what it was plus ``alpha / rank`` times the product of
    two small ones, and those alone are trained.
    """

    rank: Annotated[Count, Field(le=65_536)] | None = None  # None: no adapters, the weights themselves are trained
    alpha: Positive = 16.0
    on: Literal["attention", "all"] = "all"  # which matrices of a layer have one


class InitSpec(Frozen):
    """Where the first weights come from: drawn from the seed, or of the trained model ``source``, whose vocabulary is
    kept, and by ``take`` its shape. ``sha256`` and ``folder`` are found out where they are not written.
    """

    source: Annotated[str, Field(min_length=1)] | None = None  # MODEL@champion, STUDY/TRIAL, or a model's folder
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None  # of the weights
    folder: str | None = None  # the copy that trials begin with
    take: Literal["all", "part", "nothing"] = "all"  # part: the layers, heads and neurons that model.depth, heads and
    # hidden leave of it; nothing: it only teaches
    freeze: Annotated[Int, Field(ge=0, le=1000)] = 0  # so many layers, the lowest, stay as they are, and what is below
    lora: LoraSpec = LoraSpec()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.source is None and self.model_dump(exclude_defaults=True):
            raise ValueError("source is missing: which weights are frozen, adapted or meant? Name a trained model")
        if self.lora.rank is None and self.lora != LoraSpec():
            raise ValueError("lora.rank is missing, so there are no adapters for lora.alpha or lora.on; set it")
        if self.take == "nothing" and (self.freeze or self.lora.rank is not None):
            raise ValueError("take is nothing, so there are no weights to freeze or adapt; remove freeze and lora")
        return self


class CompressSpec(Frozen):
    """What is left of the weights at the end of the budget; what they are compared by is measured with that."""

    sparsity: Annotated[Float, Field(ge=0, lt=1)] = 0.0  # of all matrix entries of the layers the share that is zero
    prune_from: Annotated[Float, Field(ge=0, le=0.9)] = 0.0  # share of the budget after which zeros come
    ramp: Annotated[Float, Field(gt=0, le=0.9)] = 0.5  # of what is left then, the share in which; the rest recovers
    bits: Bits = 32  # of a weight; embedding and head have 8 at least
    round_from: Annotated[Float, Field(ge=0, le=1)] = (
        1.0  # share of the budget after which training sees the weights in those bits
    )
    compute: Literal["fp32", "int8"] = "fp32"  # in which the model that comes of it multiplies, on a CPU

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.sparsity and self.prune_from:
            raise ValueError(
                f"prune_from is {self.prune_from:g} and sparsity 0, so no zeros come; set sparsity above 0"
            )
        if self.round_from < 1 and self.numbers == 32:
            raise ValueError(
                f"round_from is {self.round_from:g}, and with bits 32 and compute fp32 nothing is rounded; "
                "set bits (to one of those searched, where they are)"
            )
        return self

    @property
    def smaller(self) -> bool:
        """Is anything to be left out, or to be computed otherwise?"""
        return self.sparsity > 0 or self.numbers < 32

    @property
    def numbers(self) -> int:
        """Bits of the weights that the model computes with."""
        return min(self.bits, 8) if self.compute == "int8" else self.bits


class ClassifySpec(Frozen):
    """How a text becomes an answer: from what its last token makes of it, or the mean of what all make of it.
    ``weights`` balanced: each class weighs in training as if it were as frequent as the others.
    """

    pool: Literal["last", "mean"] = "last"
    weights: Literal["none", "balanced"] = "none"
