"""fit: a TrialSpec becomes a trained, checkpointed GPT; measurements go out, verdicts come back.
A pure function of its arguments and the corpus; it knows no study, no Optuna, no MLflow.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from tuner.spec.errors import CheckpointError
from tuner.spec.records import CorpusInfo, Outcome, Preparing, Started
from tuner.spec.trial import TrialSpec
from tuner.train import checkpoint
from tuner.train.life import Life, Link
from tuner.train.meter import Meter
from tuner.train.model.module import GPTModule
from tuner.train.model.shape import shape
from tuner.train.text.corpus import open_corpus
from tuner.train.text.cursor import Windows


@dataclass(frozen=True)
class Place:
    """Where a trial runs: its own folder, the folder of corpora, the device (``cpu``, ``cuda:0``), CPU threads."""

    folder: Path
    corpora: Path
    device: str = "cpu"
    threads: int | None = None


class _Batches:
    """The steps that are left, as the list-like loader that costs Lightning least."""

    def __init__(self, windows: Windows, first: int, count: int, batch: int) -> None:
        self.windows, self.first, self.count, self.batch = windows, first, count, batch

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        if index >= self.count:
            raise IndexError(index)
        return torch.from_numpy(self.windows.batch(self.first + index, self.batch))


def fit(spec: TrialSpec, milestones: int, place: Place, link: Link, code_version: str = "unknown") -> Outcome:
    """Train ``spec`` in ``place.folder``, from its newest good checkpoint if there is one.

    Reports ``milestones`` equal shares of the budget and ten rows between each; returns how it ended. On the CPU,
    with the same threads and a budget in tokens or FLOPs, a resumed trial is bit-identical to one that was never
    interrupted.

    Raises:
        DataError: the corpus cannot be built.
        CheckpointError: a checkpoint belongs to another trial.
    """
    place.folder.mkdir(parents=True, exist_ok=True)
    with _alone(place.folder, link):
        if place.threads is not None:
            torch.set_num_threads(place.threads)
        corpus = open_corpus(spec.data, place.corpora, link.preparing)
        torch.manual_seed(spec.seed)
        counts = shape(spec.model, corpus.info.vocab, spec.data.context)
        meter = Meter(spec.budget, spec.tokens_per_step, counts.flops_per_token, milestones)
        module = GPTModule(spec, corpus.info.vocab, lambda: meter.progress).to(torch.device(place.device))
        facts = _facts(spec, corpus.info, counts.parameters, counts.flops_per_token, meter.steps, place, code_version)
        return _train(spec, Life(module, meter, corpus, place.folder, link, facts), place, facts)


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


def _train(spec: TrialSpec, life: Life, place: Place, facts: dict[str, Any]) -> Outcome:
    sound = checkpoint.sound(place.folder)
    if sound:
        _same_trial(sound[0], spec, facts)
    life.link.started(Started(spec.as_data(), facts, sound[0].spent.steps if sound else None))
    if sound:
        life.resume(sound)
    if life.outcome is None and life.meter.due:  # interrupted between a step and its evaluation
        life.reckon()
    meter, corpus = life.meter, life.corpus
    if life.outcome is None and not meter.done:
        windows = Windows(corpus.tokens("train"), spec.data.context, spec.seed)
        left = 2**31 if meter.steps is None else meter.steps - meter.spent.steps
        trainer = _trainer(life, place)
        life.module.train()
        meter.go()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's advice on loader workers and loggers, neither wanted
            trainer.fit(life.module, train_dataloaders=_Batches(windows, meter.spent.steps, left, spec.batch))
    if life.outcome is None:
        raise RuntimeError(f"training ended at step {meter.spent.steps} of {meter.steps} without an outcome")
    return life.outcome


def _trainer(life: Life, place: Place) -> L.Trainer:
    """Everything off that costs time per step; device and strategy are given, never guessed."""
    device = torch.device(place.device)
    return L.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index or 0] if device.type == "cuda" else 1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[life],
    )


def _same_trial(saved: checkpoint.Saved, spec: TrialSpec, facts: dict[str, Any]) -> None:
    record = json.loads((saved.folder / checkpoint.SPEC).read_text())
    if record["trial"] != spec.as_data():
        raise CheckpointError(f"{saved.folder}: belongs to another trial (its spec differs); move the folder away.")
    for name in ("data_fingerprint", "tokenizer_fingerprint"):
        if record["facts"][name] != facts[name]:
            raise CheckpointError(
                f"{saved.folder}: was trained on other data ({name} {record['facts'][name]}, now {facts[name]}); "
                "restore the text or start a study with a new name."
            )


def _facts(
    spec: TrialSpec, info: CorpusInfo, parameters: int, flops: int, steps: int | None, place: Place, code: str
) -> dict[str, Any]:
    return {
        "seed": spec.seed,
        "parameters": parameters,
        "flops_per_token": flops,
        "steps": steps,
        "vocab": info.vocab,
        "data_fingerprint": info.fingerprint,
        "tokenizer_fingerprint": info.tokenizer_fingerprint,
        "device": place.device,
        "threads": torch.get_num_threads(),
        "code_version": code,
        "spec_hash": spec.hash,
    }
