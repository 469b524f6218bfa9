"""Augmentation: what a model reads while it is trained is disturbed, what it is to say next is not.
A pure function of seed and step, as the cursor is: a resumed trial sees what it would have seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.spec.parts.data import AugmentSpec
from tuner.train.text.cursor import Batch, Windowed

IGNORED = -100
"""The target of a place that asks nothing, as PyTorch's cross entropy has it."""

SPAN = 4
"""Tokens that are shuffled among themselves."""

_DRAW = 0x617567  # so that the disturbance and the choice of windows are independent


class Augmented:
    """The windows of a cursor, disturbed: batches of shape (size, 2, context), inputs and targets.

    ``mask`` puts a random token of the batch in a token's place (data noising, arXiv 1703.02573), ``swap`` exchanges
    two neighbours and ``shuffle`` mixes four (as EDA does with words, arXiv 1901.11196), ``delete`` leaves tokens out
    of what is read; each with its rate of tokens. A place that would read its own target is not asked.
    """

    def __init__(self, windows: Windowed, spec: AugmentSpec, seed: int) -> None:
        self._windows, self._spec, self._seed = windows, spec, seed

    def batch(self, step: int, size: int) -> Batch:
        ids = self._windows.batch(step, size)
        inputs, targets = ids[:, :-1].copy(), ids[:, 1:].copy()
        inputs, targets = disturbed(inputs, targets, ids.reshape(-1), self._spec, (self._seed, step))
        silent = (targets == IGNORED).all(1)  # a mean over nothing would be no number
        inputs[silent], targets[silent] = ids[silent, :-1], ids[silent, 1:]
        return np.stack([inputs, targets], axis=1)


def disturbed(
    inputs: Batch,
    targets: Batch,
    words: NDArray[np.int64],
    spec: AugmentSpec,
    key: tuple[int, int],
    pad: int | None = None,
) -> tuple[Batch, Batch]:
    """Inputs and targets (rows, context), changed in place where they can be, as ``spec`` has it and ``key``, seed and
    step, decides; ``words`` are the tokens that masks are drawn from. Inputs below 0 stand for nothing, and ``pad``,
    where there is one, for what was deleted.
    """
    seed, step = key
    rng = np.random.default_rng((seed, _DRAW, step))
    if spec.mask:
        masked = (rng.random(inputs.shape) < spec.mask) & (inputs >= 0)
        inputs[masked] = rng.choice(words, size=int(masked.sum()))
    for rate, span in ((spec.swap, 2), (spec.shuffle, SPAN)):
        if rate and inputs.shape[1] >= span:
            _mix(inputs, targets, rate, span, rng)
    if spec.delete:
        gone = rng.random(inputs.shape) < spec.delete
        left = ((inputs >= 0) & ~gone).sum(1, keepdims=True)
        inputs, targets = _without(inputs, targets, gone)
        if pad is not None:
            inputs[np.arange(inputs.shape[1]) >= left] = pad
    return inputs, targets


def _mix(inputs: Batch, targets: Batch, rate: float, span: int, rng: np.random.Generator) -> None:
    """Reorder runs of ``span`` inputs; where its own target may have come before a place, that is not asked."""
    rows, context = inputs.shape
    first = int(rng.integers(context % span + 1))
    runs = inputs[:, first : first + context // span * span].reshape(rows, -1, span)
    chosen = (rng.random(runs.shape[:2]) < rate) & (runs >= 0).all(2)
    order = rng.random(runs.shape).argsort(2) if span > 2 else np.broadcast_to([1, 0], runs.shape)
    mixed = np.where(chosen[..., None], np.take_along_axis(runs, order, 2), runs)
    unasked = np.zeros(runs.shape, dtype=bool)
    unasked[..., :-1] = chosen[..., None]
    end = first + runs.shape[1] * span
    inputs[:, first:end] = mixed.reshape(rows, -1)
    targets[:, first:end][unasked.reshape(rows, -1)] = IGNORED


def _without(inputs: Batch, targets: Batch, gone: NDArray[np.bool_]) -> tuple[Batch, Batch]:
    """The places that are left moved together; those at the end, of which nothing is left, ask nothing."""
    order = gone.argsort(1, kind="stable")
    empty = np.arange(inputs.shape[1]) >= (~gone).sum(1, keepdims=True)
    return np.take_along_axis(inputs, order, 1), np.where(empty, IGNORED, np.take_along_axis(targets, order, 1))
