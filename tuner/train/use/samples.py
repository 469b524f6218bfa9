"""Several texts drawn together, and the few that a trial writes at its milestones in the time it may take for them.
It changes nothing in the model and reads no clock but the one it is given; where texts go is others' business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from tuner.spec.errors import DataError
from tuner.spec.parts.sampling import Sampling
from tuner.train.machine.device import is_out_of_memory
from tuner.train.model.gpt import GPT
from tuner.train.text.tokenizer import Tokenizer
from tuner.train.use.generate import generate
from tuner.train.use.words import Words, first_id

SAMPLING = Sampling(max_tokens=64, temperature=0.8, seed=1)
SHARE = 0.01
"""Of the training time so far, at most so much goes into samples before the last milestone."""
FIRST = 0.1
"""Seconds that the first drawing is taken to need: loading a tokenizer's library is part of it."""


class _TooLong(Exception):
    """The drawing has used up its time; raised between two of its steps."""


def continuations(
    gpt: GPT,
    tokenizer: Tokenizer,
    rows: Sequence[Sequence[int]],
    sampling: Sampling,
    each: Callable[[], None] = lambda: None,
) -> list[str]:
    """The texts after ``rows`` of equally many ids, drawn together on the model's device; each ends where it ends.

    ``each`` is called after every step; what it raises ends the drawing.
    """
    words = [Words(tokenizer, row) for row in rows]
    texts, going = [""] * len(rows), set(range(len(rows)))
    for step in generate(gpt, torch.tensor(rows, device=gpt.tokens.weight.device), sampling):
        for place, drawn in enumerate(step.tolist()):
            if place in going and drawn == tokenizer.end:
                going.discard(place)
            elif place in going:
                texts[place] += words[place].add(drawn)
        if not going:
            break
        each()
    return [text + one.rest() for text, one in zip(texts, words, strict=True)]


class Samples:
    """Writes ``count`` texts from no prompt, always with the same seed; 0 of them cost nothing. The model learns from
    so many ``documents``, 0 where that is one text without any.
    """

    def __init__(
        self,
        gpt: GPT,
        tokenizer: Callable[[], Tokenizer],
        count: int,
        documents: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._gpt, self._open, self._count, self._documents, self._clock = gpt, tokenizer, count, documents, clock
        self._tokenizer: Tokenizer | None = None
        self._spent, self._needed = 0.0, FIRST

    def resume(self, training: float) -> None:
        """Go on after ``training`` seconds, of which the share for samples is taken to be spent."""
        self._spent = SHARE * training

    def draw(self, training: float, last: bool) -> tuple[str, ...]:
        """The texts after ``training`` seconds; none where they would take, or take, more than their share of these.

        The ``last`` ones are written whatever they take. A tokenizer that is damaged, or no memory left, costs the
        texts and never the trial.
        """
        allowed = SHARE * training - self._spent
        if not self._count or (allowed < self._needed and not last):
            return ()
        began = self._clock()

        def each() -> None:
            if not last and self._clock() - began > allowed:
                raise _TooLong

        done = True
        try:
            return tuple(self._write(each))
        except _TooLong:
            done = False
        except DataError:
            self._count = 0
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._count = 0
        finally:
            took = self._clock() - began
            self._spent += took
            self._needed = took if done else 2 * took  # at least: it was left in the middle
        return ()

    def _write(self, each: Callable[[], None]) -> list[str]:
        if self._tokenizer is None:
            self._tokenizer = self._open()
        start = [first_id(self._tokenizer, self._documents)]
        return continuations(self._gpt, self._tokenizer, [start] * self._count, SAMPLING, each)
