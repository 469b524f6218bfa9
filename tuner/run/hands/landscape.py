"""A made-up landscape of losses with what tuners meet: noise, crossing curves, the drop of a decay, divergence,
memory that does not suffice, cost by size. Nothing here is trained, and every trial says so in its facts.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace

from tuner.run.hands.fake import FakeWorkers
from tuner.run.hands.link import Message, TrialJob
from tuner.run.hands.workers import Died
from tuner.spec.budget import Unit
from tuner.spec.records import SIMULATED, Measurement, Outcome, Spent, Started, State, Value, Verdict
from tuner.spec.trial import TrialSpec

SEED_DEVIATION = 0.004
"""Nats between two seeds of the same settings, as measured on char-Shakespeare at 4 x 128."""

MEMORY = 600e6
"""Bytes of the pretended machine."""

_VOCABULARY, _FLOPS_A_SECOND = 1024, 4e10
_WORDS = ("the", "tuner", "tries", "a", "point", "and", "learns", "from", "every", "curve", "it", "draws", "by", "seed")


def parameters(spec: TrialSpec) -> int:
    """12 width^2 a layer and the embedding: the usual count of a GPT."""
    return 12 * spec.model.depth * spec.model.width**2 + _VOCABULARY * spec.model.width


def fits(spec: TrialSpec) -> bool:
    """Whether the pretended machine has memory for the trial."""
    return _bytes(spec) <= MEMORY


def seconds_of(spec: TrialSpec) -> float:
    """How long the whole trial takes."""
    return 6.0 * parameters(spec) * _tokens(spec) / _FLOPS_A_SECOND


def _bytes(spec: TrialSpec) -> float:
    return 16 * parameters(spec) + 4e3 * spec.tokens_per_step * spec.model.depth * spec.model.width / 64


def loss_at(spec: TrialSpec, share: float) -> float:
    """Nats a token after ``share`` (0 to 1] of the budget, as a trial measures it: with the luck of its seed and of its
    evaluation; infinity once it has diverged.
    """
    luck = random.Random(spec.hash)
    miss = _miss(spec)
    if miss > 1.6 and share > luck.uniform(0.1, 0.9) / (miss - 0.6):
        return math.inf
    evaluation = random.Random(f"{spec.hash}-{share}").gauss(0, 0.003)
    return expected_at(spec, share) + luck.gauss(0, SEED_DEVIATION) + evaluation


def expected_at(spec: TrialSpec, share: float) -> float:
    """The mean of ``loss_at`` over seeds, where none diverges.

    The form of scaling laws (Hoffmann et al., 2022), a bowl around the best learning rate, which falls with the
    square root of the width, and the drop that a decaying schedule brings near the end.
    """
    size, tokens, miss = parameters(spec), _tokens(spec) * share, _miss(spec)
    slow = 1 + 0.35 * max(0.0, -miss)  # small steps have not come as far
    shape = float(1.05 + 22 / size**0.3 + 260 / (tokens / slow) ** 0.45)
    bowl = 0.035 * miss**2 + 0.6 * (spec.optim.warmup - 0.08) ** 2 + 0.02 * abs(math.log2(spec.batch / 16))
    decay = 0.16 * max(0.0, miss + 0.7) * math.pow(max(0.0, 1 - share), 0.7)  # high rates hover until they decay
    return shape + bowl + decay


def _miss(spec: TrialSpec) -> float:
    """How far the learning rate lies above the best one, in nats; that falls with width and grows with the batch."""
    return math.log(spec.optim.lr / (4e-3 * math.sqrt(128 / spec.model.width) * math.sqrt(spec.batch / 16)))


class SimulatedWorkers(FakeWorkers):
    """Fake hands on a fake clock whose trials tell all that real ones do."""

    def story(self, job: TrialJob) -> Iterator[Message | Died]:
        spec, size = job.spec, parameters(job.spec)
        if not fits(spec):
            needed = _bytes(spec) / 1e6
            yield Outcome(State.INFEASIBLE, f"needs {needed:.0f} MB of the {MEMORY / 1e6:.0f} MB there are")
            return
        facts: dict[str, Value] = {"parameters": size, "seed": spec.seed, "spec_hash": spec.hash, "precision": "fp32"}
        facts |= dict.fromkeys(("device", "device_kind", "data_fingerprint"), SIMULATED)
        yield Started(spec.as_data(), facts)
        steps = max(1, round(_tokens(spec) / spec.tokens_per_step))
        for k in range(1, job.milestones + 1):
            share = k / job.milestones
            done = round(steps * share)
            flops = 6.0 * size * done * spec.tokens_per_step
            loss = loss_at(spec, share)
            if not math.isfinite(loss):
                yield Outcome(State.DIVERGED, f"the loss left its own past at step {done}")
                return
            metrics = {"val_loss": loss, "val_bpb": loss / math.log(2) / 3, "train_loss": loss - 0.04 - 0.05 * share}
            metrics["generalization_gap"] = metrics["val_loss"] - metrics["train_loss"]
            if k == job.milestones:
                metrics["latency_ms"] = 0.1 * spec.model.depth + size / 1e7
                metrics["bytes"] = 4.0 * size
            spent = Spent(done, done * spec.tokens_per_step, int(flops), flops / _FLOPS_A_SECOND)
            row = Measurement(spent, metrics, k, time_ms=int(1000 * self.now) + 1)
            yield replace(row, samples=tuple(_text(spec, k, index) for index in range(job.samples)))
            if self._verdicts.get(job.number) is Verdict.STOP:
                yield Outcome(State.PRUNED, f"stopped by the pruner at milestone {k}")
                return
        yield Outcome(State.COMPLETE, "the budget is spent")


def _tokens(spec: TrialSpec) -> float:
    """The budget in tokens; one in FLOPs or seconds gives a larger model fewer."""
    match spec.budget.unit:
        case Unit.TOKENS:
            return spec.budget.amount
        case Unit.FLOPS:
            return spec.budget.amount / (6 * parameters(spec))
        case Unit.SECONDS:
            return spec.budget.amount * _FLOPS_A_SECOND / (6 * parameters(spec))


def _text(spec: TrialSpec, milestone: int, index: int) -> str:
    rng = random.Random(f"{spec.hash}-{milestone}-{index}")
    return "(simulated) " + " ".join(rng.choice(_WORDS) for _ in range(12 + 3 * milestone))
