"""fit: a TrialSpec becomes a trained, checkpointed GPT; measurements go out, verdicts come back.
A pure function of its arguments and the corpus; it knows no study, no Optuna, no MLflow.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from filelock import FileLock, Timeout
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from torch import Tensor
from torch.optim import Optimizer

from tuner.spec.budget import Unit
from tuner.spec.errors import CheckpointError, UnreadableError
from tuner.spec.records import (
    AUXILIARY,
    CLASSES,
    JUDGED,
    MIXED,
    CorpusInfo,
    Outcome,
    Preparing,
    Seat,
    Started,
)
from tuner.spec.trial import TrialSpec
from tuner.train import checkpoint
from tuner.train.ahead import Ahead
from tuner.train.descent import descend
from tuner.train.examples import class_weights, judged_texts, training
from tuner.train.life import Life, Link
from tuner.train.machine.capacity import MACHINE, Capacity
from tuner.train.machine.device import device_kind
from tuner.train.machine.probe import settle
from tuner.train.machine.ranks import Ranks, Together, joined
from tuner.train.machine.shards import is_shared
from tuner.train.meter import Meter
from tuner.train.model.classify import Classifier
from tuner.train.model.module import GPTModule, Setting
from tuner.train.model.shape import Shape, shape
from tuner.train.text.corpus import Corpus, open_corpus
from tuner.train.text.mixed.mixture import fingerprints, open_mixed
from tuner.train.use.samples import Samples


@dataclass(frozen=True)
class Place:
    """Where a trial runs: its own folder, the folder of corpora, the device (``cpu``, ``cuda:0``), CPU threads.

    ``notes`` keeps what was measured on this machine; ``.machine`` beside the corpora where it is None. The trial may
    take ``memory`` bytes (None: what there is) and computes a step in ``parts`` micro-batches (None: as it finds).
    ``seat`` is this process's among those of a trial on several devices; memory and micro-batches are each one's own.
    """

    folder: Path
    corpora: Path
    device: str = "cpu"
    threads: int | None = None
    notes: Path | None = None
    memory: int | None = None
    parts: int | None = None
    seat: Seat | None = None

    @property
    def machine(self) -> Path:
        return self.notes or self.corpora.parent / MACHINE


class Stretches(L.LightningModule):
    """What Lightning drives: all steps up to the next row are one batch to it.

    Its loop takes 0.1 to 0.25 ms a batch, which a small model's step must not pay; it asks for no batch itself, but
    hands over the loader (Lightning's ``dataloader_iter``).
    """

    def __init__(self, life: Life) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.life, self.module = life, life.module
        if life.ranks.size > 1 and not is_shared(life.module.gpt):
            life.module.backward = self._backward

    def _backward(self, loss: Tensor, last: bool) -> None:
        """Micro-batch by micro-batch, and at a step's last one the mean of all ranks' gradients."""
        wrapped: Any = self.trainer.strategy.model
        with contextlib.nullcontext() if last else wrapped.no_sync():
            self.manual_backward(loss)

    def configure_optimizers(self) -> list[Optimizer]:
        return self.module.stepping

    def training_step(self, dataloader_iter: Iterator[tuple[Tensor, int, int]]) -> None:
        for batch, _, _ in dataloader_iter:
            self.module.training_step(batch)
            if self.life.stepped():
                return


def fit(
    spec: TrialSpec,
    milestones: int,
    place: Place,
    link: Link,
    code_version: str = "unknown",
    samples: int = 0,
    metric: str = "val_loss",
) -> Outcome:
    """Train ``spec`` in ``place.folder``, from its newest good checkpoint if there is one.

    Reports ``milestones`` equal shares of the budget, with ``samples`` texts where there is time for them, and ten
    rows between each; keeps the checkpoint of the lowest ``metric``; returns how it ended. The texts change nothing in
    the training. On the CPU, with the same threads and a budget in tokens or FLOPs, a resumed trial is bit-identical to
    one that was never interrupted. On several devices (``spec.devices``) every process calls it with its own seat and
    gets the outcome; the first reports, all obey; the result is that of one device but for the order in which numbers
    are added.

    Raises:
        DataError: the corpus cannot be built.
        CheckpointError: a checkpoint belongs to another trial.
        TooLargeError: it took more than ``place.memory``.
    """
    place.folder.mkdir(parents=True, exist_ok=True)
    device = torch.device(place.device)
    first = place.seat is None or place.seat.rank == 0
    with _alone(place.folder, link) if first else contextlib.nullcontext(), joined(place.seat, device) as ranks:
        link = Together(link, ranks) if ranks.size > 1 else link
        if place.threads is not None:
            torch.set_num_threads(place.threads)
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32: what "fp32" means on a GPU
        corpus = open_corpus(spec.data, place.corpora, link.preparing)
        info, mixed = corpus.info, open_mixed(spec.data, corpus, place.corpora, link.preparing)
        counts = shape(spec.model, info.vocab, spec.data.context, sum(info.answers))
        clock = ranks.clock if spec.budget.unit is Unit.SECONDS else time.perf_counter
        meter = Meter(spec.budget, spec.tokens_per_step, counts.flops_per_token, milestones, clock)
        sound = ranks.once(lambda: checkpoint.sound(place.folder))
        if sound:
            setting = _recorded(sound[0], spec, info, fingerprints(mixed), place.parts)
        else:
            setting = ranks.once(lambda: _settled(spec.share, info, meter.steps, place, link))
        torch.manual_seed(spec.seed)
        module = GPTModule(spec, info.vocab, lambda: meter.progress, ranks, device, info.answers)
        if isinstance(module.gpt, Classifier) and spec.classify.weights == "balanced":
            module.gpt.weights = torch.tensor(class_weights(corpus), device=device)
        if ranks.rank:
            torch.manual_seed(spec.seed + ranks.rank)  # other rows, other dropout
        if spec.init.source is not None:
            descend(module, info)
        module.adopt(setting)
        facts = _facts(spec, info, counts, meter.steps, setting, device, code_version)
        if mixed:
            facts[MIXED] = json.dumps(fingerprints(mixed))
        if spec.init.source is not None:
            facts["trained_parameters"] = sum(one.numel() for one in module.gpt.parameters() if one.requires_grad)
        count = samples if first and spec.task == "generate" else 0
        writing = Samples(module.gpt, corpus.tokenizer, count, corpus.info.documents[0])
        capacity = Capacity(place.memory or sys.maxsize, device_kind(device), place.machine)
        return _train(Life(module, meter, corpus, place.folder, link, facts, writing, capacity, metric), sound, mixed)


@contextlib.contextmanager
def _alone(folder: Path, link: Link) -> Iterator[None]:
    """Wait until no former worker of this trial is left: one whose driver died may still be in a long step."""
    lock = FileLock(folder / "trial.lock")
    while True:
        try:
            lock.acquire(timeout=2)
            break
        except Timeout:
            link.preparing(Preparing("waiting for this trial's former worker to end"))
    try:
        yield
    finally:
        lock.release()


def _settled(spec: TrialSpec, info: CorpusInfo, steps: int | None, place: Place, link: Link) -> Setting:
    if spec.strategy == "fsdp":  # no device may hold the whole of it to try
        plain = Setting.plain(spec)
        return plain if place.parts is None else replace(plain, accumulate=place.parts)
    device = torch.device(place.device)

    def say(why: str) -> None:
        link.preparing(Preparing(why))

    return settle(spec, info.vocab, steps, device, place.machine, say, parts=place.parts, classes=info.answers)


def _recorded(
    saved: checkpoint.Saved, spec: TrialSpec, info: CorpusInfo, mixed: dict[str, str], parts: int | None
) -> Setting:
    """How the trial of a checkpoint was computed: it goes on so, whatever this machine would choose now; in more
    micro-batches only where memory has not sufficed.

    Raises:
        CheckpointError: it is another trial's.
        UnreadableError: it was trained on other data, which may come back.
    """
    record = checkpoint.record(saved)
    if record["trial"] != spec.as_data():
        raise CheckpointError(f"{saved.folder}: belongs to another trial (its spec differs); move the folder away.")
    facts = record["facts"]
    now = {"data_fingerprint": info.fingerprint, "tokenizer_fingerprint": info.tokenizer_fingerprint}
    now |= {MIXED: json.dumps(mixed)} if mixed else {}
    for name, fingerprint in now.items():
        if facts.get(name) != fingerprint:
            raise UnreadableError(
                f"{saved.folder}: was trained on other data ({name} {facts.get(name)}, now {fingerprint}); "
                "restore the text or start a study with a new name"
            )
    return Setting(facts["precision"], facts["compile"], max(facts["accumulate"], parts or 1))


def _train(life: Life, sound: Sequence[checkpoint.Saved], mixed: dict[str, Corpus]) -> Outcome:
    meter, module = life.meter, life.module
    facts = life.record["facts"]
    life.link.started(Started(module.spec.as_data(), facts, sound[0].spent.steps if sound else None))
    if sound:
        life.resume(sound)
    if life.outcome is None and meter.due:  # interrupted between a step and its evaluation
        life.reckon()
    if life.outcome is None and not meter.done:
        windows = training(life.corpus, module.spec.data, module.spec.seed, mixed)
        left = 2**31 if meter.steps is None else meter.steps - meter.spent.steps
        batches = Ahead(windows, meter.spent.steps, left, module.spec.batch, module.device, life.ranks)
        trainer = _trainer(life, module.device)
        module.train()
        meter.go()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's advice on loader workers and loggers, neither wanted
            trainer.fit(Stretches(life), train_dataloaders=batches)
    if life.outcome is None:
        raise RuntimeError(f"training ended at step {meter.spent.steps} of {meter.steps} without an outcome")
    return life.outcome


def _trainer(life: Life, device: torch.device) -> L.Trainer:
    """Everything off that costs time per step; device and strategy are given, never guessed."""
    return L.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=_devices(device, life.ranks),
        strategy=_strategy(life),
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[life],
        plugins=[LightningEnvironment()],  # else it takes a batch system's or a launcher's processes for its own
    )


def _devices(device: torch.device, ranks: Ranks) -> list[int] | int:
    return [int(index) for index in ranks.each(device.index or 0)] if device.type == "cuda" else ranks.size


def _strategy(life: Life) -> Strategy | str:
    """Buffers are each rank's own sums, and stay so. A shared model does by itself what Lightning's strategies do."""
    if is_shared(life.module.gpt):
        return SingleDeviceStrategy(life.module.device)
    return "auto" if life.ranks.size == 1 else DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)


def _facts(
    spec: TrialSpec,
    info: CorpusInfo,
    counts: Shape,
    steps: int | None,
    setting: Setting,
    device: torch.device,
    code: str,
) -> dict[str, Any]:
    return {
        "seed": spec.seed,
        "parameters": counts.parameters,
        "flops_per_token": counts.flops_per_token,
        "steps": steps,
        "vocab": info.vocab,
        "documents": info.documents[0],
        "data_fingerprint": info.fingerprint,
        "tokenizer_fingerprint": info.tokenizer_fingerprint,
        "device": str(device),
        **({"devices": spec.devices} if spec.devices > 1 else {}),
        "device_kind": device_kind(device),
        "threads": torch.get_num_threads(),
        "precision": setting.precision,
        "compile": setting.compile,
        "accumulate": setting.accumulate,
        "code_version": code,
        "spec_hash": spec.hash,
        **({CLASSES: json.dumps(info.classes), "val_texts": judged_texts(info, spec.data)} if info.classes else {}),
        **({AUXILIARY: json.dumps(info.auxiliary), JUDGED: info.judged} if info.auxiliary else {}),
    }
