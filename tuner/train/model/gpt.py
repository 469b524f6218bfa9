"""The GPT: pre-norm blocks, causal attention, in pure torch. Shapes are (batch B, tokens T, width W).
No Lightning, no optimizer, no file here: a model is a function of its spec, the vocabulary and the seed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tuner.spec.parts.model import ModelSpec
from tuner.train.model.cache import Attended, Cache, Layer, Product
from tuner.train.model.shape import padded

NORMS: dict[str, Callable[[int, bool], nn.Module]] = {
    "rms": lambda width, bias: nn.RMSNorm(width, eps=1e-6),
    "layer": lambda width, bias: nn.LayerNorm(width, bias=bias),
}

Right = TypeVar("Right", Tensor, NDArray[np.int64])
"""What is right, as torch or numpy has it."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu2": lambda x: F.relu(x).square(),  # Primer, arXiv 2109.08668
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "swiglu": lambda x: F.silu(x[..., : x.shape[-1] // 2]) * x[..., x.shape[-1] // 2 :],
}


class Rotary(nn.Module):
    """Rotary positions (arXiv 2104.09864): turns each half-pair of a head by its position."""

    def __init__(self, head_width: int, context: int) -> None:
        super().__init__()
        frequency = 10_000 ** (-torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)
        angle = torch.outer(torch.arange(context, dtype=torch.float32), frequency)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, T, Q) -> the same shape and type."""
        cos = cast(Tensor, self.cos)[: x.shape[2]].to(x.dtype)
        sin = cast(Tensor, self.sin)[: x.shape[2]].to(x.dtype)
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)

    def turns(self) -> tuple[Tensor, Tensor]:
        """Two tables (context, Q): a head at a position is turned by the sum of its product with the first one's row
        and the product of its halves, exchanged, with the second one's.
        """
        cos, sin = cast(Tensor, self.cos), cast(Tensor, self.sin)
        return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


class Attention(nn.Module):
    """Causal multi-head attention through torch's fused kernel; groups of heads may share keys and values.

    Queries, keys and values are matrices of their own, because Muon orthogonalises each by itself (stacked, they
    cost 0.014 nats at 4 x 128); they are multiplied in one product.
    """

    def __init__(self, spec: ModelSpec, context: int) -> None:
        super().__init__()
        self.heads, self.kv_heads = spec.head_count, spec.kv_head_count
        self.head_width = spec.head_size
        inner = self.heads * self.head_width
        self.context = context
        self.qk_norm, self.biased = spec.qk_norm, spec.bias
        self.dropout = spec.dropout
        self.query = nn.Linear(spec.width, inner, spec.bias)
        self.key = nn.Linear(spec.width, self.kv_heads * self.head_width, spec.bias)
        self.value = nn.Linear(spec.width, self.kv_heads * self.head_width, spec.bias)
        self.out = nn.Linear(inner, spec.width, spec.bias)
        self.rotary = Rotary(self.head_width, context) if spec.positions == "rotary" else None
        self.together: nn.Module | None = None  # what stands for the first three, where they are computed otherwise

    def forward(self, x: Tensor, layer: Layer | None = None) -> Tensor:
        """(B, T, W) -> (B, T, W); what later tokens need is left in ``layer``."""
        b, t, _ = x.shape
        stacked = self._stacked()
        heads = stacked(x).view(b, t, -1, self.head_width).transpose(1, 2)
        q, k, v = torch.split(heads, [self.heads, self.kv_heads, self.kv_heads], dim=1)
        if self.qk_norm:  # arXiv 2302.05442: keeps the logits of attention bounded at high rates
            q, k = F.rms_norm(q, (self.head_width,)), F.rms_norm(k, (self.head_width,))
        if self.rotary is not None:
            q, k = self.rotary(q), self.rotary(k)
        if layer is not None:
            layer.attended = Attended.of(stacked, k, v, self.context)
        dropout = self.dropout if self.training else 0.0
        grouped = self.kv_heads < self.heads
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, enable_gqa=grouped)
        return cast(Tensor, self.out(y.transpose(1, 2).reshape(b, t, -1)))

    def step(self, x: Tensor, past: Attended, turn: tuple[Tensor, Tensor] | None) -> Tensor:
        """The next token of each sequence, (B, W) -> (B, W); ``turn`` has the rows of Rotary.turns for its place."""
        b, groups, width = x.shape[0], self.kv_heads, self.head_width
        heads = past.stacked(x).view(b, -1, width)
        qk, v = torch.split(heads, [self.heads + groups, groups], dim=1)
        if self.qk_norm:
            qk = F.rms_norm(qk, (width,))
        if turn is not None:
            qk = torch.addcmul(qk * turn[0], qk.roll(width // 2, -1), turn[1])
        q, k = torch.split(qk, [self.heads, groups], dim=1)
        keys, values = past.add(k, v)
        # the queries that share a key are to it what a sequence of tokens is: nothing has to be repeated
        y = F.scaled_dot_product_attention(q.reshape(b, groups, -1, width), keys, values)
        return cast(Tensor, self.out(y.reshape(b, -1)))

    def _stacked(self) -> Product:
        """Queries, keys and values in one product, of (heads + 2 KV heads) x Q rows."""
        if self.together is not None:
            return self.together
        matrix = torch.cat((self.query.weight, self.key.weight, self.value.weight))
        biases = torch.cat((self.query.bias, self.key.bias, self.value.bias)) if self.biased else None
        return functools.partial(F.linear, weight=matrix, bias=biases)


class FeedForward(nn.Module):
    """Two matrices around an activation; SwiGLU's gate is the second half of the first matrix."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        hidden = spec.hidden_size
        self.up = nn.Linear(spec.width, (2 if spec.activation == "swiglu" else 1) * hidden, spec.bias)
        self.out = nn.Linear(hidden, spec.width, spec.bias)
        self.activation = ACTIVATIONS[spec.activation]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        return cast(Tensor, self.out(self.activation(self.up(x))))


