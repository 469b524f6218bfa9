"""What a GPT of a given spec costs, by arithmetic alone: parameters, FLOPs, memory, steps.
No torch here: a plan must be printed before torch is loaded; a test holds these counts equal to the real model's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tuner.spec.budget import Budget, Unit
from tuner.spec.parts.model import ModelSpec
from tuner.spec.trial import TrialSpec

RUNTIME_BYTES = 350 * 10**6
"""Resident memory of a worker before its first tensor: Python, torch and Lightning (measured, CPU build)."""


def head_count(model: ModelSpec) -> int:
    """Attention heads: as given, or so many that a head is about 32 wide (64 from width 512 on) and even."""
    if model.heads != "auto":
        return model.heads
    target = model.width / (32 if model.width < 512 else 64)
    fitting = [h for h in range(1, model.width // 2 + 1) if model.width % h == 0 and (model.width // h) % 2 == 0]
    return min(fitting, key=lambda h: (abs(math.log(h / target)), h))


def hidden_width(model: ModelSpec) -> int:
    """Width of the feed-forward layer: 4 x width, or 8/3 x width for SwiGLU's three matrices (arXiv 2002.05202)."""
    if model.activation == "swiglu":
        return max(8, round(8 * model.width / 3 / 8) * 8)
    return 4 * model.width


@dataclass(frozen=True)
class Shape:
    """Counts of one model: all parameters, those in matrix products, FLOPs a token (forward and backward)."""

    parameters: int
    matmul_parameters: int
    flops_per_token: int
    heads: int


def shape(model: ModelSpec, vocab: int, context: int) -> Shape:
    """Count a model. FLOPs a token are ``6 N + 12 L H Q T`` (PaLM, arXiv 2204.02311, appendix B)."""
    w, hidden = model.width, hidden_width(model)
    mlp = (3 if model.activation == "swiglu" else 2) * w * hidden
    blocks = model.depth * (4 * w * w + mlp)
    head = vocab * w
    norms = (2 * model.depth + 1) * w
    embeddings = vocab * w + (context * w if model.positions == "learned" else 0)
    matmul = blocks + head
    return Shape(
        parameters=blocks + norms + embeddings + (head if model.head == "untied" else 0),
        matmul_parameters=matmul,
        flops_per_token=6 * matmul + 12 * model.depth * w * context,
        heads=head_count(model),
    )


def planned_steps(budget: Budget, tokens_per_step: int, flops_per_token: float) -> int | None:
    """Optimizer steps that spend a budget of tokens or FLOPs (the last step may pass it); None for seconds."""
    match budget.unit:
        case Unit.TOKENS:
            return max(1, math.ceil(budget.amount / tokens_per_step))
        case Unit.FLOPS:
            return max(1, math.ceil(budget.amount / (tokens_per_step * flops_per_token)))
        case Unit.SECONDS:
            return None


def memory_bytes(spec: TrialSpec, vocab: int) -> int:
    """A first estimate of a trial's peak memory: 16 bytes a parameter (fp32 weight, gradient, two moments),
    activations kept for the backward pass, and the logits three times (values, log-softmax, gradient).
    """
    counts = shape(spec.model, vocab, spec.data.context)
    tokens = spec.batch // spec.accumulate * spec.data.context
    width = 2 if spec.precision == "bf16" else 4
    per_token_layer = 9 * spec.model.width + 3 * hidden_width(spec.model)
    activations = tokens * spec.model.depth * per_token_layer * width
    return RUNTIME_BYTES + 16 * counts.parameters + activations + 3 * 4 * tokens * vocab
