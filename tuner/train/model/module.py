"""The LightningModule: one optimizer step on one batch, and the loss on fixed windows.
It knows the model and its optimizers; milestones, checkpoints and verdicts live in life.py.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from tuner.spec.trial import TrialSpec
from tuner.train.model.gpt import GPT
from tuner.train.model.optim import build_optimizers, rate_factor, set_rates


class GPTModule(L.LightningModule):
    """Manual optimization: it costs the least per step, and accumulation and clipping stay in sight.

    ``progress`` is asked for the share of the budget at each step and drives the schedule.
    """

    def __init__(self, spec: TrialSpec, vocab: int, progress: Callable[[], float]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.spec = spec
        self.gpt = GPT(spec.model, vocab, spec.data.context)
        self.stepping = build_optimizers(self.gpt, spec.optim)
        self.progress = progress
        self.rate = 0.0
        self.grad_norm = torch.zeros(())
        self.loss_sum, self.loss_count = torch.zeros(()), 0

    def configure_optimizers(self) -> list[Optimizer]:
        return self.stepping

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.spec.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def training_step(self, batch: Tensor, batch_index: int) -> None:
        """batch: token ids (B, T + 1); the targets are the ids one place on. One step, whatever the accumulation."""
        micro = self.spec.batch // self.spec.accumulate
        loss_of_step = torch.zeros((), device=batch.device)
        for ids in torch.split(batch, micro):
            with self._autocast():
                loss = self.gpt.loss(ids[:, :-1], ids[:, 1:]) / self.spec.accumulate
            loss.backward()  # type: ignore[no-untyped-call]
            loss_of_step += loss.detach()
        if self.spec.optim.clip is not None:
            self.grad_norm = torch.nn.utils.clip_grad_norm_(self.gpt.parameters(), self.spec.optim.clip)
        self.rate = rate_factor(self.spec.optim, self.progress())
        set_rates(self.stepping, self.rate)
        for optimizer in self.stepping:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.loss_sum = self.loss_sum.to(batch.device) + loss_of_step
        self.loss_count += 1

    def take_loss(self) -> float:
        """Mean training loss (nats a token) since the last call; the one place where the device is waited for."""
        mean = float(self.loss_sum) / max(self.loss_count, 1)
        self.loss_sum, self.loss_count = torch.zeros(()), 0
        return mean

    @torch.no_grad()
    def evaluate(self, windows: Iterable[tuple[Any, Any]], each: Callable[[], None] = lambda: None) -> float:
        """Mean loss in nats a token over (inputs, targets) batches of ids (B, T); ``each`` is called after a batch."""
        self.gpt.eval()
        total, count = torch.zeros((), dtype=torch.float64, device=self.device), 0
        try:
            for inputs, targets in windows:
                x = torch.from_numpy(inputs).to(self.device)
                y = torch.from_numpy(targets).to(self.device)
                with self._autocast():
                    total += self.gpt.loss(x, y, reduction="sum")
                count += y.numel()
                each()
        finally:
            self.gpt.train()
        return float(total) / count if count else math.nan

    def training_state(self) -> dict[str, Any]:
        """All that a bit-identical continuation needs beside weights and position."""
        state: dict[str, Any] = {
            "optimizers": [optimizer.state_dict() for optimizer in self.stepping],
            "cpu_rng": torch.get_rng_state(),
            "loss_sum": self.loss_sum.cpu(),
            "loss_count": self.loss_count,
        }
        if self.device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        return state

    def restore(self, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Take up ``training_state`` again; the module is on its device already."""
        self.gpt.load_state_dict(weights)
        for optimizer, saved in zip(self.stepping, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.loss_sum, self.loss_count = state["loss_sum"], int(state["loss_count"])
        torch.set_rng_state(state["cpu_rng"])
        if self.device.type == "cuda" and "cuda_rng" in state:
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)
