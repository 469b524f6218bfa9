"""Work that is done a piece at a time, so that whoever has it done can do something else in between."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

Pieces = Generator[None, None, T]
"""Each ``next`` does some milliseconds' worth; what it comes to is returned at the end."""


def whole(pieces: Pieces[T]) -> T:
    """Do all of it."""
    while True:
        try:
            next(pieces)
        except StopIteration as done:
            result: T = done.value
            return result
