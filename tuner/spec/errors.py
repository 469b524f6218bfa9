"""The exception tree: every mistake a user can make or meet, each with its exit code.
No exception here carries behaviour; messages are sentences: place, expected, got, hint.

    TunerError                      exit 1
    ├── SpecError                   exit 2   the YAML or an option is wrong; nothing was created
    ├── DataError                   exit 2   the corpus cannot be read, is too short, lacks a column
    │   └── UnreadableError         exit 2   what was there is gone, refused or changed while it was read: try again
    ├── StoreError                  exit 3   the trial store is missing, locked, or belongs to another space
    │   └── StudyLockedError        exit 3   another driver is running this study
    ├── CheckpointError             exit 4   no checkpoint, or a damaged one
    ├── StudyStoppedError           exit 5   too many failures in a row
    ├── PromotionError              exit 6   a gate, another promotion or an interrupted one stands in the way
    └── InfeasibleError             exit 1   a point that cannot be a trial; the message is the reason

Mistakes is a ValueError, for pydantic's validators; load.py turns it into a SpecError with a position.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_NUMBER = re.compile(r"[+-]?(\d[\d_]*)?\.?\d*([eE][+-]?\d+)?(?<=[\d.])")


class TunerError(Exception):
    """A mistake with a sentence for its user and an exit code for its shell."""

    exit_code = 1


class SpecError(TunerError):
    exit_code = 2


class DataError(TunerError):
    exit_code = 2


class UnreadableError(DataError):
    pass


class StoreError(TunerError):
    exit_code = 3


class StudyLockedError(StoreError):
    pass


class CheckpointError(TunerError):
    exit_code = 4


class StudyStoppedError(TunerError):
    exit_code = 5


class PromotionError(TunerError):
    exit_code = 6


class InfeasibleError(TunerError):
    """The point cannot be a trial: a forbid rule holds, or its values contradict each other."""


@dataclass(frozen=True)
class Mistake:
    """One mistake: its place below the validator that found it, a sentence, and whether the key is wrong."""

    where: tuple[str | int, ...]
    sentence: str
    key: bool = False


class Mistakes(ValueError):
    """Several mistakes at once, each with its own place."""

    def __init__(self, items: Sequence[Mistake]) -> None:
        super().__init__("; ".join(item.sentence for item in items))
        self.items = tuple(items)


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A hint naming the nearest known word, or the known words where none is near.

    Returns `` Did you mean 'x'?`` or `` Known: a, b, c.``, with a leading blank; empty when nothing is known.
    """
    words = sorted(known)
    if close := difflib.get_close_matches(word, words, n=1, cutoff=cutoff):
        return f" Did you mean '{close[0]}'?"
    if not words:
        return ""
    shown = ", ".join(words[:12]) + (", ..." if len(words) > 12 else "")
    return f" Known: {shown}."


def said(value: object) -> str:
    """A value in words: a text or number as it stood, else the kind of thing."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}" if float(f"{value:g}") == value else repr(value)
        case dict():
            return "a mapping"
        case list() | tuple():
            return f"a list of {len(value)}"
        case str():
            line = _cut(value, 60)
            return line if _NUMBER.fullmatch(line) else repr(line)
    return short(repr(value))


def short(text: str, limit: int = 60) -> str:
    """One printable line of at most ``limit`` characters; the rest is cut, the unprintable escaped."""
    line = _cut(text, limit)
    return line if line.isprintable() else repr(line)[1:-1]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
