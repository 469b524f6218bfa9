"""Weights in fewer bytes: whole numbers of 8 or 4 bits with a scale for each row, or each part of a row, beside them;
and where many are zero, only the others with a bit each that says where they stand.
State dicts in, state dicts out; a packed one is what a file of weights holds, an unpacked one what a model loads.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

SCALE, MASK, COLUMNS = ".scale", ".mask", ".columns"
"""Stand behind the name of a packed matrix: its scales (rows, parts of a row), fp32; which entries are not zero (rows,
columns / 8), uint8, and how many columns there are.
"""

GROUP = 32
"""Columns that share a scale in 4 bits; in 8 a whole row does."""

_LARGEST = {8: 127, 4: 7}


def pack(weights: Mapping[str, Tensor], bits: int) -> dict[str, Tensor]:
    """Every matrix (rows, columns) as int8 (rows, columns), or in 4 bits as uint8, two numbers in each; vectors as they
    are. A number is the nearest whole number of scales. Embedding and head, on which all depends, keep 8 bits, and so
    does a matrix of an odd number of columns. With 32 bits, numbers are as they are. Zeros are left out where that
    makes a matrix smaller.
    """
    packed = {}
    for name, one in weights.items():
        if one.ndim != 2:
            packed[name] = one
            continue
        numbers, few = one.detach(), bits_of(name, one, bits)
        if few < 32:
            numbers, packed[name + SCALE] = rounded(numbers.float(), few)
        mask = numbers != 0
        if few * int(mask.sum()) + 8 * len(one) * -(-one.shape[1] // 8) < 0.95 * few * one.numel():
            packed[name + MASK], packed[name + COLUMNS] = _bits(mask), torch.tensor([one.shape[1]])
            numbers = numbers[mask]
        packed[name] = _halved(numbers.flatten()).view(*one.shape[: numbers.ndim - 1], -1) if few == 4 else numbers
    return packed


def bits_of(name: str, matrix: Tensor, bits: int) -> int:
    """How many a matrix has where the model is to have ``bits``."""
    if bits != 4:
        return bits
    return 4 if name.startswith("blocks.") and matrix.shape[1] % 2 == 0 else 8


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that a packed state dict stands for, in fp32; one that is not packed as it is."""
    weights = {}
    for name, one in packed.items():
        whole, dot, _ = name.rpartition(".")
        if dot and name.endswith((SCALE, MASK, COLUMNS)) and whole in packed:
            continue
        scale, mask = packed.get(name + SCALE), packed.get(name + MASK)
        numbers = one
        if one.dtype == torch.uint8:
            numbers = _doubled(one.flatten()).view(*one.shape[:-1], -1)
        if mask is not None:
            places = _places(mask, int(packed[name + COLUMNS]))
            full = torch.zeros(places.shape, dtype=numbers.dtype)
            full[places] = numbers[: int(places.sum())]
            numbers = full
        weights[name] = numbers if scale is None else scaled(numbers, scale)
    return weights


def rounded(matrix: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """A matrix (rows, columns) as whole numbers, int8 of its shape, and their scales (rows, parts of a row)."""
    rows, columns = matrix.shape
    size = GROUP if bits == 4 else columns
    parts = torch.nn.functional.pad(matrix, (0, -columns % size)).view(rows, -1, size)
    scale = parts.abs().amax(-1) / _LARGEST[bits]
    steps = _spread(torch.where(scale == 0, 1.0, scale), columns)
    return (matrix / steps).round().to(torch.int8), scale


def scaled(numbers: Tensor, scale: Tensor) -> Tensor:
    """What ``rounded`` has made of a matrix, in fp32."""
    return numbers.float() * _spread(scale, numbers.shape[1])


def _spread(scale: Tensor, columns: int) -> Tensor:
    """(rows, parts) -> (rows, columns)."""
    return scale.repeat_interleave(columns if scale.shape[1] == 1 else GROUP, 1)[:, :columns]


def _halved(numbers: Tensor) -> Tensor:
    """int8 of -7 .. 7, (n,) -> uint8 (n / 2, one more where it is odd), two in each."""
    lifted = torch.nn.functional.pad((numbers + 8).to(torch.uint8), (0, len(numbers) % 2))
    return lifted[::2] | (lifted[1::2] << 4)


def _doubled(pairs: Tensor) -> Tensor:
    low, high = (pairs & 15).to(torch.int8) - 8, (pairs >> 4).to(torch.int8) - 8
    return torch.stack((low, high), -1).flatten()


def _bits(mask: Tensor) -> Tensor:
    """bool (rows, columns) -> uint8 (rows, columns / 8), the first column the lowest bit."""
    return torch.from_numpy(np.packbits(mask.numpy(), axis=1, bitorder="little"))


def _places(bits: Tensor, columns: int) -> Tensor:
    return torch.from_numpy(np.unpackbits(bits.numpy(), axis=1, count=columns, bitorder="little")).bool()
