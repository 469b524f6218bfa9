"""What a trial's peak memory will be, by arithmetic alone, and how much text is evaluated at once because of it.
No torch here: a plan must be printed before torch is loaded; `tests/train/test_memory.py` holds it to real workers.
"""

from __future__ import annotations

from tuner.spec.parts.model import ModelSpec
from tuner.spec.trial import TrialSpec
from tuner.train.model.shape import Shape, padded, shape

RUNTIME_BYTES = 364 * 10**6
"""Resident memory of a worker with a model of no size: Python, torch, Lightning, a checkpoint (measured, CPU build)."""

ALLOCATOR = 1.25
"""Resident bytes for each byte of saved activations: gradients in passing, and what the allocator cannot reuse."""

NAMES_BYTES = 32 * 10**3
"""What a block's tensors take in a checkpoint beside their values: names, headers, alignment (see the tests)."""

EVALUATION = 37
"""Values a token and channel that a forward pass without gradients holds at its fullest (measured)."""


def memory_bytes(spec: TrialSpec, vocab: int) -> int:
    """Peak resident bytes of a worker on the CPU, within 15 % where it was measured (one trial of 2 cores' size).

    The process itself; weights, gradients and the optimizer's state; what a micro-batch keeps for its backward pass
    and one more layer's worth in passing, or what an evaluation holds, whichever is more; the logits.
    Where ``accumulate`` or ``precision`` is auto, it is what one micro-batch in fp32 takes.
    """
    parts = 1 if spec.accumulate == "auto" else spec.accumulate
    tokens = spec.batch // parts * spec.data.context
    model, context = spec.model, spec.data.context
    kept = 4 * ALLOCATOR * saved(model, context) * (0.8 if spec.precision == "bf16" else 1.0)  # casts are kept as well
    logits = padded(vocab, model) if spec.task == "generate" else 0  # a classifier's are a few a text
    training = tokens * (kept * (model.depth + 1) + 12 * logits)
    evaluated = evaluation_tokens(spec, parts, vocab)
    evaluation = evaluated * 4 * (EVALUATION * model.width + 2 * logits)
    exact = 4 * counted(spec, vocab).parameters if spec.compress.round_from < 1 else 0  # while a step sees rounded ones
    return RUNTIME_BYTES + weight_bytes(spec, vocab) + exact + int(max(training, evaluation))


def counted(spec: TrialSpec, vocab: int) -> Shape:
    """Its shape before its text is read: a classifier's head is taken to be of two classes."""
    return shape(spec.model, vocab, spec.data.context, classes=2 if spec.task == "classify" else 0)


def weight_bytes(spec: TrialSpec, vocab: int) -> int:
    """Weights, gradients and the optimizer's state in fp32: AdamW keeps two moments, Muon one, Adafactor none; and
    which weights are to stay zero.
    """
    counts = counted(spec, vocab)
    hidden = counts.matmul_parameters - (padded(vocab, spec.model) * spec.model.width if spec.task == "generate" else 0)
    masks = 4 * hidden if spec.compress.sparsity else 0
    match spec.optim.kind:
        case "adamw":
            return masks + 16 * counts.parameters
        case "muon":
            return masks + 12 * hidden + 16 * (counts.parameters - hidden)
        case "adafactor":
            return masks + 8 * counts.parameters


def checkpoint_bytes(spec: TrialSpec, vocab: int) -> int:
    """At most what a checkpoint takes on disk: weights and the optimizer's state in fp32, and what names them.

    Adafactor's factors are sums over rows and columns: below a hundredth of the weights from width 200 on.
    """
    parameters = counted(spec, vocab).parameters
    tensors = weight_bytes(spec, vocab) - 4 * parameters
    factors = parameters // 4 if spec.optim.kind == "adafactor" else 0
    return tensors + factors + NAMES_BYTES * (spec.model.depth + 4)


def saved(model: ModelSpec, context: int) -> float:
    """Values a token that one block saves for its backward pass (counted with torch's saved-tensor hooks)."""
    w, keys_and_values = model.width, 2 * model.head_size * model.kv_head_count
    values = 6.5 * w + keys_and_values + w  # inputs, norms, heads and the result of attention
    values += (4 if model.activation == "swiglu" else 2) * model.hidden_size
    values += 2 * w if model.norm == "rms" else 0
    values += 3 * w if model.qk_norm or model.positions == "rotary" else 0
    values += 2 * w if model.conv else 0
    if model.dropout:  # its masks, and attention without the fused kernel
        values += 2 * w + 3 * model.head_count * context
    return values


def evaluation_tokens(spec: TrialSpec, accumulate: int, vocab: int) -> int:
    """So much text at once that an evaluation needs about what a training step does, within 2,048 to 8,192 tokens.

    Less where the vocabulary is so large that the logits would take more than 128 MiB.
    """
    step = spec.batch // accumulate * spec.data.context
    return min(max(2048, step * spec.model.depth), 8192, 2**25 // vocab)
