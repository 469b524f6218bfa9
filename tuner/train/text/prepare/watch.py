"""What is seen of a text while its tokens are written: for the report, and to find what stands in two parts.
Pieces in, facts out; whether they are a reason to refuse is said here too, as a sentence.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from tuner.spec.errors import DataError
from tuner.train.text.prepare.clean import found_in
from tuner.train.text.prepare.filters import Words
from tuner.train.text.split import PARTS, Piece

ALLOWED = 0.02
"""Share of the text to judge by that may stand in the training part as well: short documents repeat by chance."""

_LONG = 200
"""Characters of a paragraph that is not there twice by chance, where a text has no documents."""
_EMPTY_LINE = re.compile(r"\n\s*\n")


class Watch:
    """Hears every piece that is written."""

    def __init__(self, documents: bool) -> None:
        self.found: Counter[str] = Counter()
        self._documents = documents
        self._train: set[bytes] = set()
        self._held: tuple[list[tuple[bytes, int]], ...] = ([], [], [])
        self._open: tuple[int, Words, int] | None = None

    def hear(self, piece: Piece) -> None:
        self.found.update(found_in(piece.text))
        if not self._documents:
            for paragraph in _EMPTY_LINE.split(piece.text):
                if len(paragraph) >= _LONG:
                    words = Words()
                    words.add(paragraph)
                    self._take(piece.part, words, len(paragraph.encode()))
            return
        if piece.opens:
            self._close()
            self._open = (piece.part, Words(), 0)
        assert self._open is not None
        part, words, size = self._open
        words.add(piece.text)
        self._open = (part, words, size + piece.size)

    def _close(self) -> None:
        if self._open is not None:
            self._take(*self._open)
            self._open = None

    def _take(self, part: int, words: Words, size: int) -> None:
        if part == 0:
            self._train.add(words.key)
        elif size:
            self._held[part].append((words.key, size))

    def overlap(self) -> dict[str, float]:
        """Share of the validation and test parts' text that stands in the training part too."""
        self._close()
        shares: dict[str, float] = {}
        for part, held in zip(PARTS[1:], self._held[1:], strict=True):
            whole = sum(size for _, size in held)
            shares[part] = sum(size for key, size in held if key in self._train) / whole if whole else 0.0
        return shares

    def facts(self) -> dict[str, Any]:
        return {"found": dict(self.found), "overlap": self.overlap()}


def require_apart(overlap: dict[str, float], label: str) -> None:
    """Hold the parts to being different texts.

    Raises:
        DataError: more than ``ALLOWED`` of one to judge by stands in the training part.
    """
    for part, share in overlap.items():
        if share > ALLOWED:
            name = {"val": "validation", "test": "test"}[part]
            raise DataError(
                f"data: {share:.0%} of the {name} part's text stands in the training part of {label} too, so its loss "
                "would praise what was learned by heart. Leave the training documents out that stand there twice, "
                "with data.clean.duplicates: exact (or near); of one text without documents, say what is one with "
                "data.documents: paragraph"
            )
