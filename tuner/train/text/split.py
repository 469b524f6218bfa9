"""The split: which part (train, validation, test) each piece of text belongs to, decided while it streams.
Nothing here reads a file itself or knows tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor
from typing import Literal

from tuner.train.text.reading.blocks import character_start, file_blocks
from tuner.train.text.source import Source

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, Part, Part] = ("train", "val", "test")
Split = tuple[float, float, float]
"""Shares of the documents, or of the bytes of one text, in the order of PARTS; they add up to 1."""


@dataclass(frozen=True)
class Piece:
    """A block of text for ``PARTS[part]``: ``size`` UTF-8 bytes that ``opens`` a document or goes on; what the document
    is, where its source says so, and what its auxiliary labels say.
    """

    part: int
    text: str
    size: int
    opens: bool
    label: str | None = None
    auxiliary: tuple[str | None, ...] = ()


def pieces(source: Source, split: Split, only: int | None = None) -> Iterator[Piece]:
    """Stream the text with its parts, always the same; ``only`` leaves the other parts' text unread.

    One text without documents is cut at the shares' bytes, moved forward to the next character: train first,
    test last. Documents are counted: each goes whole to the part that is furthest below its share of their number
    so far, itself among them, to the first of equals; ten split 8 / 1 / 1 at 80/10/10. Their sizes play no part,
    or the parts would not be alike: by bytes, long documents lean to training (measured on the standard library:
    a mean of 23 kB there, 9 and 6 kB in the others). Those of each label are counted by themselves: each part has its
    share of every class, however the table is sorted. A part with share 0 gets nothing.

    Raises:
        DataError: as the source's stream does.
    """
    if source.documents is None:
        yield from _contiguous(source, split, only)
        return
    counts: dict[str | None, list[int]] = {}
    for document in source.documents():
        given = counts.setdefault(document.label, [0, 0, 0])
        total = sum(given) + 1
        lacking = [share * total - had if share else float("-inf") for share, had in zip(split, given, strict=True)]
        part = lacking.index(max(lacking))
        given[part] += 1
        if only in (None, part):
            opens = True
            for text in document.blocks:
                yield Piece(part, text, len(text.encode()), opens, document.label, document.auxiliary)
                opens = False


def _contiguous(source: Source, split: Split, only: int | None) -> Iterator[Piece]:
    path, size = source.files[0], source.stamps[0][0]
    first = character_start(path, floor(size * split[0]))
    second = character_start(path, floor(size * (split[0] + split[1]))) if split[2] else size
    for part, (start, end) in enumerate(((0, first), (first, second), (second, size))):
        if only in (None, part):
            for text in file_blocks(path, start, end):
                yield Piece(part, text, len(text.encode()), False)
