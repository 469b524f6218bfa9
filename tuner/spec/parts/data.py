"""DataSpec, CleanSpec and TokenizerSpec: which text, what is done to it, how it becomes tokens, parts and windows.
Fields and what contradicts what; nothing here opens a file.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from tuner.spec.errors import short
from tuner.spec.parts.scalars import Count, Float, Fraction, Frozen, Int, Size

Disturbed = Annotated[Float, Field(ge=0, le=0.5)]


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


class CleanSpec(Frozen):
    """``unicode`` and ``whitespace`` change the whole text. The rest filters training documents only: what a model is
    judged by stays as it is.
    """

    unicode: Literal["keep", "nfc", "nfkc"] = "keep"  # one way to write each character; nfkc: also of each look
    whitespace: bool = False  # one blank between words, at most one empty line, no control characters; indents stay
    shortest: Count | None = None  # characters a training document needs
    longest: Count | None = None
    letters: Fraction = 0.0  # least share of a document's characters, blanks aside, that are letters of any script
    repetition: Fraction = 1.0  # greatest share of a document's lines that stood in it before
    duplicates: Literal["keep", "exact", "near"] = "keep"  # of another training document, or of one to judge by
    alike: Annotated[Float, Field(gt=0, lt=1)] = 0.8  # near: share of runs of five words that two have in common

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.shortest and self.longest and self.shortest > self.longest:
            raise ValueError(f"shortest {self.shortest} is above longest {self.longest}; no document would be left")
        if self.alike != 0.8 and self.duplicates != "near":
            raise ValueError("alike is for duplicates: near; remove it, or ask for near duplicates")
        return self

    @property
    def filters(self) -> bool:
        """Is any document left out?"""
        nothing = CleanSpec(unicode=self.unicode, whitespace=self.whitespace)
        return self != nothing


class AugmentSpec(Frozen):
    """Shares of the tokens that are disturbed in what a model reads while it is trained, drawn anew at each step."""

    mask: Disturbed = 0.0  # another token stands in its place
    swap: Disturbed = 0.0  # two neighbours are exchanged
    shuffle: Disturbed = 0.0  # four are mixed
    delete: Disturbed = 0.0  # it is left out


_SOURCE_FIELDS = {
    "stdlib": ((), ()),
    "text": (("path",), ("documents",)),
    "csv": (("path", "column"), ()),
    "json": (("path", "column"), ()),
    "parquet": (("path", "column"), ()),
    "hf": (("name", "column"), ("revision", "subset", "part", "cap")),
}
"""source -> (fields it needs, fields it may have); any other of these fields contradicts it."""

_LABELLED = ("csv", "json", "parquet", "hf")


Kind = Literal["stdlib", "text", "csv", "json", "parquet", "hf"]


class SourceSpec(Frozen):
    """Where a text comes from."""

    source: Kind = "stdlib"
    path: str | None = None  # a file or a glob, from the folder the command runs in
    documents: Literal["file", "paragraph", "line"] | None = None  # text: what is one; absent: each of several files
    column: str | None = None
    name: str | None = None  # hf: the data set's name on the hub, or a local folder
    revision: str | None = None
    subset: str | None = None
    part: str | None = None  # hf: which of the data set's own splits to read; "train" if absent
    cap: Size | None = None  # hf: read at most so much text; 1 GB if absent

    @model_validator(mode="after")
    def _belong(self) -> Self:
        needed, optional = _SOURCE_FIELDS[self.source]
        for name in ("path", "documents", "column", "name", "revision", "subset", "part", "cap"):
            given = getattr(self, name) is not None
            if given and name not in needed + optional:
                raise ValueError(f"{name} does not belong to source {self.source}; remove it or change the source")
            if name in needed and not given:
                raise ValueError(f"source {self.source} needs {name}")
        return self


class MixSpec(SourceSpec):
    """Another text to learn from beside the one that is judged by: of all sequences its training part has ``share``."""

    source: Kind
    share: Annotated[Float, Field(ge=0, le=0.95)] = 0.1


class AuxiliarySpec(Frozen):
    """Another thing to learn of each labelled text, from the same trunk (Caruana, 1997): what column ``label`` says of
    it, where it says something; its loss is added ``weight`` times in training.
    """

    label: str
    weight: Annotated[Float, Field(ge=0, le=100)] = 0.5


NAME = "[a-z][a-z0-9_]*"
"""What the user may call a text that is mixed in, or an auxiliary label: such a name stands in paths."""


def _name(name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise ValueError(f"{short(name)!r} is no name for it; one has small letters, digits and '_', such as books")
    return name


Named = TypeVar("Named")


def _by_name(named: dict[str, Named]) -> dict[str, Named]:
    """In one order, whatever it was written in: the order decides which sequence comes from which."""
    return dict(sorted(named.items()))


ByName = Annotated[dict[Annotated[str, AfterValidator(_name)], Named], AfterValidator(_by_name)]


class DataSpec(SourceSpec):
    """Where text comes from and how it is cut into tokens, parts and windows."""

    label: str | None = None  # the column that says what a text is, for task classify
    auxiliary: ByName[AuxiliarySpec] = Field(default={})  # what else is learned of it, each by a name of one's own
    mix: ByName[MixSpec] = Field(default={})  # likewise
    clean: CleanSpec = CleanSpec()
    mask: tuple[Literal["email", "key"], ...] = ()  # what is taken out of the text: addresses, what looks like a secret
    overlap: Fraction = 0.02  # share of the text to judge by that may stand in the training part too
    augment: AugmentSpec = AugmentSpec()
    tokenizer: TokenizerSpec = TokenizerSpec()
    context: Annotated[Int, Field(ge=2, le=1_048_576)] = 128
    windows: Literal["epochs", "random"] = "epochs"  # each window once an epoch, or drawn anew each time (nanoGPT)
    split: tuple[Fraction, Fraction, Fraction] = (0.8, 0.1, 0.1)
    val_tokens: Count | None = None  # evaluate on so many tokens, the same windows every time; None: all

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.label is not None and self.source not in _LABELLED:
            raise ValueError(f"label does not belong to source {self.source}; remove it or change the source")
        if self.mix and self.label is not None:
            raise ValueError("mix is for texts without labels; remove it, or label")
        if self.mix and self.windows == "random":
            raise ValueError("mix needs windows: epochs; remove windows: random")
        if sum(mixed.share for mixed in self.mix.values()) > 0.95 + 1e-9:
            raise ValueError("mix leaves the text itself less than 0.05 of what is learned from; lower its shares")
        if self.label is None and self.auxiliary:
            raise ValueError("auxiliary is for texts with a label: the column that says what a model is judged by")
        if self.column in self.labels:
            raise ValueError(f"label and column are both {self.column}; label names the column of the answers")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"label and auxiliary name a column twice: {', '.join(self.labels)}")
        if self.label is not None and self.windows == "random":
            raise ValueError("windows: random is for a text that is cut into windows; labelled texts are read whole")
        if len(set(self.mask)) < len(self.mask):
            raise ValueError(f"mask names something twice: {', '.join(self.mask)}")
        if abs(sum(self.split) - 1) > 1e-6:
            raise ValueError(f"split must add up to 1 (train, validation, test), got {sum(self.split):g}")
        if min(self.split[:2]) == 0:
            raise ValueError("split needs a training and a validation part above 0; only the test part may be 0")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns of answers: that of ``label`` first, then those of ``auxiliary``."""
        return () if self.label is None else (self.label, *(one.label for one in self.auxiliary.values()))

    def beside(self, name: str, tokenizer: TokenizerSpec) -> DataSpec:
        """The data of what ``mix`` calls so: prepared and parted as the text itself, in its vocabulary."""
        theirs = self.mix[name].model_dump(exclude={"share"})
        return DataSpec.model_validate({**self.model_dump(), **theirs, "mix": {}, "tokenizer": tokenizer.model_dump()})

    @property
    def prepared(self) -> list[object]:
        """What is done to the text, for its fingerprint; empty where nothing is, as before there was anything."""
        said = self.model_dump(mode="json", include={"clean", "documents", "label"}, exclude_defaults=True)
        told: list[object] = [said, sorted(self.mask)] if said or self.mask else []
        near = self.clean.duplicates == "near"
        told += ["of any script"] if self.mask or near else []  # before, what has no blanks was taken for one word
        if self.auxiliary:
            told.append(["auxiliary", *((name, one.label) for name, one in self.auxiliary.items())])
        return [*told, "parts by label"] if self.label is not None else told
