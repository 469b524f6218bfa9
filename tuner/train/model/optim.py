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
from tuner.train.model.adapt import is_adapter


def _falling(optim: OptimSpec, progress: float) -> float:
    """1 at the end of the warmup, 0 at the end of the budget."""
    return 1 - (progress - optim.warmup) / max(1 - optim.warmup, 1e-12)


def _cosine(optim: OptimSpec, progress: float) -> float:
    return 0.5 * (1 - math.cos(math.pi * _falling(optim, progress)))


def _wsd(optim: OptimSpec, progress: float) -> float:
    """Warmup, a stable plateau, then 1 - sqrt over the last ``decay`` of the budget (arXiv 2405.18392), or over what
    the warmup leaves of it.
    """
    share = min(optim.decay, 1 - optim.warmup)
    into_decay = (progress - (1 - share)) / share
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


Named = Sequence[tuple[str, nn.Parameter]]


def beta2(optim: OptimSpec, tokens_per_step: int) -> float:
    """AdamW's second decay for a batch: ``beta2 ** (B' / B)`` keeps its half-life in tokens (arXiv 2507.07101)."""
    return optim.beta2 if optim.beta2_tokens is None else optim.beta2 ** (tokens_per_step / optim.beta2_tokens)


def multiplier(name: str, parameter: nn.Parameter, optim: OptimSpec, depth: int) -> float:
    """What the rate of a parameter is multiplied by: its role's multiplier, and the decay of its layer."""
    rates = optim.multipliers
    if parameter.ndim < 2:
        role = rates.vectors
    elif name.startswith("head."):
        role = rates.head
    else:
        role = 1.0 if name.startswith("blocks.") else rates.embedding
    if name.startswith("blocks."):
        return role * rates.layer_decay ** (depth - 1 - int(name.split(".")[1]))
    below = name.startswith(("tokens.", "positions.", "smear."))  # under the first layer
    return role * rates.layer_decay**depth if below else role


def _groups(named: Named, optim: OptimSpec, lr: float, depth: int) -> list[dict[str, Any]]:
    """One group for each rate and decay. Matrices are decayed, vectors (norm gains and the like) are not."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        decay = optim.weight_decay if parameter.ndim >= 2 else 0.0
        groups.setdefault((lr * multiplier(name, parameter, optim, depth), decay), []).append(parameter)
    return [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()]


def _adamw(named: Named, optim: OptimSpec, depth: int, tokens_per_step: int) -> list[Optimizer]:
    betas = (optim.beta1, beta2(optim, tokens_per_step))
    return [torch.optim.AdamW(_groups(named, optim, optim.lr, depth), betas=betas, fused=True)]


def _adafactor(named: Named, optim: OptimSpec, depth: int, tokens_per_step: int) -> list[Optimizer]:
    """Second moments by row and column (arXiv 1804.04235): the least memory; its rate is relative to the weights."""
    return [torch.optim.Adafactor(_groups(named, optim, optim.lr, depth))]


def _muon(named: Named, optim: OptimSpec, depth: int, tokens_per_step: int) -> list[Optimizer]:
    """Muon on the blocks' matrices, AdamW on embeddings, head and vectors (kellerjordan.github.io/posts/muon), and on
    adapters, whose two parts are no matrices that anything passes through alone.
    """
    hidden = [(name, p) for name, p in named if p.ndim == 2 and name.startswith("blocks.") and not is_adapter(name)]
    chosen = {name for name, _ in hidden}
    rest = [(name, p) for name, p in named if name not in chosen]
    others = _adamw(rest, optim, depth, tokens_per_step) if rest else []
    if not hidden:
        return others
    muon = torch.optim.Muon(
        _groups(hidden, optim, optim.muon.lr, depth),
        momentum=optim.muon.momentum,
        adjust_lr_fn="original",
    )
    return [muon, *others]


OPTIMIZERS: dict[str, Callable[[Named, OptimSpec, int, int], list[Optimizer]]] = {
    "muon": _muon,
    "adamw": _adamw,
    "adafactor": _adafactor,
}


def build_optimizers(model: nn.Module, optim: OptimSpec, depth: int, tokens_per_step: int) -> list[Optimizer]:
    """The optimizers that step together, of what is not frozen; each group remembers its own full rate as
    ``initial_lr``.
    """
    named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    optimizers = OPTIMIZERS[optim.kind](named, optim, depth, tokens_per_step)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def set_rates(optimizers: Sequence[Optimizer], factor: float) -> None:
    """Multiply each group's own full rate: a group's ratio to the others is kept."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
