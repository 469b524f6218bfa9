"""What a GPT of a given spec costs, by arithmetic alone: parameters, FLOPs, steps.
No torch here: a plan must be printed before torch is loaded; a test holds these counts equal to the real model's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tuner.spec.budget import Budget, Unit
from tuner.spec.parts.model import ModelSpec


def padded(vocab: int, model: ModelSpec) -> int:
    """Rows of the embedding and the head: the vocabulary up to the next whole multiple."""
    return -(-vocab // model.vocab_multiple) * model.vocab_multiple


@dataclass(frozen=True)
class Shape:
    """Counts of one model: all parameters, those in matrix products, FLOPs a token (forward and backward)."""

    parameters: int
    matmul_parameters: int
    flops_per_token: int
    heads: int


def shape(model: ModelSpec, vocab: int, context: int, classes: int = 0) -> Shape:
    """Count a model. FLOPs a token are ``6 N + 12 L H Q T`` (PaLM, arXiv 2204.02311, appendix B). A classifier's head,
    over ``classes``, answers once for each text and is left out of them.
    """
    w, hidden, rows = model.width, model.hidden_size, padded(vocab, model)
    mlp = (3 if model.activation == "swiglu" else 2) * w * hidden
    heads, groups = model.head_count * model.head_size, model.kv_head_count * model.head_size
    blocks = model.depth * (2 * w * heads + 2 * w * groups + mlp)
    head = rows * w
    vectors = (2 * model.depth * (1 + model.conv) + 1) * w + (w if model.smear else 0)
    if model.bias:  # of four products in a block, and of its norms
        inner = (2 if model.activation == "swiglu" else 1) * hidden
        vectors += model.depth * (2 * w + heads + 2 * groups + inner)
        vectors += (2 * model.depth + 1) * w if model.norm == "layer" else 0
    embeddings = rows * w + (context * w if model.positions == "learned" else 0)
    matmul = blocks if classes else blocks + head
    top = classes * (w + 1) if classes else head if model.head == "untied" else 0
    return Shape(
        parameters=blocks + vectors + embeddings + top,
        matmul_parameters=matmul,
        flops_per_token=6 * matmul + 12 * model.depth * heads * context,
        heads=model.head_count,
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
