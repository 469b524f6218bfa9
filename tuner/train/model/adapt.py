"""What of a trained model goes on learning: layers that are frozen, and low-rank adapters beside its matrices.
To all others its weights are a plain GPT's: adapters are added to the matrices they belong to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tuner.spec.parts.model import InitSpec
from tuner.train.machine import shards
from tuner.train.model.gpt import GPT, Block

_ORIGINAL, _ADAPTER = "parametrizations.weight.original", "parametrizations.weight.0."


class Adapter(nn.Module):
    """A matrix (out, in) plus ``scale`` times the product of ``up`` (out, rank) and ``down`` (rank, in): LoRA, arXiv
    2106.09685. ``up`` begins at zero, so the model begins as it was.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):  # the very sum that a checkpoint has
            return torch.addmm(weight, self.up, self.down, alpha=self.scale)


def adapt(gpt: GPT, init: InitSpec) -> None:
    """Freeze and adapt as ``init`` says. The embedding, and with it a tied head, lies below the lowest layer. What no
    text model has is learned whole.
    """
    if init.freeze:
        below = [gpt.tokens, gpt.positions, gpt.smear, *gpt.blocks[: init.freeze]]
        for part in below:
            if part is not None:
                part.requires_grad_(False)
    if (rank := init.lora.rank) is None:
        return
    gpt.requires_grad_(False)
    for block in gpt.blocks[init.freeze :]:
        chosen = block if init.lora.on == "all" else cast(Block, block).attention
        for matrix in [part for part in chosen.modules() if isinstance(part, nn.Linear)]:
            adapter = Adapter(matrix.weight, rank, init.lora.alpha / rank)
            parametrize.register_parametrization(matrix, "weight", adapter)
    for name, one in gpt.named_parameters():
        one.requires_grad_(one.requires_grad or name.startswith(gpt.own))


def plain(gpt: GPT) -> dict[str, Tensor]:
    """The weights of the GPT that this one is, as its state dict without adapters would have them."""
    state = {name: one for name, one in gpt.state_dict().items() if ".parametrizations." not in name}
    return state | {f"{name}.weight": matrix.weight.detach() for name, matrix in _adapted(gpt)}


def is_adapter(name: str) -> bool:
    """Is the parameter of that name an adapter's?"""
    return _ADAPTER in name


def adapters(gpt: GPT) -> dict[str, Tensor]:
    """The adapters by name, and beside them what is learned whole; empty where there are none."""
    state = gpt.state_dict()
    if not any(map(is_adapter, state)):
        return {}
    return {name: one for name, one in state.items() if is_adapter(name) or name.startswith(gpt.own)}


def begin_with(gpt: GPT, weights: Mapping[str, Tensor]) -> None:
    """Take up the weights of a plain GPT, which may have more positions; adapters stay as they are."""
    own = gpt.state_dict()
    renamed = {f"{name}.weight": f"{name}.{_ORIGINAL}" for name, _ in _adapted(gpt)}
    taken = {renamed.get(name, name): one for name, one in weights.items()}
    if (positions := taken.get("positions.weight")) is not None:
        taken["positions.weight"] = positions[: gpt.context]
    cut = {name: shards.cut_like(one, own.get(name, one)) for name, one in taken.items()}
    gpt.load_state_dict(adapters(gpt) | cut)


def _adapted(gpt: GPT) -> Iterator[tuple[str, nn.Linear]]:
    for name, part in gpt.named_modules():
        if isinstance(part, nn.Linear) and parametrize.is_parametrized(part):
            yield name, part
