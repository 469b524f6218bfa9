"""How fast a model generates: of a trial at its end; for `tuner bench generate` of a shape, with a cache and without.
One row, temperature 0; no file, no tokenizer. As a program it prints JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tuner.spec.parts.model import ModelSpec
from tuner.spec.parts.sampling import Sampling
from tuner.train.model.classify import Classifier
from tuner.train.model.gpt import GPT
from tuner.train.model.slim.int8 import compute_in_int8
from tuner.train.use.generate import generate

VOCAB = 1024


def latency_ms(gpt: GPT, tokens: int = 16) -> float:
    """Milliseconds a generated token with a cache: the median of ``tokens``, one sequence, one thread, no tokenizer. Of
    a classifier, a text as long as its context.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times, since = [], time.perf_counter()
    try:
        for answer in _answers(gpt, tokens + 1):
            answer.tolist()  # waits for a GPU
            now = time.perf_counter()
            times.append(now - since)
            since = now
    finally:
        torch.set_num_threads(threads)
    return 1000 * statistics.median(times[1:])


@torch.inference_mode()
def _answers(gpt: GPT, count: int) -> Iterator[Tensor]:
    device = gpt.tokens.weight.device
    if not isinstance(gpt, Classifier):
        start = torch.zeros(1, 1, dtype=torch.long, device=device)
        yield from generate(gpt, start, Sampling(max_tokens=count, temperature=0))
        return
    text, learning = torch.zeros(1, gpt.context, dtype=torch.long, device=device), gpt.training
    gpt.eval()
    try:
        for _ in range(count):
            yield gpt(text)
    finally:
        gpt.train(learning)


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


def int8_pace(depth: int, width: int, context: int, turns: int, threads: int) -> dict[str, list[float]]:
    """Milliseconds in 8-bit whole numbers for each in fp32, of the same model: ``token`` is one generated, ``text`` one
    of ``context`` tokens that is read; one for each turn.
    """
    torch.set_num_threads(threads)
    models = []
    for in_int8 in (False, True):
        torch.manual_seed(1)
        gpt = GPT(ModelSpec(depth=depth, width=width, zero_init=False), VOCAB, context).eval().requires_grad_(False)
        if in_int8:
            compute_in_int8(gpt)
        models.append(gpt)
    text = torch.randint(0, VOCAB, (1, context))

    def read(gpt: GPT) -> float:
        with torch.inference_mode():
            began = time.perf_counter()
            gpt(text)
            return time.perf_counter() - began

    ratios: dict[str, list[float]] = {"token": [], "text": []}
    for turn in range(turns + 1):
        for name, measure in (("token", latency_ms), ("text", read)):
            plain, whole = map(measure, models)
            if turn:  # the first only warms up
                ratios[name].append(whole / plain)
    return ratios


def paces(folders: Sequence[str], turns: int) -> list[list[float]]:
    """Milliseconds a generated token of the model in each checkpoint, measured in turns: (folders, ``turns``)."""
    from tuner.train.use.trained import built, read_record

    models = [built(folder, *read_record(folder)) for folder in map(Path, folders)]
    return in_turns(models, turns)


def in_turns(models: Sequence[GPT], turns: int) -> list[list[float]]:
    """Milliseconds a generated token of each, one after the other and again: (models, ``turns``)."""
    found: list[list[float]] = [[] for _ in models]
    for _ in range(turns):
        for times, gpt in zip(found, models, strict=True):
            times.append(latency_ms(gpt))
    return found


def main() -> None:
    """``python -m tuner.train.use.pace pace '{"depth": 4, ...}'``: one of these, and its arguments as JSON."""
    measures: dict[str, Callable[..., Any]] = {"pace": pace, "int8": int8_pace, "folders": paces}
    name, asked = sys.argv[1:]
    print(json.dumps(measures[name](**json.loads(asked))))


if __name__ == "__main__":
    main()
