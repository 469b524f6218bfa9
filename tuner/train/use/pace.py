"""How fast a model of a shape generates, with a cache and without, in turns; a process of its own that prints JSON.
For `tuner bench generate`: untrained weights, one row, temperature 0; no file, no tokenizer.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch

from tuner.spec.parts.model import ModelSpec
from tuner.spec.parts.sampling import Sampling
from tuner.train.model.gpt import GPT
from tuner.train.use.generate import generate

VOCAB = 1024


def pace(depth: int, width: int, context: int, tokens: int, pairs: int, threads: int) -> dict[str, Any]:
    """``cached`` and ``uncached`` are tokens a second, one for each pair; ``equal`` says if all texts were the same."""
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    gpt = GPT(ModelSpec(depth=depth, width=width, zero_init=False), VOCAB, context)
    sampling, start = Sampling(max_tokens=tokens, temperature=0), torch.zeros(1, 1, dtype=torch.long)
    rates: dict[bool, list[float]] = {True: [], False: []}
    texts = set()
    for pair in range(pairs + 1):  # the first only warms up
        for cached in (True, False) if pair % 2 else (False, True):
            began = time.perf_counter()
            texts.add(tuple(int(ids) for ids in generate(gpt, start, sampling, cached=cached)))
            rates[cached].append(tokens / (time.perf_counter() - began))
    return {"cached": rates[True][1:], "uncached": rates[False][1:], "equal": len(texts) == 1}


def main() -> None:
    """``python -m tuner.train.use.pace '{"depth": 4, ...}'``: the arguments of ``pace`` as JSON."""
    print(json.dumps(pace(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