class ShortConvolution(nn.Module):
    """Adds to each token a learned share, one a channel, of each of the ``reach`` tokens before it.

    A depthwise causal convolution as in Primer (arXiv 2109.08668), here on what attention and feed-forward read.
    The shares start at zero, and are vectors: not decayed, and no business of Muon's.
    """

    def __init__(self, width: int, reach: int) -> None:
        super().__init__()
        self.shares = nn.ParameterList(torch.zeros(width) for _ in range(reach))

    def forward(self, x: Tensor, reads: list[Tensor] | None = None) -> Tensor:
        """(B, T, W) -> (B, T, W); what later tokens need is left in ``reads``."""
        reach, tokens = len(self.shares), x.shape[1]
        if reads is not None:
            reads[:] = [x[:, -back] for back in range(1, min(reach, tokens) + 1)]
        past = F.pad(x, (0, 0, reach, 0))
        for back, share in enumerate(self.shares, start=1):
            x = torch.addcmul(x, past[:, reach - back : reach - back + tokens], share)
        return x

    def step(self, x: Tensor, reads: list[Tensor]) -> Tensor:
        """The next token of each sequence, (B, W) -> (B, W)."""
        y = x
        for before, share in zip(reads, self.shares, strict=False):
            y = torch.addcmul(y, before, share)
        reads.insert(0, x)
        del reads[len(self.shares) :]
        return y


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)), each behind its short convolution."""

    def __init__(self, spec: ModelSpec, context: int) -> None:
        super().__init__()
        self.norm_attention = NORMS[spec.norm](spec.width, spec.bias)
        self.conv_attention = ShortConvolution(spec.width, spec.conv)
        self.attention = Attention(spec, context)
        self.norm_mlp = NORMS[spec.norm](spec.width, spec.bias)
        self.conv_mlp = ShortConvolution(spec.width, spec.conv)
        self.mlp = FeedForward(spec)
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, x: Tensor, layer: Layer | None = None) -> Tensor:
        """(B, T, W) -> (B, T, W); what later tokens need is left in ``layer``."""
        first, second = (None, None) if layer is None else (layer.attention_reads, layer.mlp_reads)
        x = x + self.dropout(self.attention(self.conv_attention(self.norm_attention(x), first), layer))
        return cast(Tensor, x + self.dropout(self.mlp(self.conv_mlp(self.norm_mlp(x), second))))

    def step(self, x: Tensor, layer: Layer, turn: tuple[Tensor, Tensor] | None) -> Tensor:
        """The next token of each sequence, (B, W) -> (B, W), without dropout."""
        assert layer.attended is not None
        read = self.conv_attention.step(self.norm_attention(x), layer.attention_reads)
        x = x + self.attention.step(read, layer.attended, turn)
        return cast(Tensor, x + self.mlp(self.conv_mlp.step(self.norm_mlp(x), layer.mlp_reads)))


class Smear(nn.Module):
    """Adds to each embedding a learned share, one a channel, of the embedding before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        return x + self.share * F.pad(x[:, :-1], (0, 0, 1, 0))

    def step(self, x: Tensor, before: Tensor) -> Tensor:
        """The next token of each sequence, (B, W) -> (B, W), after the embedding ``before`` it."""
        return torch.addcmul(x, self.share, before)


