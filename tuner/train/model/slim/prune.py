"""Magnitude pruning while a model trains: the smallest weights become zero, a few more at a time, and stay zero.
It knows the model and how far the budget is; optimizers and files are others' business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tuner.spec.parts.model import CompressSpec
from tuner.train.model.gpt import GPT

STAGES = 20
"""So often the zeros become more: between two times the others make up for them."""


def share(spec: CompressSpec, stage: int) -> float:
    """Of the weights that are zero from a stage on: ``sparsity (1 - (1 - stage / STAGES)^3)`` (arXiv 1710.01878)."""
    return spec.sparsity * (1 - (1 - stage / STAGES) ** 3)


class Pruning:
    """The zeros of a GPT: of all matrices of its layers together the entries of least magnitude (global L1)."""

    def __init__(self, gpt: GPT, spec: CompressSpec) -> None:
        self._spec = spec
        self._matrices = {
            name: one for name, one in gpt.named_parameters() if one.ndim == 2 and name.startswith("blocks.")
        }
        self._masks: dict[str, Tensor] = {}
        self._stage = 0

    @torch.no_grad()
    def step(self, progress: float) -> None:
        """After an optimizer's step, ``progress`` (0 .. 1 of the budget) into the training."""
        begins = self._spec.prune_from
        due = min(STAGES, math.ceil(STAGES * (progress - begins) / (1 - begins) / self._spec.ramp))
        if due > self._stage:
            self._stage = due
            self._choose(share(self._spec, due))
        if self._masks:
            torch._foreach_mul_(list(self._matrices.values()), list(self._masks.values()))

    def _choose(self, zeros: float) -> None:
        sizes = torch.cat([one.abs().flatten() for one in self._matrices.values()])
        count = min(max(round(zeros * len(sizes)), 1), len(sizes))
        least = sizes.kthvalue(count).values
        self._masks = {name: (one.abs() > least).to(one.dtype) for name, one in self._matrices.items()}

    def state(self) -> dict[str, Any]:
        """All that ``restore`` needs."""
        return {"stage": self._stage, "masks": {name: mask.bool().cpu() for name, mask in self._masks.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._stage = int(state["stage"])
        self._masks = {name: mask.to(self._matrices[name]) for name, mask in state["masks"].items()}


def sparsity(weights: Mapping[str, Tensor]) -> float:
    """The share of zeros in the matrices of the layers, of a state dict."""
    matrices = [one for name, one in weights.items() if one.ndim == 2 and name.startswith("blocks.")]
    return sum(int((one == 0).sum()) for one in matrices) / max(1, sum(one.numel() for one in matrices))
