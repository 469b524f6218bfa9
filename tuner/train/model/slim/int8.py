"""A GPT in use that computes in whole numbers of 8 bits, on a CPU: its matrices, and what they are multiplied with,
which is rounded as it comes ("dynamic"). Nothing is trained so, and files know nothing of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tuner.train.model.gpt import GPT, Block
from tuner.train.model.slim.bits import rounded

_LARGEST = 127


class Int8Matrix(nn.Module):
    """(.., columns) -> (.., rows): times a ``matrix`` (rows, columns) of 8 bits with a scale for each row. Each token
    has a scale of its own too, so that no answer depends on what is read beside it, or after it.
    """

    def __init__(self, matrix: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        numbers, scales = rounded(matrix.detach().float().cpu(), 8)
        exact = multiplies_exactly() and matrix.shape[1] > 1  # of one column torch 2.13 makes garbage
        self._numbers = numbers if exact else numbers.float()
        self._scales, self._bias = scales.T, None if bias is None else bias.detach().float().cpu()

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1]).float()
        steps = torch.linalg.vector_norm(flat, torch.inf, dim=1, keepdim=True).clamp_(min=1e-30).div_(_LARGEST)
        whole = (flat / steps).round_()
        if self._numbers.dtype == torch.int8:
            product = torch._int_mm(whole.to(torch.int8), self._numbers.T).mul(steps).mul_(self._scales)
        else:
            product = F.linear(whole, self._numbers).mul_(steps).mul_(self._scales)
        if self._bias is not None:
            product += self._bias
        return product.view(*x.shape[:-1], -1)


def compute_in_int8(gpt: GPT) -> Callable[[], None]:
    """Have a GPT compute so, and on the CPU; embeddings stay as they are. What is given back undoes it."""
    device, replaced = gpt.tokens.weight.device, list[tuple[nn.Module, str, object]]()
    gpt.cpu()

    def put(owner: nn.Module, name: str, part: nn.Module | None) -> None:
        replaced.append((owner, name, getattr(owner, name)))
        setattr(owner, name, part)

    for block in cast(list[Block], list(gpt.blocks)):
        attention = block.attention
        put(attention, "together", _matrix(attention.query, attention.key, attention.value))
        for name in ("query", "key", "value"):
            put(attention, name, None)
        put(attention, "out", _matrix(attention.out))
        put(block.mlp, "up", _matrix(block.mlp.up))
        put(block.mlp, "out", _matrix(block.mlp.out))
    put(gpt, "head", Int8Matrix(gpt.tokens.weight) if gpt.head is None else _matrix(gpt.head))

    def undo() -> None:
        for owner, name, part in replaced:
            setattr(owner, name, part)
        gpt.to(device)

    return undo


def _matrix(*parts: nn.Linear) -> Int8Matrix:
    biases = [one.bias for one in parts if one.bias is not None]
    return Int8Matrix(torch.cat(tuple(one.weight for one in parts)), torch.cat(tuple(biases)) if biases else None)


@functools.cache
def multiplies_exactly() -> bool:
    """Does this CPU multiply whole numbers of 8 bits without error? Those without VNNI add pairs of products in 16
    bits, which the largest overflow: there the same numbers are multiplied in fp32, no faster and with the same result.
    """
    largest = torch.full((4, 128), _LARGEST, dtype=torch.int8)
    right = 128 * _LARGEST**2
    return all(bool((torch._int_mm(largest[:rows], largest.T) == right).all()) for rows in (1, 4))