class GPT(nn.Module):
    """Token ids in, logits or losses out; at most ``context`` tokens a sequence."""

    def __init__(self, spec: ModelSpec, vocab: int, context: int) -> None:
        super().__init__()
        self.spec, self.vocab, self.context = spec, vocab, context
        rows = padded(vocab, spec)
        self.tokens = nn.Embedding(rows, spec.width)
        self.positions = nn.Embedding(context, spec.width) if spec.positions == "learned" else None
        self.smear = Smear(spec.width) if spec.smear else None
        self.dropout = nn.Dropout(spec.dropout)
        self.blocks = nn.ModuleList(Block(spec, context) for _ in range(spec.depth))
        self.norm = NORMS[spec.norm](spec.width, spec.bias)
        # a tied head is the embedding itself: no second name in the state dict
        self.head = nn.Linear(spec.width, rows, bias=False) if spec.head == "untied" else None
        self._init_weights()

    def _init_weights(self) -> None:
        """GPT-2's 0.02; what writes into the residual stream starts at zero or is scaled down with depth."""
        for name, parameter in self.named_parameters():
            if name.endswith(".bias"):
                nn.init.zeros_(parameter)
            if parameter.ndim < 2:
                continue
            if not name.endswith(".out.weight"):
                nn.init.normal_(parameter, std=0.02)
            elif self.spec.zero_init:
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.spec.depth))

    def cache(self) -> Cache:
        """An empty memory for ``forward``."""
        rotary = cast(Block, self.blocks[0]).attention.rotary
        return Cache([Layer() for _ in self.blocks], turns=None if rotary is None else rotary.turns())

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """ids (B, T) -> logits (B, T, vocabulary); what pads the vocabulary is computed and left out.

        With a ``cache`` ids go on from what it remembers, and the logits are those after the last id alone,
        (B, 1, vocabulary): first the T ids of a beginning, then one id a call, in evaluation mode.

        Raises:
            ValueError: the cache is full, or is given several ids and remembers some already.
        """
        if cache is not None:
            return self._logits(self._read(ids, cache)[:, None])
        return self._logits(self._trunk(ids))

    def _trunk(self, ids: Tensor) -> Tensor:
        """ids (B, T) -> what the last block makes of each, (B, T, W)."""
        x = self.tokens(ids)
        if self.positions is not None:
            x = x + self.positions.weight[: ids.shape[1]]
        if self.smear is not None:
            x = self.smear(x)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, x)

    def _read(self, ids: Tensor, cache: Cache) -> Tensor:
        """ids (B, T) into the cache -> what the last block makes of the last of them, (B, W)."""
        start, end = cache.length, cache.length + ids.shape[1]
        if end > self.context or (start and end > start + 1):
            raise ValueError(f"a cache of {start} of {self.context} tokens takes no {ids.shape[1]} more; begin anew.")
        x = self.tokens(ids)
        if self.positions is not None:
            x = x + self.positions.weight[start:end]
        last = x[:, -1]
        if not start:
            if self.smear is not None:
                x = self.smear(x)
            for block, layer in zip(self.blocks, cache.layers, strict=True):
                x = block(x, layer)
            x = x[:, -1]
        else:
            x = last if self.smear is None else self.smear.step(last, cast(Tensor, cache.embedding))
            turn = None if cache.turns is None else (cache.turns[0][start], cache.turns[1][start])
            for block, layer in zip(self.blocks, cache.layers, strict=True):
                x = cast(Block, block).step(x, layer, turn)
        cache.length, cache.embedding = end, last
        return cast(Tensor, x)

    def _logits(self, x: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, vocabulary)."""
        x = self.norm(x)
        logits = (F.linear(x, self.tokens.weight) if self.head is None else self.head(x))[..., : self.vocab]
        if self.spec.softcap is not None:
            logits = self.spec.softcap * torch.tanh(logits / self.spec.softcap)
        return logits

    def asked(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """What is read in a training batch and what is right: of ids (B, T + 1) the targets are one place on; inputs
        and targets (B, 2, T) are told apart.
        """
        return (batch[:, 0], batch[:, 1]) if batch.ndim == 3 else (batch[:, :-1], batch[:, 1:])

    def judged(self, targets: Right) -> Right:
        """Of what is right, that by which the model is judged: here all of it."""
        return targets

    @property
    def own(self) -> tuple[str, ...]:
        """What no text model has: names of parts that are learned anew, also where only adapters are."""
        return ()

    def loss(self, ids: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """Cross entropy in nats, always in fp32: ids and targets (B, T) -> a scalar (mean or sum over tokens)."""
        return self.loss_of(self(ids), targets, reduction)

    def loss_of(self, logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """As ``loss``, of logits (B, T, vocabulary) that are known."""
        logits = logits.float().reshape(-1, logits.shape[-1])
        return F.cross_entropy(logits, targets.reshape(-1), reduction=reduction)

    def losses(self, ids: Tensor, targets: Tensor, z_loss: float, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """What is minimised, and the mean cross entropy in it; they differ by ``z_loss`` times the mean squared
        log-partition, which keeps logits from drifting (PaLM, arXiv 2204.02311, section 5), and by ``smoothing``, the
        share of each target that is spread over all tokens (arXiv 1512.00567, section 7).
        """
        if not z_loss and not smoothing:
            loss = self.loss(ids, targets)
            return loss, loss
        return self.losses_of(self(ids).float(), targets, z_loss, smoothing)

    def losses_of(self, logits: Tensor, targets: Tensor, z_loss: float, smoothing: float) -> tuple[Tensor, Tensor]:
        """As ``losses``, of logits (B, T, vocabulary) that are known."""
        logits = logits.reshape(-1, logits.shape[-1])
        loss = minimised = F.cross_entropy(logits.detach() if smoothing else logits, targets.reshape(-1))
        if smoothing:
            minimised = F.cross_entropy(logits, targets.reshape(-1), label_smoothing=smoothing)
        return minimised + z_loss * logits.logsumexp(-1).square().mean() if z_loss else minimised, loss
