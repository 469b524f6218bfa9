"""The module that is trained: one optimizer step on one batch, and the loss on fixed windows.
It knows the model and its optimizers; milestones, checkpoints and verdicts live in life.py.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tuner.spec.trial import TrialSpec
from tuner.train.machine import shards
from tuner.train.machine.ranks import ALONE, Ranks
from tuner.train.model.adapt import adapt, adapters, begin_with, plain
from tuner.train.model.classify import build_gpt
from tuner.train.model.gpt import GPT
from tuner.train.model.optim import build_optimizers, rate_factor, set_rates
from tuner.train.model.slim.bits import pack, unpack
from tuner.train.model.slim.distil import Distillation
from tuner.train.model.slim.int8 import compute_in_int8
from tuner.train.model.slim.prune import Pruning, sparsity
from tuner.train.model.slim.rounding import Rounding

Losses = Callable[[Tensor, Tensor, float, float], tuple[Tensor, Tensor]]
"""What GPT.losses is: ids, targets (B, T), weight of the z-loss, smoothing -> what is minimised, cross entropy."""


CPU = torch.device("cpu")


def _backward(loss: Tensor, last: bool) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Setting:
    """How the steps of a trial are computed, every ``auto`` settled; ``why`` is a sentence, empty where none was."""

    precision: Literal["fp32", "bf16"]
    compile: bool
    accumulate: int
    why: str = field(default="", compare=False)

    @classmethod
    def plain(cls, spec: TrialSpec) -> Setting:
        """What the spec says, and for each ``auto`` what needs no measuring: fp32, not compiled, one micro-batch."""
        return cls(
            "fp32" if spec.precision == "auto" else spec.precision,
            False if spec.compile == "auto" else spec.compile,
            1 if spec.accumulate == "auto" else spec.accumulate,
        )


class GPTModule(nn.Module):
    """A GPT with its optimizers. ``progress``, the share of the budget, is asked for at each step: the schedule.

    Steps are computed as ``Setting.plain`` has it until ``adopt`` says otherwise; evaluation is never compiled. Of
    several ``ranks`` each computes its part of a batch; ``backward``, told which micro-batch is a step's last, has to
    leave the mean gradient of all of them.
    """

    loss_sum: Tensor
    grad_norm: Tensor

    def __init__(
        self,
        spec: TrialSpec,
        vocab: int,
        progress: Callable[[], float],
        ranks: Ranks = ALONE,
        device: torch.device = CPU,
        classes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.spec, self.ranks, self.backward = spec, ranks, _backward
        self.gpt = build_gpt(spec, vocab, classes).to(device)
        adapt(self.gpt, spec.init)
        if spec.strategy == "fsdp" and ranks.size > 1:  # before there are optimizers: those keep the shares
            shards.share_out(self.gpt, self.gpt.blocks, device, ranks.size)
        self.stepping: list[Optimizer] = build_optimizers(self.gpt, spec.optim, spec.model.depth, spec.tokens_per_step)
        self._pruning = Pruning(self.gpt, spec.compress) if spec.compress.sparsity else None
        self._rounding = Rounding(self.gpt, spec.compress) if spec.compress.round_from < 1 else None
        self._packed: dict[str, Tensor] | None = None
        self.progress = progress
        self.rate = 0.0
        # buffers, so that they live on the device: a step adds to them and waits for nothing
        self.register_buffer("grad_norm", torch.zeros(()), persistent=False)
        self.register_buffer("loss_sum", torch.zeros(()), persistent=False)
        self.loss_count = 0
        self._clipped = [
            one for one in self.gpt.parameters() if one.requires_grad
        ]  # walking the modules anew costs 25 us a step
        self._eager: Losses = self.gpt.losses
        self._compiled: Losses | None = None
        self.adopt(Setting.plain(spec))
        self.to(device)

    @property
    def device(self) -> torch.device:
        return self.loss_sum.device

    def adopt(self, setting: Setting) -> None:
        """Compute the steps from here on as ``setting`` says; the module is on its device already.

        Compiling happens in the first step, which raises whatever torch.compile raises.
        """
        self.setting = setting
        if setting.compile and self._compiled is None:
            # A graph's memory is overwritten by its next run, gradients that accumulate over runs are lost with it
            graphs = self.device.type == "cuda" and setting.accumulate == 1
            mode = "reduce-overhead" if graphs else "default"
            self._compiled = cast(Losses, torch.compile(self._eager, dynamic=False, mode=mode))
        self._losses = self._compiled if setting.compile and self._compiled is not None else self._eager

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.setting.precision == "bf16" and not self._in_int8:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def training_step(self, batch: Tensor, batch_index: int = 0) -> None:
        """batch: what ``GPT.asked`` takes apart. One step, whatever the accumulation."""
        optim = self.spec.optim
        with contextlib.nullcontext() if self._rounding is None else self._rounding.seen(self.progress()):
            self._learn(batch)
        if optim.clip is not None:
            self.grad_norm.copy_(shards.whole(torch.nn.utils.clip_grad_norm_(self._clipped, optim.clip)))
        self.rate = rate_factor(optim, self.progress())
        set_rates(self.stepping, self.rate)
        for optimizer in self.stepping:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self._pruning is not None:
            self._pruning.step(self.progress())
        self.loss_count += 1

    def _learn(self, batch: Tensor) -> None:
        """The gradients of one batch."""
        optim, parts = self.spec.optim, self.setting.accumulate
        for part, ids in enumerate(batch.chunk(parts), 1):
            read, said = self.gpt.asked(ids)
            with self._autocast():
                loss, entropy = self._losses(read, said, optim.z_loss, optim.label_smoothing)
            if ids.ndim == 3:  # where nothing is asked the target is below 0; each place counts the same in every part
                loss = loss * (said >= 0).float().mean()
            shards.synchronise(self.gpt, part == parts)
            self.backward(loss / parts if parts > 1 else loss, part == parts)
            self.loss_sum.add_(entropy.detach(), alpha=1 / parts)

    def take_loss(self) -> float:
        """Mean training loss (nats a token) since the last call; the one place where the device is waited for."""
        mean = float(self.ranks.total(self.loss_sum)) / self.ranks.size / max(self.loss_count, 1)
        self.loss_sum.zero_()
        self.loss_count = 0
        return mean

    @torch.no_grad()
    def evaluate(
        self,
        windows: Iterable[tuple[Any, Any]],
        each: Callable[[], None] = lambda: None,
        heard: Callable[[Tensor, Tensor], None] = lambda logits, targets: None,
    ) -> float:
        """Mean loss in nats a target over batches of inputs (B, T) and targets; ``each`` is called after a batch,
        ``heard`` with its logits and targets.
        """
        self.gpt.eval()
        device = self.gpt.tokens.weight.device
        total, count = torch.zeros((), dtype=torch.float64, device=self.device), 0
        try:
            for inputs, targets in windows:
                x = self.ranks.part(torch.from_numpy(inputs)).to(device)
                y = self.ranks.part(torch.from_numpy(targets)).to(device)
                if len(y):
                    with self._autocast():
                        logits = self.gpt(x)
                        total += self.gpt.loss_of(logits, y, reduction="sum")
                    heard(logits.to(self.device), y.to(self.device))
                    del logits  # else they live through the next forward pass
                elif shards.is_shared(self.gpt):  # fewer windows than ranks: the others need its share of the weights
                    with self._autocast():
                        self.gpt.loss(torch.from_numpy(inputs[:1]).to(self.device), y.new_zeros(1, *targets.shape[1:]))
                count += self.gpt.judged(targets).size
                each()
        finally:
            self.gpt.train()
        return float(self.ranks.total(total)) / count if count else math.nan

    def begin(self, weights: Mapping[str, Tensor]) -> None:
        """Begin with the weights of a trained GPT instead of those drawn from the seed."""
        begin_with(self.gpt, weights)

    def learn_from(self, teacher: GPT) -> None:
        """Minimise, as ``spec.optim.distil`` says, also how far the model is from ``teacher``; before ``adopt``."""
        teacher.to(self.device).eval().requires_grad_(False)
        self._eager, self._compiled = Distillation(self.gpt, teacher, self.spec.optim.distil).losses, None

    @contextlib.contextmanager
    def packed(self) -> Iterator[None]:
        """Have the weights as ``spec.compress`` leaves them, and compute as it says, training being over; after an
        error as before.
        """
        before = {name: one.cpu().clone() for name, one in plain(self.gpt).items()}
        self._packed = pack(before, self.spec.compress.bits)
        begin_with(self.gpt, unpack(self._packed))
        undo = compute_in_int8(self.gpt) if self._in_int8 else lambda: None
        try:
            yield
        except BaseException:
            undo()
            self._packed = None
            begin_with(self.gpt, before)
            raise

    @property
    def _in_int8(self) -> bool:
        return self._packed is not None and self.spec.compress.compute == "int8"

    def zeros(self) -> float:
        """The share of them in the layers' matrices."""
        return sparsity(unpack(self.weights()))

    def weights(self) -> dict[str, Tensor]:
        """The state dict of the GPT as it is used, whole; packed where it is."""
        state: dict[str, Tensor] = shards.whole(plain(self.gpt)) if self._packed is None else self._packed
        return state

    def training_state(self) -> dict[str, Any]:
        """All that a bit-identical continuation needs beside weights and position."""
        own: dict[str, Any] = {"cpu_rng": torch.get_rng_state(), "loss_sum": self.loss_sum.cpu()}
        if self.device.type == "cuda":
            own["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        if trained := adapters(self.gpt):
            own["adapters"] = {name: one.cpu() for name, one in trained.items()}
        if self._pruning is not None:
            own["pruning"] = self._pruning.state()
        first, *others = self.ranks.each(own)
        optimizers = [shards.whole(optimizer.state_dict()) for optimizer in self.stepping]
        return {"optimizers": optimizers, "loss_count": self.loss_count, **first, "others": others}

    def restore(self, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Take up ``training_state`` again; the module is on its device, and has begun."""
        if "adapters" in state:
            self.gpt.load_state_dict(self.gpt.state_dict() | state["adapters"])
        else:
            begin_with(self.gpt, weights)
        if self._pruning is not None:
            self._pruning.restore(state["pruning"])
        for optimizer, saved in zip(self.stepping, state["optimizers"], strict=True):
            shards.take_up(optimizer, saved)
        own = state["others"][self.ranks.rank - 1] if self.ranks.rank else state
        self.loss_sum.copy_(own["loss_sum"])
        self.loss_count = int(state["loss_count"])
        torch.set_rng_state(own["cpu_rng"])
        if self.device.type == "cuda" and "cuda_rng" in own:
            torch.cuda.set_rng_state(own["cuda_rng"], self.device)
