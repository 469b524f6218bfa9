"""A model shared out among a trial's ranks by PyTorch's FSDP2: cut up, put together for a while, saved and restored.
Every function but ``cut_like`` is called by all ranks at the same place. Alone, and under DDP, a model is whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer


def share_out(model: nn.Module, blocks: nn.ModuleList, device: torch.device, size: int) -> None:
    """Leave each of ``size`` ranks its part of every parameter, on its device (arXiv 2304.11277). A block's are put
    together for as long as it computes, and so are the rest of the model's.
    """
    mesh = init_device_mesh(device.type, (size,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_shared(model: nn.Module) -> bool:
    return isinstance(model, FSDPModule)


def synchronise(model: nn.Module, now: bool) -> None:
    """Whether the next backward pass adds up the ranks' gradients: at a step's last micro-batch it does."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(now)


@contextmanager
def put_together(model: nn.Module) -> Iterator[None]:
    """Every rank has the whole model meanwhile, to read it, each as it likes; nobody trains it."""
    if not isinstance(model, FSDPModule):
        yield
        return
    parts = [part for part in model.modules() if isinstance(part, FSDPModule)]
    model.set_reshard_after_forward(False)
    for part in parts:
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
        model.set_reshard_after_forward(True)


def whole(value: Any) -> Any:
    """A state dict, or what is in one, with every shared tensor put together, on the CPU; the rest as it is."""
    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    if isinstance(value, Mapping):
        return {key: whole(one) for key, one in value.items()}
    return [whole(one) for one in value] if isinstance(value, list) else value


def cut_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a whole tensor where ``like`` is shared and of that shape; else the tensor itself."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    placed = tensor.to(device=like.device, dtype=like.dtype)
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)


def take_up(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Load an optimizer's ``whole`` state dict."""
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    state = {
        index: {
            name: cut_like(one, parameters[index]) if isinstance(one, Tensor) else one for name, one in kept.items()
        }
        for index, kept in saved["state"].items()
    }
    optimizer.load_state_dict({**saved, "state": state})
