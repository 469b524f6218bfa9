"""A part of a trained model as a smaller one's beginning: some of its layers, and of each the heads and the neurons
that weigh most, so that what is left is really less to compute.
State dicts and shapes only; where they come from is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tuner.spec.errors import DataError
from tuner.spec.parts.model import ModelSpec


def part_of(weights: Mapping[str, Tensor], whole: ModelSpec, part: ModelSpec, name: str) -> dict[str, Tensor]:
    """The weights of a ``part`` of the model ``whole``, ``name`` in errors, by its depth, heads and neurons.

    Layers are evenly spaced, the lowest and the highest among them. A head weighs the norm of its values' matrix times
    that of what it writes with; a neuron, that of what it reads with (and its gate) times what it writes with.

    Raises:
        DataError: the whole has less than that.
    """
    wanted = {"depth": (whole.depth, part.depth, "layers"), "heads": (whole.head_count, part.head_count, "heads")}
    wanted["hidden"] = (whole.hidden_size, part.hidden_size, "neurons")
    for field, (has, asked, what) in wanted.items():
        if asked > has:
            raise DataError(f"model.{field} is {asked}, and {name} has {has} {what} to take")
    fewer = part.head_count < whole.head_count
    if fewer and (whole.kv_head_count < whole.head_count or part.kv_head_count < part.head_count):
        raise DataError(f"model.heads is {part.head_count} of {name}'s {whole.head_count}, which share keys; take all")
    found = _shallower(weights, whole.depth, part.depth)
    for layer in range(part.depth):
        if fewer:
            _keep_heads(found, f"blocks.{layer}.attention.", whole.head_size, part.head_count)
        if part.hidden_size < whole.hidden_size:
            _keep_neurons(found, f"blocks.{layer}.mlp.", part.hidden_size, gated=whole.activation == "swiglu")
    return found


def _shallower(weights: Mapping[str, Tensor], depth: int, kept: int) -> dict[str, Tensor]:
    places = {round(layer * (depth - 1) / max(kept - 1, 1)): layer for layer in range(kept)}
    found = {}
    for name, one in weights.items():
        if not name.startswith("blocks."):
            found[name] = one
            continue
        _, layer, rest = name.split(".", 2)
        if int(layer) in places:
            found[f"blocks.{places[int(layer)]}.{rest}"] = one
    return found


def _keep_heads(weights: dict[str, Tensor], where: str, width: int, count: int) -> None:
    """``width`` is that of a head; queries, keys and values have its rows, the output its columns."""
    values, out = weights[f"{where}value.weight"], weights[f"{where}out.weight"]
    read = values.view(-1, width * values.shape[1]).norm(dim=1)
    written = out.T.reshape(-1, width * out.shape[0]).norm(dim=1)
    rows = (_heaviest(read * written, count)[:, None] * width + torch.arange(width)).flatten()
    for name in ("query", "key", "value"):
        _cut(weights, f"{where}{name}", rows)
    weights[f"{where}out.weight"] = out[:, rows]


def _keep_neurons(weights: dict[str, Tensor], where: str, count: int, gated: bool) -> None:
    up, out = weights[f"{where}up.weight"], weights[f"{where}out.weight"]
    neurons = out.shape[1]
    read = up.view(-1, neurons, up.shape[1]).norm(dim=2).prod(0)
    kept = _heaviest(read * out.norm(dim=0), count)
    _cut(weights, f"{where}up", torch.cat((kept, kept + neurons)) if gated else kept)
    weights[f"{where}out.weight"] = out[:, kept]


def _heaviest(sizes: Tensor, count: int) -> Tensor:
    """Which ``count`` of them, in order."""
    return sizes.topk(count).indices.sort().values


def _cut(weights: dict[str, Tensor], name: str, rows: Tensor) -> None:
    for kind in ("weight", "bias"):
        if (one := weights.get(f"{name}.{kind}")) is not None:
            weights[f"{name}.{kind}"] = one[rows]
