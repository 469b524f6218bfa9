"""TrialSpec: one trial, frozen and complete; it alone re-runs the trial and its hash is its identity.
Only fields, their bounds and what contradicts what; nothing here reads a file or builds a model.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from tuner.spec.budget import Budget, parse_size, size_text


def _integer(value: object) -> object:
    """Let ``1e3`` and ``16.0`` stand for integers: YAML users write both."""
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return value
        if number.is_integer() and abs(number) < 2**53:
            return int(number)
    return value


def _budget(value: object) -> object:
    return Budget.parse(value) if isinstance(value, str) else value


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


Int = Annotated[int, BeforeValidator(_integer)]
Float = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[Float, Field(gt=0)]
Count = Annotated[Int, Field(ge=1, le=2**53)]  # beyond it a float no longer tells neighbours apart
Fraction = Annotated[Float, Field(ge=0, le=1)]
Size = Annotated[
    Count,
    BeforeValidator(_size),
    PlainSerializer(size_text, when_used="json-unless-none"),
    Field(description="a size such as '5 GB'"),
]
"""Bytes; YAML and JSON say "5 GB"."""
BudgetField = Annotated[Budget, BeforeValidator(_budget), PlainSerializer(str)]


class Frozen(BaseModel):
    """The border: unknown keys are errors, and what passed never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, arbitrary_types_allowed=True)


class TokenizerSpec(Frozen):
    """How text becomes tokens. ``vocab`` is for bpe (byte: 257, char: as the text), ``path`` for file."""

    kind: Literal["bpe", "byte", "char", "file"] = "bpe"
    vocab: Annotated[Int, Field(ge=257, le=1_000_000)] | None = None
    path: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.vocab is not None and self.kind != "bpe":
            raise ValueError(f"vocab is for kind bpe; a {self.kind} tokenizer has its own, remove it")
        if (self.path is not None) != (self.kind == "file"):
            raise ValueError("path goes with kind file, and kind file needs it: the path of a tokenizer.json")
        return self


_SOURCE_FIELDS = {
    "stdlib": ((), ()),
    "text": (("path",), ()),
    "csv": (("path", "column"), ()),
    "json": (("path", "column"), ()),
    "parquet": (("path", "column"), ()),
    "hf": (("name", "column"), ("revision", "subset", "part", "cap")),
}
"""source -> (fields it needs, fields it may have); any other of these fields contradicts it."""


class DataSpec(Frozen):
    """Where text comes from and how it is cut into tokens, parts and windows."""

    source: Literal["stdlib", "text", "csv", "json", "parquet", "hf"] = "stdlib"
    path: str | None = None  # a file or a glob, from the folder the command runs in
    column: str | None = None
    name: str | None = None  # hf: the data set's name on the hub, or a local folder
    revision: str | None = None
    subset: str | None = None
    part: str | None = None  # hf: which of the data set's own splits to read; "train" if absent
    cap: Size | None = None  # hf: read at most so much text; 1 GB if absent
    tokenizer: TokenizerSpec = TokenizerSpec()
    context: Annotated[Int, Field(ge=2, le=1_048_576)] = 128
    split: tuple[Fraction, Fraction, Fraction] = (0.8, 0.1, 0.1)
    val_tokens: Count | None = None  # evaluate on so many tokens, the same windows every time; None: all

    @model_validator(mode="after")
    def _fits(self) -> Self:
        needed, optional = _SOURCE_FIELDS[self.source]
        for name in ("path", "column", "name", "revision", "subset", "part", "cap"):
            given = getattr(self, name) is not None
            if given and name not in needed + optional:
                raise ValueError(f"{name} does not belong to source {self.source}; remove it or change the source")
            if name in needed and not given:
                raise ValueError(f"source {self.source} needs {name}")
        if abs(sum(self.split) - 1) > 1e-6:
            raise ValueError(f"split must add up to 1 (train, validation, test), got {sum(self.split):g}")
        if min(self.split[:2]) == 0:
            raise ValueError("split needs a training and a validation part above 0; only the test part may be 0")
        return self


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


class TrialSpec(Frozen):
    """One trial: data, model, optimizer, batch, budget and seed. Every field has a default."""

    data: DataSpec = DataSpec()
    model: ModelSpec = ModelSpec()
    optim: OptimSpec = OptimSpec()
    batch: Count = 16  # sequences an optimizer step
    accumulate: Count = 1  # micro-batches a step; batch must divide into them
    precision: Literal["fp32", "bf16"] = "fp32"
    budget: BudgetField = Budget.parse("1M tokens")
    seed: Annotated[Int, Field(ge=0, lt=2**32)] = 1

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} does not divide into {self.accumulate} micro-batches")
        return self

    @property
    def tokens_per_step(self) -> int:
        return self.batch * self.data.context

    def as_data(self) -> dict[str, Any]:
        """JSON-ready data that ``TrialSpec.model_validate`` reads back as an equal spec."""
        return self.model_dump(mode="json")

    @property
    def hash(self) -> str:
        """The identity: 16 hex digits of the sha256 of the canonical JSON."""
        return digest(self.as_data())[:16]


def digest(data: object) -> str:
    """sha256 in hex of JSON-ready data, independent of key order."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
