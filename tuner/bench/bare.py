"""The bare loop: a trial's model trained as one would by hand, in a process of its own; it prints JSON.
It owes the platform nothing but the model class; no row, no milestone's verdict, no checkpoint.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from tuner.spec.parts.model import ModelSpec
from tuner.train.model.gpt import GPT


def train(
    trial: dict[str, Any], corpus: Path, vocab: int, steps: int, evaluations: int, threads: int
) -> dict[str, Any]:
    """Train ``trial`` (a TrialSpec as data: fp32, cosine, adamw or muon) for ``steps`` on the tokens in ``corpus``.

    Returns ``seconds`` from the first step to the last evaluation, ``training`` (the same without evaluation), and
    ``val_loss`` (nats a token), one for each of ``evaluations`` equal shares of the steps.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(trial["seed"])
    context, batch, optim = trial["data"]["context"], trial["batch"], trial["optim"]
    windows = _tokens(corpus / "train.bin").unfold(0, context + 1, 1)
    val = _tokens(corpus / "val.bin")
    gpt = GPT(ModelSpec.model_validate(trial["model"]), vocab, context)
    optimizers = OPTIMIZERS[optim["kind"]](gpt, optim)
    full = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    losses: list[float] = []
    evaluating = 0.0
    began = time.perf_counter()
    for step in range(steps):
        drawn = windows[torch.randint(len(windows), (batch,))]
        gpt.loss(drawn[:, :-1], drawn[:, 1:]).backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(gpt.parameters(), optim["clip"])
        progress = (step + 0.5) / steps
        falling = (progress - optim["warmup"]) / (1 - optim["warmup"])
        cosine = optim["floor"] + (1 - optim["floor"]) * 0.5 * (1 + math.cos(math.pi * falling))
        factor = progress / optim["warmup"] if falling < 0 else cosine
        for optimizer, rates in zip(optimizers, full, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if (step + 1) * evaluations // steps > step * evaluations // steps:
            since = time.perf_counter()
            losses.append(evaluate(gpt, val, context, trial["data"]["val_tokens"]))
            evaluating += time.perf_counter() - since
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "training": seconds - evaluating, "val_loss": losses}


@torch.no_grad()
def evaluate(gpt: GPT, tokens: Tensor, context: int, limit: int | None) -> float:
    """Mean loss in nats a token over evenly spaced windows of ``limit`` tokens in all (None: of all there are)."""
    whole = (len(tokens) - 1) // context
    wanted = whole if limit is None else min(limit // context, whole)
    rows = tokens.unfold(0, context + 1, 1)[torch.arange(wanted) * whole // wanted * context]
    gpt.eval()
    total = 0.0
    for part in torch.split(rows, max(1, 8192 // context)):
        total += float(gpt.loss(part[:, :-1], part[:, 1:], reduction="sum"))
    gpt.train()
    return total / (wanted * context)


def _tokens(path: Path) -> Tensor:
    return torch.from_numpy(np.fromfile(path, "<u2").astype(np.int64))


def _adamw(parameters: Sequence[Tensor], optim: dict[str, Any]) -> torch.optim.Optimizer:
    matrices = [p for p in parameters if p.ndim >= 2]
    vectors = [p for p in parameters if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": optim["weight_decay"]}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=optim["lr"], betas=(optim["beta1"], optim["beta2"]), fused=True)


def _build_adamw(gpt: GPT, optim: dict[str, Any]) -> list[torch.optim.Optimizer]:
    return [_adamw(list(gpt.parameters()), optim)]


def _build_muon(gpt: GPT, optim: dict[str, Any]) -> list[torch.optim.Optimizer]:
    hidden = [p for name, p in gpt.named_parameters() if p.ndim == 2 and name.startswith("blocks.")]
    rest = [p for name, p in gpt.named_parameters() if p.ndim != 2 or not name.startswith("blocks.")]
    muon = torch.optim.Muon(
        hidden,
        lr=optim["muon"]["lr"],
        momentum=optim["muon"]["momentum"],
        weight_decay=optim["weight_decay"],
        adjust_lr_fn="original",
    )
    return [muon, _adamw(rest, optim)]


OPTIMIZERS = {"adamw": _build_adamw, "muon": _build_muon}


def main() -> None:
    """``python -m tuner.bench.bare '{"trial": ..., "corpus": ..., ...}'``: the arguments of ``train`` as JSON."""
    job = json.loads(sys.argv[1])
    print(json.dumps(train(job.pop("trial"), Path(job.pop("corpus")), **job)))


if __name__ == "__main__":
    main()
