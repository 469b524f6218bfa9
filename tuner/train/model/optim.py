"""Optimizers by kind and schedules by name: which parameters get which rate, and how it moves with progress.
A schedule is a pure function of progress in [0, 1]; nothing here knows of steps, tokens or files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from tuner.spec.parts.optim import OptimSpec


def _falling(optim: OptimSpec, progress: float) -> float:
    """1 at the end of the warmup, 0 at the end of the budget."""
    return 1 - (progress - optim.warmup) / max(1 - optim.warmup, 1e-12)


def _cosine(optim: OptimSpec, progress: float) -> float:
    return 0.5 * (1 - math.cos(math.pi * _falling(optim, progress)))


def _wsd(optim: OptimSpec, progress: float) -> float:
    """Warmup, a stable plateau, then 1 - sqrt over the last ``decay`` of the budget (arXiv 2405.18392)."""
    into_decay = (progress - (1 - optim.decay)) / optim.decay
    return 1.0 if into_decay <= 0 else 1 - math.sqrt(min(into_decay, 1.0))


SCHEDULES: dict[str, Callable[[OptimSpec, float], float]] = {
    "cosine": _cosine,
    "linear": _falling,
    "constant": lambda optim, progress: 1.0,
    "wsd": _wsd,
}


def rate_factor(optim: OptimSpec, progress: float) -> float:
    """What every learning rate is multiplied by at ``progress`` (0 .. 1 of the budget); in (0, 1].

    Linear warmup over ``warmup``, then the schedule's shape between 1 and ``floor``.
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < optim.warmup:
        return progress / optim.warmup
    return optim.floor + (1 - optim.floor) * SCHEDULES[optim.schedule](optim, progress)


def _adamw(groups: list[dict[str, Any]], optim: OptimSpec) -> Optimizer:
    return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay, fused=True)


def _decay_groups(named: Sequence[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
    """Matrices are decayed, vectors (norm gains) are not."""
    matrices = [p for _, p in named if p.ndim >= 2]
    vectors = [p for _, p in named if p.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _build_adamw(model: nn.Module, optim: OptimSpec) -> list[Optimizer]:
    return [_adamw(_decay_groups(list(model.named_parameters())), optim)]


def _build_muon(model: nn.Module, optim: OptimSpec) -> list[Optimizer]:
    """Muon on the blocks' matrices, AdamW on embeddings, head and vectors (kellerjordan.github.io/posts/muon)."""
    named = list(model.named_parameters())
    hidden = [p for name, p in named if p.ndim == 2 and name.startswith("blocks.")]
    chosen = {id(p) for p in hidden}
    rest = [(name, p) for name, p in named if id(p) not in chosen]
    muon = torch.optim.Muon(
        hidden,
        lr=optim.muon.lr,
        momentum=optim.muon.momentum,
        weight_decay=optim.weight_decay,
        adjust_lr_fn="original",
    )
    return [muon, _adamw(_decay_groups(rest), optim)]


OPTIMIZERS: dict[str, Callable[[nn.Module, OptimSpec], list[Optimizer]]] = {
    "adamw": _build_adamw,
    "muon": _build_muon,
}


def build_optimizers(model: nn.Module, optim: OptimSpec) -> list[Optimizer]:
    """The optimizers that step together; each group remembers its own full rate as ``initial_lr``."""
    optimizers = OPTIMIZERS[optim.kind](model, optim)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def set_rates(optimizers: Sequence[Optimizer], factor: float) -> None:
    """Multiply each group's own full rate: a group's ratio to the others is kept."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
