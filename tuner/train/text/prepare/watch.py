"""What is seen of a text while its tokens are written: for the report, and to find what stands in two parts.
Pieces in, facts out, and the sentence of those who refuse them.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from tuner.spec.errors import DataError
from tuner.train.text.prepare.clean import found_in
from tuner.train.text.prepare.filters import Words
from tuner.train.text.split import PARTS, Piece

_LONG = 200
"""Characters of a paragraph that is not there twice by chance, where a text has no documents."""
_EMPTY_LINE = re.compile(r"\n\s*\n")


class Watch:
    """Hears every piece that is written; eight bytes are kept of a document."""

    def __init__(self, documents: bool) -> None:
        self.found: Counter[str] = Counter()
        self._documents = documents
        self._keys = (array("Q"), array("Q"), array("Q"))
        self._sizes = (array("Q"), array("Q"), array("Q"))
        self._whole = [0, 0, 0]
        self._open: tuple[int, Words, int] | None = None

    def hear(self, piece: Piece) -> None:
        self.found.update(found_in(piece.text))
        self._whole[piece.part] += piece.size
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
        self._keys[part].append(words.key)
        self._sizes[part].append(size)

    def facts(self) -> dict[str, Any]:
        """What was found, and the share of the validation and test parts' text that stands in the training part too."""
        self._close()
        train = np.array(self._keys[0], np.uint64)
        overlap: dict[str, float] = {}
        for k, part in enumerate(PARTS[1:], 1):
            again = np.isin(np.array(self._keys[k], np.uint64), train)
            overlap[part] = int(np.array(self._sizes[k], np.uint64)[again].sum()) / max(1, self._whole[k])
        return {"found": dict(self.found), "overlap": overlap}


STRANGE = 0.001
"""Share of a part's tokens that its vocabulary cannot spell, from which on that is said."""


def strangeness(unknown: Mapping[str, float]) -> str | None:
    """What is to be said of a text that its vocabulary does not know, by the share of each part; None where it does."""
    told = [f"{share:.1%} of the {part} part" for part, share in unknown.items() if share >= STRANGE]
    if not told:
        return None
    return (
        f"{' and '.join(told)} is in characters or words that the vocabulary does not have: they are all one token, "
        "easily foretold, so the loss looks better than it is; take a tokenizer that knows them"
    )


def require_apart(overlap: Mapping[str, float], allowed: float) -> None:
    """Hold the parts to being different texts.

    Raises:
        DataError: more than the share ``allowed`` of one to judge by stands in the training part.
    """
    for part, share in overlap.items():
        if share > allowed:
            name = {"val": "validation", "test": "test"}[part]
            raise DataError(
                f"data: {share:.0%} of the {name} part's text stands in the training part too (data.overlap allows "
                f"{allowed:.0%}), so its loss would praise what was learned by heart. Leave the training documents out "
                "that stand there twice, with data.clean.duplicates: exact (or near); of one text without documents, "
                "say what is one with data.documents: paragraph; or allow it with data.overlap: 1"
            )
