"""The life of a trial between its steps: rows, milestones, checkpoints, verdicts, interruption.
It turns what the module computes into what the driver hears; it never builds a model or reads a corpus.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch.nn.utils import parametrize

from tuner.spec.records import Measurement, Outcome, Preparing, Started, State, Verdict
from tuner.train import checkpoint
from tuner.train.examples import bits_per_byte, evaluation
from tuner.train.machine.capacity import Capacity, TooLargeError
from tuner.train.machine.device import peak_memory_mb, wait_for
from tuner.train.machine.ranks import Ranks
from tuner.train.machine.shards import put_together
from tuner.train.meter import Meter
from tuner.train.model.classify import Tally
from tuner.train.model.memory import evaluation_tokens
from tuner.train.model.module import GPTModule
from tuner.train.past import EARLY, Past
from tuner.train.text.corpus import Corpus
from tuner.train.use.pace import latency_ms
from tuner.train.use.samples import Samples


class Link(Protocol):
    """The trainer's side of the line to the driver."""

    def preparing(self, work: Preparing) -> None: ...

    def started(self, started: Started) -> None: ...

    def report(self, measurement: Measurement) -> Verdict:
        """Send a row; at a milestone, wait for the driver's verdict."""

    def interrupted(self) -> bool:
        """Asked after every step: must the trial write a checkpoint and leave now?"""


class _Interrupted(Exception):
    """The driver wants the worker back; raised between two batches of an evaluation."""


