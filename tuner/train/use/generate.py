"""Drawing ids from a model, one a step: with a cache, or by reading the whole window anew for each.
Ids only; text, tokenizers and files are known to trained.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tuner.spec.parts.sampling import Sampling
from tuner.train.model.gpt import GPT


def generate(gpt: GPT, ids: Tensor, sampling: Sampling, *, cached: bool = True) -> Iterator[Tensor]:
    """Continue ``ids`` (B, T) on the model's device: ``sampling.max_tokens`` times the next id of each row, (B,).

    A model sees ``context`` tokens. What begins longer, or has grown longer, is cut to its last ``context`` // 2
    (one at least), with or without a cache, so that both draw from the same windows. No gradient is kept, the global
    random state is neither read nor moved, and the model is in evaluation mode until the last id is taken or the
    generator closed.

    Raises:
        ValueError: ``ids`` has no row or no token; a prompt of no token begins with the tokenizer's end of text.
    """
    if ids.ndim != 2 or not ids.numel():
        raise ValueError(f"expected ids of shape (rows, tokens), one of each at least, got {tuple(ids.shape)}.")
    return _drawn(gpt, ids, sampling, cached)


def _drawn(gpt: GPT, ids: Tensor, sampling: Sampling, cached: bool) -> Iterator[Tensor]:
    generator = torch.Generator(ids.device).manual_seed(sampling.seed)
    training = gpt.training
    gpt.eval()
    try:
        window, cache, fresh = _cut(ids, gpt.context), None, None
        for _ in range(sampling.max_tokens):
            with torch.inference_mode():  # never across the yield: the caller's own work is not ours to change
                if fresh is not None:
                    grown = torch.cat((window, fresh), dim=1)
                    window = _cut(grown, gpt.context)
                    if window is not grown:
                        cache = None
                if not cached:
                    logits = gpt(window)
                elif cache is None:
                    cache = gpt.cache()
                    logits = gpt(window, cache)
                else:
                    logits = gpt(fresh, cache)
                fresh = draw(logits[:, -1], sampling, generator)[:, None]
            yield fresh[:, 0].clone()
    finally:
        gpt.train(training)


def draw(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """One id from each row of ``logits`` (B, vocabulary): (B,). Top-k counts before top-p, ties go in with them."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    logits = logits.float()
    logits = logits - logits.amax(-1, keepdim=True)  # so that a temperature near 0 divides nothing into infinity
    shares = (logits / max(sampling.temperature, 1e-6)).softmax(-1)
    if sampling.top_p is not None:
        ranked = shares.sort(descending=True).values
        kept = ((ranked.cumsum(-1) - ranked) < sampling.top_p).sum(-1, keepdim=True)  # the first always
        shares = shares.masked_fill(shares < ranked.gather(-1, kept - 1), 0.0)
    # of exponential waiting times the shortest: what torch.multinomial does after checks that cost as much again
    waits = torch.empty_like(shares).exponential_(generator=generator)
    return (shares / waits).argmax(-1)


def _cut(ids: Tensor, context: int) -> Tensor:
    return ids if ids.shape[1] <= context else ids[:, -max(1, context // 2) :]
