"""What a model remembers of the tokens it has read, so that the next one costs a single token's work.
Tensors and where they go; what is done with them is the model's own business (gpt.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""(.., columns) -> (.., rows): times a matrix, and a bias where there is one."""


@dataclass
class Attended:
    """What an attention remembers: keys and values (B, KV heads, context, Q), of which ``length`` are written.

    ``stacked`` has the matrices of queries, keys and values as one: to put them together at every token would copy
    megabytes.
    """

    stacked: Product
    keys: Tensor
    values: Tensor
    length: int

    @classmethod
    def of(cls, stacked: Product, keys: Tensor, values: Tensor, context: int) -> Attended:
        """Room for ``context`` tokens, the first T of which are ``keys`` and ``values`` (B, KV heads, T, Q)."""
        b, heads, tokens, width = keys.shape
        room = keys.new_empty(2, b, heads, context, width)
        room[0, :, :, :tokens], room[1, :, :, :tokens] = keys, values
        return cls(stacked, room[0], room[1], tokens)

    def add(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Take in one token's (B, KV heads, Q); gives the keys and values of all tokens so far."""
        self.keys[:, :, self.length] = key
        self.values[:, :, self.length] = value
        self.length += 1
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


@dataclass
class Layer:
    """What a block remembers. The last inputs of its two convolutions, newest first, are each (B, W)."""

    attention_reads: list[Tensor] = field(default_factory=list)
    mlp_reads: list[Tensor] = field(default_factory=list)
    attended: Attended | None = None


@dataclass
class Cache:
    """The memory of one reading of B sequences by one model: empty at first, for one prefill and then steps.

    ``length`` is the number of tokens read. It holds good only as long as the weights stay as they are.
    """

    layers: list[Layer]
    length: int = 0
    embedding: Tensor | None = None  # the last one (B, W), for the smear
    turns: tuple[Tensor, Tensor] | None = None  # what rotary positions multiply with, each (context, Q)
