"""The cursor: which tokens make batch k, a pure function of seed and step, and which windows evaluate a part.
It keeps no position, so resuming needs none; nothing here opens a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.unsignedinteger[Any]]
Batch = NDArray[np.int64]


Order = TypeVar("Order")


class Epochs(Generic[Order]):
    """What is drawn for an epoch, as (seed, epoch) decide: drawn again where it is not one of the last two."""

    def __init__(self, seed: int, draw: Callable[[np.random.Generator], Order]) -> None:
        self._seed, self._draw = seed, draw
        self._drawn: dict[int, Order] = {}

    def __call__(self, epoch: int) -> Order:
        if epoch not in self._drawn:
            while len(self._drawn) > 1:  # two epochs meet in one batch
                del self._drawn[min(self._drawn)]
            self._drawn[epoch] = self._draw(np.random.default_rng((self._seed, epoch)))
        return self._drawn[epoch]


class Windows:
    """Training windows of ``context`` + 1 tokens, each once an epoch, in an order that (seed, epoch) decides.

    Neighbours share one border token, so that no two of an epoch predict the same one. Each epoch starts them
    at another random offset and leaves out, for it, fewer than two windows' tokens at the ends.

    Raises:
        ValueError: fewer than ``context`` + 1 tokens.
    """

    def __init__(self, tokens: Tokens, context: int, seed: int) -> None:
        _require(tokens, context)
        self.tokens, self.context, self.seed = tokens, context, seed
        self.count = max(1, len(tokens) // context - 1)  # windows an epoch: the same at every offset
        self._offsets = min(context, len(tokens) - self.count * context)
        self._views = _views(tokens, context)
        self._orders = Epochs(seed, self._order)

    def batch(self, step: int, size: int) -> Batch:
        """Sequences ``step * size`` to ``(step + 1) * size`` as tokens: shape (size, context + 1)."""
        return self.rows(step * size, size)

    def rows(self, first: int, size: int) -> Batch:
        """Sequences ``first`` to ``first + size``, of all that there will be."""
        epochs, places = np.divmod(first + np.arange(size), self.count)
        starts = np.empty(size, np.int64)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            offset, order = self._orders(epoch)
            here = epochs == epoch
            starts[here] = offset + order[places[here]].astype(np.int64) * self.context
        sequences: Batch = self._views[starts].astype(np.int64)
        return sequences

    def _order(self, draw: np.random.Generator) -> tuple[int, NDArray[np.uint32]]:
        offset = int(draw.integers(self._offsets))
        return offset, draw.permutation(np.arange(self.count, dtype=np.uint32))


class RandomWindows:
    """Training windows of ``context`` + 1 tokens drawn anew for every batch, anywhere, as nanoGPT does.

    Raises:
        ValueError: fewer than ``context`` + 1 tokens.
    """

    def __init__(self, tokens: Tokens, context: int, seed: int) -> None:
        _require(tokens, context)
        self.seed = seed
        self._views = _views(tokens, context)

    def batch(self, step: int, size: int) -> Batch:
        """The batch of a step as tokens: shape (size, context + 1)."""
        starts = np.random.default_rng((self.seed, step)).integers(len(self._views), size=size)
        sequences: Batch = self._views[starts].astype(np.int64)
        return sequences


class Windowed(Protocol):
    """Anything that gives the batch of a step, of any size, whatever was asked before."""

    def batch(self, step: int, size: int) -> Batch: ...


WINDOWS: dict[str, Callable[[Tokens, int, int], Windowed]] = {"epochs": Windows, "random": RandomWindows}


def evaluation_windows(
    tokens: Tokens, context: int, limit: int | None = None, size: int | None = None
) -> Iterator[tuple[Batch, Batch]]:
    """Inputs and targets, each of shape (at most ``size``, ``context``), the same at every call.

    ``size`` is 8,192 tokens' worth unless given. Without ``limit`` each token but the first is a target
    exactly once; the last window may be shorter and comes alone. With ``limit``, evenly spaced whole windows
    of at most ``limit`` targets in all (one shorter window where ``limit`` is below ``context``).
    """
    size = size or max(1, 8192 // context)
    targets = len(tokens) - 1
    whole, rest = divmod(max(targets, 0), context)
    if limit is not None and limit < targets:
        wanted = min(limit // context, whole)
        starts = np.arange(wanted) * whole // max(wanted, 1) * context
        rest, last = (0, 0) if wanted else (limit, 0)
    else:
        starts = np.arange(whole) * context
        last = whole * context
    views = _views(tokens, context) if len(starts) else tokens
    for first in range(0, len(starts), size):
        rows = views[starts[first : first + size]].astype(np.int64)
        yield rows[:, :-1], rows[:, 1:]
    if rest:
        row = tokens[last : last + rest + 1].astype(np.int64)[None]
        yield row[:, :-1], row[:, 1:]


def _require(tokens: Tokens, context: int) -> None:
    if len(tokens) < context + 1:
        raise ValueError(f"expected at least {context + 1} tokens for context {context}, got {len(tokens)}")


def _views(tokens: Tokens, context: int) -> Tokens:
    """Every window as a view, shape (tokens - context, context + 1): gathers 3-5 times as fast."""
    views: Tokens = np.lib.stride_tricks.sliding_window_view(np.asarray(tokens), context + 1)
    return views
