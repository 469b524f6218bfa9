"""The cursor over labelled texts: which of them make batch k, which evaluate a part; each is read from its beginning.
It keeps no position, so resuming needs none; nothing here opens a file.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tuner.spec.parts.data import AugmentSpec
from tuner.train.text.augment import disturbed
from tuner.train.text.cursor import Batch, Epochs, Tokens

PAD = -1
"""What stands after a text that is shorter than the context."""

Labels = NDArray[np.int64]
"""As labels.py writes them: (texts + 1, 1 + labels)."""


class Documents:
    """Training texts, each once an epoch, in an order that (seed, epoch) decides: batches of shape (size, context +
    labels), the first ``context`` tokens of a text, ``PAD`` after them, and last its class by each label.

    Raises:
        ValueError: there is no text.
    """

    def __init__(self, tokens: Tokens, labels: Labels, context: int, seed: int) -> None:
        self._tokens, self._labels, self.context = tokens, labels, context
        self.count = len(labels) - 1
        if self.count < 1:
            raise ValueError("expected at least one text, got none")
        self._orders = Epochs(seed, lambda draw: draw.permutation(np.arange(self.count, dtype=np.uint32)))

    def batch(self, step: int, size: int) -> Batch:
        """Texts ``step * size`` to ``(step + 1) * size``."""
        epochs, places = np.divmod(step * size + np.arange(size), self.count)
        chosen = np.empty(size, np.int64)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            here = epochs == epoch
            chosen[here] = self._orders(epoch)[places[here]]
        return _read(self._tokens, self._labels, chosen, self.context)


class AugmentedDocuments:
    """The texts of a cursor, disturbed as ``spec`` has it (EDA, arXiv 1901.11196); what they are stays."""

    def __init__(self, documents: Documents, spec: AugmentSpec, seed: int) -> None:
        self._documents, self._spec, self._seed = documents, spec, seed

    def batch(self, step: int, size: int) -> Batch:
        context, rows = self._documents.context, self._documents.batch(step, size)
        inputs, nothing = rows[:, :context].copy(), np.zeros_like(rows[:, :context])
        inputs, _ = disturbed(inputs, nothing, inputs[inputs != PAD], self._spec, (self._seed, step), PAD)
        emptied = (inputs == PAD).all(1)
        inputs[emptied] = rows[emptied, :context]
        return np.concatenate([inputs, rows[:, context:]], axis=1)


def evaluation_documents(
    tokens: Tokens, labels: Labels, context: int, limit: int | None, size: int
) -> Iterator[tuple[Batch, NDArray[np.int64]]]:
    """Inputs (at most ``size``, tokens of the longest) and classes (at most ``size``,), with auxiliary ones (at most
    ``size``, labels), the same at every call: all texts, or evenly spaced ones, at least one, which have about
    ``limit`` tokens: the same ones whatever the context.
    """
    count = len(labels) - 1
    wanted = chosen_of(count, len(tokens), limit)
    chosen = np.arange(wanted) * count // max(wanted, 1)
    for first in range(0, wanted, size):
        rows = _read(tokens, labels, chosen[first : first + size], context)
        longest = max(1, int((rows[:, :context] != PAD).sum(1).max()))
        yield rows[:, :longest], rows[:, context] if labels.shape[1] == 2 else rows[:, context:]


def chosen_of(texts: int, tokens: int, limit: int | None) -> int:
    """How many of ``texts`` texts of ``tokens`` tokens have about ``limit`` of them; None: all."""
    return texts if limit is None else min(texts, max(1, limit * texts // max(1, tokens)))


def _read(tokens: Tokens, labels: Labels, chosen: NDArray[np.int64], context: int) -> Batch:
    rows = np.full((len(chosen), context + labels.shape[1] - 1), PAD, np.int64)
    rows[:, context:] = labels[chosen, 1:]
    for row, begin, end in zip(rows, labels[chosen, 0], labels[chosen + 1, 0], strict=True):
        text = tokens[begin : min(end, begin + context)]
        row[: len(text)] = text
    return rows
