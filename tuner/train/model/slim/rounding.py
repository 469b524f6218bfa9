"""Training that sees the weights as they will be rounded: each step reckons with rounded ones and moves the others,
so that small moves add up ("straight-through", arXiv 1308.3432; quantisation-aware training, arXiv 1712.05877).
It knows the model and how far the budget is; what is kept in the end is bits.py's business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tuner.spec.parts.model import CompressSpec
from tuner.train.model.gpt import GPT
from tuner.train.model.slim.bits import bits_of, rounded, scaled


class Rounding:
    """The matrices of a GPT as ``spec`` will have them in the end."""

    def __init__(self, gpt: GPT, spec: CompressSpec) -> None:
        self._begins = spec.round_from
        self._matrices = [
            (one, bits_of(name, one, spec.numbers)) for name, one in gpt.named_parameters() if one.ndim == 2
        ]

    @contextlib.contextmanager
    def seen(self, progress: float) -> Iterator[None]:
        """For the gradients of a step, ``progress`` (0 .. 1 of the budget) into the training; weights are as before
        when it is over.
        """
        if progress < self._begins:
            yield
            return
        kept = [one.detach().clone() for one, _ in self._matrices]
        for one, bits in self._matrices:
            one.data.copy_(scaled(*rounded(one.detach(), bits)))
        try:
            yield
        finally:
            for (one, _), value in zip(self._matrices, kept, strict=True):
                one.data.copy_(value)
