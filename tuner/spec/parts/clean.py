"""CleanSpec: what is done to the text before it becomes tokens, and which documents nobody learns from.
Fields and what contradicts what; nothing here reads a text.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tuner.spec.parts.scalars import Count, Float, Fraction, Frozen


class CleanSpec(Frozen):
    """``unicode`` and ``whitespace`` change the whole text. The rest filters training documents only: what a model is
    judged by stays as it is, so that trials with other filters can be compared.
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


FILTERS = tuple(f"data.clean.{name}" for name in CleanSpec.model_fields if name not in ("unicode", "whitespace"))
"""The fields that a study may search: they change what is learned from, never what it is judged by."""
