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
    """The matrices of a GPT as ``spec`` will have them in the end. Where the file keeps 32 bits and products alone are
    of 8, an embedding stays exact, also one that is the head too.
    """

    def __init__(self, gpt: GPT, spec: CompressSpec) -> None:
        self._begins = spec.round_from
        self._matrices = [
            (one, bits_of(name, one, spec.numbers), one.detach().clone())
            for name, one in gpt.named_parameters()
            if one.ndim == 2 and (spec.bits < 32 or name.startswith(("blocks.", "head.")))
        ]

    @contextlib.contextmanager
    def seen(self, progress: float) -> Iterator[None]:
        """For the gradients of a step, ``progress`` (0 .. 1 of the budget) into the training; weights are as before
        when it is over.
        """
        if progress < self._begins:
            yield
            return
        for one, bits, exact in self._matrices:
            exact.copy_(one.detach())
            one.data.copy_(scaled(*rounded(one.detach(), bits)))
        try:
            yield
        finally:
            for one, _, exact in self._matrices:
                one.data.copy_(exact)
