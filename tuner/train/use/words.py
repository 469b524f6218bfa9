"""From ids that come one by one to text that only grows: no character is torn, none is said twice.
Tokenizers only; no model and no torch here.
"""

from __future__ import annotations

from collections.abc import Sequence

from tuner.train.text.tokenizer import Tokenizer

_UNKNOWN = "\ufffd"
_BEFORE = 8  # ids of the prompt that are decoded too: what a first id reads like may hang on what is before it


class Words:
    """The text after a prompt's ``ids``, piece by piece; all pieces and the rest together are the whole text."""

    def __init__(self, tokenizer: Tokenizer, ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = self._whole_end(ids, range(_BEFORE, _BEFORE + 5)) or list(ids[-_BEFORE:])
        self._said = len(tokenizer.decode(self._ids))

    def add(self, drawn: int) -> str:
        """What is new and whole with this id: nothing while a character of several bytes is incomplete."""
        self._ids.append(drawn)
        text = self._tokenizer.decode(self._ids)
        whole = text.rstrip(_UNKNOWN)  # some tokenizers have one for each byte that is there
        piece = whole[self._said :]
        self._said = max(self._said, len(whole))
        if whole == text and len(self._ids) > 2 * _BEFORE:  # at the end of a character: what is before can go
            tail = self._whole_end(self._ids, range(1, _BEFORE + 1))
            if tail is not None or len(self._ids) > 8 * _BEFORE:
                self._ids = tail or self._ids[-1:]
                self._said = len(self._tokenizer.decode(self._ids))
        return piece

    def _whole_end(self, ids: Sequence[int], lengths: range) -> list[int] | None:
        """The last ids, of the first of these ``lengths`` that begins with a whole character; None where none does."""
        tails = (list(ids[-length:]) for length in lengths)
        return next((tail for tail in tails if _UNKNOWN not in self._tokenizer.decode(tail)), None)

    def rest(self) -> str:
        """What was held back, once no id will follow: U+FFFD for a character that never became whole."""
        return self._tokenizer.decode(self._ids)[self._said :]


def first_id(tokenizer: Tokenizer, documents: int) -> int:
    """What a prompt of no token begins with: the end of text, of which a model of two ``documents`` or more has seen
    what follows, else a newline, else the first id.
    """
    if tokenizer.end is not None and documents > 1:
        return tokenizer.end
    (ids,) = tokenizer.encode(["\n"])
    return int(ids[0]) if len(ids) == 1 and tokenizer.decode(ids) == "\n" else 0