class Life(Callback):
    """What happens after a step: rows, milestones, checkpoints, verdicts; and the outcome, once there is one."""

    def __init__(
        self,
        module: GPTModule,
        meter: Meter,
        corpus: Corpus,
        folder: Path,
        link: Link,
        facts: dict[str, Any],
        samples: Samples,
        capacity: Capacity,
        metric: str,
    ) -> None:
        self.module, self.meter, self.corpus, self.folder, self.link = module, meter, corpus, folder, link
        self.samples, self.capacity, self.metric, self._fits = samples, capacity, metric, False
        self.record = {"trial": module.spec.as_data(), "facts": facts}
        info = corpus.info
        self.past = Past(len(info.classes) or info.vocab, math.inf if info.classes else EARLY)
        self.confusion: tuple[tuple[int, ...], ...] = ()
        self.ranks: Ranks = module.ranks
        self.outcome: Outcome | None = None
        self.last: checkpoint.Saved | None = None
        self.best: checkpoint.Saved | None = None

    def resume(self, sound: Sequence[checkpoint.Saved]) -> None:
        """Go on from the newest of the trial's checkpoints.

        Its measurement is sent again, because the driver may have died before it heard it.
        """
        for saved in reversed(sound):
            self._consider(saved)
        self.last = sound[0]
        weights, state = checkpoint.load(self.last)
        self.module.restore(weights, state)
        self.past.lowest, self.past.rows = state.get("lowest_row", math.inf), state.get("rows", 0)
        self.past.last = state.get("last_row", math.nan)
        self.meter.restore(self.last.spent, self.last.reached)
        self.samples.resume(self.last.spent.seconds)
        if self.last.last is not None:
            self._obey(self.link.report(self.last.last))

    def stepped(self) -> bool:
        """Count a step; is there anything to do before the next one?"""
        self.meter.step()
        if not self._fits:  # one real step: the weights, gradients and moments of this shape all exist now
            self._weigh()
        return self.meter.row_due or self.meter.due is not None or self.link.interrupted()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """After a stretch of steps (see fit.Stretches), the last of which ``stepped`` held back."""
        if self.meter.row_due or self.meter.due is not None:
            wait_for(self.module.device)  # what is queued on a GPU is training too
            self.meter.pause()
            self.reckon()
            self.meter.go()
        if self.outcome is None and self.link.interrupted():
            self._leave()
        if self.outcome is not None or self.meter.done:
            trainer.should_stop = True

    def reckon(self) -> None:
        """Write the row that is due, and every milestone that is due with its evaluation and checkpoint."""
        metrics: dict[str, float] = {}
        if self.meter.row_due:
            train_loss = self.module.take_loss()
            if (why := self.past.departure(train_loss)) is not None:
                self.outcome = Outcome(State.DIVERGED, f"{why}, at step {self.meter.spent.steps}")
                return
            metrics = {
                "train_loss": train_loss,
                "lr": self.module.rate * self.module.spec.optim.lr,
                **({} if self.module.spec.optim.clip is None else {"grad_norm": float(self.module.grad_norm)}),
                "tokens_per_second": self.meter.row_written(),
                "memory_mb": peak_memory_mb(self.module.device),
            }
        if self.meter.due is None:
            self.link.report(self._measured(metrics, None))
            return
        try:
            with (
                self.module.packed()
                if self.meter.done and self.module.spec.compress.smaller
                else contextlib.nullcontext()
            ):
                metrics |= self._validate()
        except _Interrupted:
            self.link.report(self._measured(metrics, None))
            self._leave()
            return
        if not math.isfinite(metrics["val_loss"]):
            loss = metrics["val_loss"]
            self.outcome = Outcome(State.DIVERGED, f"validation loss {loss} at milestone {self.meter.due}")
            return
        mixed = any(text.share for text in self.module.spec.data.mix.values())
        if not (mixed or math.isnan(self.past.last)):  # of another text, or there is no row yet
            metrics["generalization_gap"] = metrics["val_loss"] - self.past.last
        self._weigh()
        if self.meter.due == 1:  # its evaluation was the last thing that could have taken more
            self._remember(self._peak())
        with put_together(self.module.gpt), parametrize.cached():  # adapters are added once
            if self.module.spec.compress.sparsity:
                metrics["sparsity"] = self.module.zeros()
            if self.meter.done or self.module.spec.early_stop is not None:  # which may be its last
                metrics["latency_ms"] = latency_ms(self.module.gpt)
                metrics["bytes"] = float(sum(one.nbytes for one in self.module.weights().values()))
            samples = self.samples.draw(self.meter.spent.seconds, last=self.meter.done)
        while (milestone := self.meter.due) is not None and self.outcome is None:
            self._milestone(milestone, metrics, samples)

    def _milestone(self, milestone: int, metrics: dict[str, float], samples: tuple[str, ...]) -> None:
        """First the checkpoint, then the report: what the driver has heard is on disk."""
        self.meter.reached = milestone
        measurement = replace(self._measured(metrics, milestone), samples=samples, confusion=self.confusion)
        self._save(measurement)
        self._obey(self.link.report(measurement))

    def _weigh(self) -> None:
        """Hold the peak memory against what the trial may take.

        Raises:
            TooLargeError: it took more; the machine's notes remember it.
        """
        taken = self._peak()
        if taken > self.capacity.limit:
            self._remember(taken)
            raise TooLargeError(taken, self.capacity.limit)
        self._fits = True

    def _peak(self) -> int:
        """Bytes of the process that took the most."""
        return int(max(self.ranks.each(peak_memory_mb(self.module.device))) * 1e6)

    def _remember(self, taken: int) -> None:
        share, vocab, parts = self.module.spec.share, self.corpus.info.vocab, self.module.setting.accumulate
        self.ranks.once(lambda: self.capacity.learn(share, vocab, parts, taken))

    def _obey(self, verdict: Verdict) -> None:
        match verdict:
            case Verdict.CONTINUE:
                if self.meter.done and self.meter.due is None:
                    self.outcome = self._ended(State.COMPLETE, "the budget is spent")
                elif (why := self._learned_enough()) is not None:
                    self.outcome = self._ended(State.COMPLETE, why)
            case Verdict.STOP:
                self.outcome = self._ended(State.PRUNED, f"stopped by the pruner at milestone {self.meter.reached}")

    def _learned_enough(self) -> str | None:
        """Why a trial that has stopped to get better ends before its budget; None where it has not."""
        patience, lowest = self.module.spec.early_stop, self.best
        if patience is None or lowest is None or self.meter.reached - lowest.reached < patience:
            return None
        return f"no lower {self.metric} since milestone {lowest.reached}, in {patience} more"

    def _leave(self) -> None:
        if self.last is None or self.last.spent.steps != self.meter.spent.steps:
            self._save(None if self.last is None else self.last.last)
        self.outcome = self._ended(State.INTERRUPTED, f"interrupted at step {self.meter.spent.steps}")

    def _ended(self, state: State, reason: str) -> Outcome:
        if state is not State.INTERRUPTED:
            self._retain()
        if self.best is None:
            return Outcome(state, reason)
        stands = self.best.last if self.module.spec.early_stop is not None else None
        metrics = {} if stands is None else stands.metrics
        return Outcome(state, reason, checkpoint=self.best.folder.name, sha256=self.best.sha256, metrics=metrics)

    def _validate(self) -> dict[str, float]:
        def each() -> None:
            if self.link.interrupted():
                raise _Interrupted

        data, classes = self.module.spec.data, self.corpus.info.classes
        tokens = evaluation_tokens(self.module.spec, self.module.setting.accumulate, self.corpus.info.vocab)
        examples = evaluation(self.corpus, "val", data, data.val_tokens, max(1, tokens // data.context))
        if classes:
            tally = Tally(classes, self.module.device, self.corpus.info.auxiliary)
            loss = self.module.evaluate(examples, each, tally.hear)
            metrics, self.confusion = tally.reckon()
            return {"val_loss": loss, **metrics}
        loss = self.module.evaluate(examples, each)
        return {
            "val_loss": loss,
            "val_bpb": bits_per_byte(loss, self.corpus.info),
            "val_perplexity": math.exp(min(loss, 700.0)),
        }

    def _measured(self, metrics: dict[str, float], milestone: int | None) -> Measurement:
        return Measurement(self.meter.spent, metrics, milestone, time_ms=time.time_ns() // 1_000_000)

    def _save(self, measurement: Measurement | None) -> None:
        before, weights = self.last, self.module.weights()
        past = {"lowest_row": self.past.lowest, "last_row": self.past.last, "rows": self.past.rows}
        state = {**self.module.training_state(), **past}
        self.last = self.ranks.once(
            lambda: checkpoint.save(
                self.folder,
                weights,
                state,
                self.record,
                self.meter.spent,
                self.meter.reached,
                measurement,
            )
        )
        self._consider(self.last)
        self._retain(before)  # while it trains, one more: should the newest be damaged

    def _retain(self, extra: checkpoint.Saved | None = None) -> None:
        keep = {saved.folder for saved in (self.last, self.best, extra) if saved is not None}
        self.ranks.once(lambda: checkpoint.retain(self.folder, keep))

    def _consider(self, saved: checkpoint.Saved) -> None:
        """Keep the lowest of the study's metric; a checkpoint made between milestones has none of its own. Of a model
        that is to be smaller, the newest: an earlier one is not small yet.
        """
        if (value := self._own(saved)) is None:
            return
        lowest = None if self.best is None else self._own(self.best)
        if lowest is None or value <= lowest or self.module.spec.compress.smaller:
            self.best = saved

    def _own(self, saved: checkpoint.Saved) -> float | None:
        measured = saved.last
        if measured is None or measured.spent.steps != saved.spent.steps:
            return None
        return measured.metrics[self.metric]
