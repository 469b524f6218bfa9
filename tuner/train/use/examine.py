"""Examining a checkpoint: does it hold, load, reproduce its loss, and how does it do on text the search never saw?
Questions are answered or the reason is told; no answer is judged here, and nothing is raised.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.spec.errors import CheckpointError, DataError, TunerError
from tuner.spec.parts.data import DataSpec
from tuner.spec.parts.sampling import Sampling
from tuner.spec.records import Evidence, Weighed, judged_by
from tuner.train.checkpoint import WEIGHTS, read_weights, verify
from tuner.train.examples import bits_per_byte
from tuner.train.model.classify import Tally
from tuner.train.model.slim.prune import sparsity
from tuner.train.text.corpus import Corpus, open_corpus, read_corpus
from tuner.train.text.split import Part
from tuner.train.use.adopt import load_any
from tuner.train.use.pace import in_turns, latency_ms
from tuner.train.use.trained import Trained, load_checkpoint, load_model

T = TypeVar("T")
FloatArray = NDArray[np.float64]

SAMPLES = tuple(Sampling(max_tokens=120, seed=seed) for seed in (1, 2, 3))
TIMED = 64  # tokens whose median time is the latency
TURNS = 5  # of models that are weighed, one after the other
_SHOWN = 300  # characters of a text that a classifier is shown with
_BLOCK = 2**15  # tokens: two contexts whose common multiple is longer are not compared


class _Answers:
    """What is known so far; a question that raises becomes a failure under its name."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.failures: dict[str, str] = {}

    def ask(self, question: str, answer: Callable[[], T]) -> T | None:
        try:
            return answer()
        except (TunerError, OSError, RuntimeError, ValueError) as error:
            self.failures[question] = " ".join(str(error).split())
            return None

    def evidence(self) -> Evidence:
        return Evidence(**self.known, failures=self.failures)


def examine(checkpoint: Path, corpora: Path, champion: Path | None, test_tokens: int | None) -> Evidence:
    """Look at ``checkpoint``, on the CPU; ``champion`` is the plain folder of the packaged model to compare with.

    On the test part both are evaluated on the same evenly spaced blocks of ``test_tokens`` in all (None: of all
    there is), so that what makes a block hard cancels out of their difference.
    """
    told = _Answers()
    saved = told.ask("checkpoint", lambda: verify(checkpoint))
    if saved is None:
        return told.evidence()
    told.known |= {"sha256": saved.sha256, "bytes": (checkpoint / WEIGHTS).stat().st_size}
    if saved.last is not None and saved.last.spent.steps == saved.spent.steps:
        told.known["recorded"] = saved.last.metrics["val_loss"]
    trained = told.ask("loads", lambda: load_checkpoint(checkpoint, corpora))
    if trained is None:
        return told.evidence()
    told.known["parameters"] = _count(read_weights(checkpoint / WEIGHTS))
    words = (corpora / str(trained.facts.get("data_fingerprint"))).glob("tokenizer*.json")
    told.known["bytes"] += sum(path.stat().st_size for path in words)
    corpus = told.ask("reproduces", lambda: _corpus(trained, corpora))
    if corpus is None:
        told.failures["test"] = told.failures["reproduces"]
    else:
        told.known["val_loss"] = _mean(trained, corpus, "val", trained.spec.data.val_tokens)
        told.known |= told.ask("test", lambda: _test(trained, corpus, champion, test_tokens, told)) or {}
    told.known |= told.ask("sample", lambda: _shown(trained, corpus)) or {}
    return told.evidence()


def weigh(
    folders: Sequence[Path], data: DataSpec, corpora: Path, test_tokens: int | None
) -> tuple[Weighed | TunerError, ...]:
    """How good the model in each of ``folders`` is on the validation part of ``data`` and on ``test_tokens`` of its
    test part (None: all), how small, and how fast: that is measured in turns; of one that does not load why.

    Raises:
        DataError: the text is not there.
    """
    corpus = open_corpus(data, corpora)
    models, failed = dict[Path, Trained](), dict[Path, TunerError]()
    for folder in folders:
        try:
            models[folder] = load_any(folder, corpora)
        except TunerError as error:
            failed[folder] = error
    times = dict(zip(models, in_turns([one.gpt for one in models.values()], TURNS), strict=True))
    return tuple(
        failed.get(folder) or _weighed(folder, models[folder], times[folder], corpus, (data.val_tokens, test_tokens))
        for folder in folders
    )


def _weighed(
    folder: Path, trained: Trained, times: Sequence[float], corpus: Corpus, limits: tuple[int | None, int | None]
) -> Weighed:
    context = trained.spec.data.context
    tested = bool(corpus.info.documents[2]) if trained.classes else len(corpus.tokens("test")) > context
    labelled = _labelled(trained, corpus)[0] if trained.classes and tested else ""
    weights = read_weights(folder / WEIGHTS)
    return Weighed(
        _metrics(trained, corpus, limits[0]),
        (folder / WEIGHTS).stat().st_size,
        _count(weights),
        statistics.median(times),
        sparsity(weights),
        _mean(trained, corpus, "test", limits[1]) if tested else None,
        labelled if trained.classes else trained.generate("", SAMPLES[0]),
    )


def prove(folder: Path) -> None:
    """Load a plain model folder and have it generate or classify a little, as its users will.

    Raises:
        TunerError: it cannot be done.
    """
    try:
        trained = load_model(folder)
        if trained.classes:
            trained.classify(["a text"])
        else:
            trained.generate("", Sampling(max_tokens=8))
    except (RuntimeError, ValueError, OSError) as error:
        raise CheckpointError(f"{folder}: does not do its work ({error}).") from error


def _count(weights: Mapping[str, Tensor]) -> int:
    return sum(one.numel() for one in weights.values())


def _metrics(trained: Trained, corpus: Corpus, limit: int | None) -> dict[str, float]:
    """Those that a trial's milestone has of the validation part."""
    if trained.classes:
        losses, metrics = _answered(trained, corpus, "val", limit)
        return {"val_loss": float(losses.mean()), **metrics}
    loss = _mean(trained, corpus, "val", limit)
    return {"val_loss": loss, "val_bpb": bits_per_byte(loss, corpus.info)}


def _answered(trained: Trained, corpus: Corpus, part: Part, limit: int | None) -> tuple[FloatArray, dict[str, float]]:
    """The loss of each text of a part, (texts,), and the metrics of a classifier's answers to them, as a trial calls
    those of the validation part.
    """
    tally, losses = Tally(trained.classes, torch.device("cpu")), []
    for logits, targets in trained.answers(corpus, part, limit):
        tally.hear(logits, targets)
        losses.append(trained.gpt.loss_of(logits, targets, reduction="none").double())
    return torch.cat(losses).numpy(), tally.reckon()[0]


def _mean(trained: Trained, corpus: Corpus, part: Part, limit: int | None) -> float:
    """As a trial has it; NaN where there is not one target."""
    found = trained.part_losses(corpus, part, limit)
    return float(found.mean()) if len(found) else math.nan


def _corpus(trained: Trained, corpora: Path) -> Corpus:
    """The tokens that it was trained on: those that are kept, whatever became of the text; else made again."""
    known = str(trained.facts.get("data_fingerprint"))
    if (kept := read_corpus(corpora / known, whole=True)) is not None:
        return kept
    corpus = open_corpus(trained.spec.data, corpora)
    if corpus.info.fingerprint != known:
        raise DataError(
            f"the text has changed: its fingerprint is {corpus.info.fingerprint}, the trial was trained on {known}"
        )
    return corpus


def _rival(folder: Path, corpus: Corpus) -> Trained:
    rival = load_model(folder)
    if judged_by(rival.facts) != (corpus.info.judged or corpus.info.fingerprint):
        raise DataError("the champion was trained on another text, or another tokenizer; losses do not compare")
    return rival


def _test(
    trained: Trained, corpus: Corpus, champion: Path | None, limit: int | None, told: _Answers
) -> dict[str, float | int]:
    tokens = corpus.tokens("test")
    if not len(tokens):
        raise DataError(
            "data.split keeps no test part, so nothing is left that the search never saw; "
            "give the third share of data.split a value above 0"
        )
    other = None if champion is None else told.ask("champion", lambda: _rival(champion, corpus))
    block = trained.spec.data.context
    if other is not None and not trained.classes:
        common = math.lcm(block, other.spec.data.context)
        if common > _BLOCK or len(tokens) <= common:
            told.failures["champion"] = (
                f"contexts of {block} and {other.spec.data.context} tokens have no common window in the test part"
            )
            other = None
        else:
            block = common
    metrics: dict[str, float] = {}
    if trained.classes:
        own, metrics = _answered(trained, corpus, "test", limit)
    else:
        own = block_losses(trained, corpus, block, limit)
    answer: dict[str, float | int] = {
        "test_loss": float(own.mean()),
        "test_error": _error(own),
        "test_windows": len(own),
        **({"test_accuracy": metrics["val_accuracy"]} if metrics else {}),
    }
    if other is not None:
        theirs = block_losses(other, corpus, block, limit)
        answer |= {
            "champion_loss": float(theirs.mean()),
            "gain": float((theirs - own).mean()),
            "gain_error": _error(theirs - own),
        }
    return answer


def block_losses(trained: Trained, corpus: Corpus, block: int, limit: int | None) -> FloatArray:
    """Mean loss in nats a token of each block of the test part, each read in windows of the model's own context; of a
    classifier the loss of each text.

    Blocks are evenly spaced, at least one, of ``limit`` tokens in all; a multiple of the context each.
    """
    if trained.classes:
        return trained.part_losses(corpus, "test", limit)
    tokens = corpus.tokens("test")
    if block == trained.spec.data.context:
        return trained.window_losses(tokens, None if limit is None else max(limit, block))
    whole = (len(tokens) - 1) // block
    wanted = whole if limit is None else max(1, min(limit // block, whole))
    starts = np.arange(wanted) * whole // wanted * block
    return np.array([trained.window_losses(tokens[start : start + block + 1], None).mean() for start in starts])


def _error(values: FloatArray) -> float:
    """Standard error of the mean; infinite for a single value, which tells nothing of its spread."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf


def _shown(trained: Trained, corpus: Corpus | None) -> dict[str, Any]:
    """What it does, for readers, and how long that takes."""
    if trained.classes:
        samples = _labelled(trained, corpus)
    else:
        samples = tuple(trained.generate("", sampling) for sampling in SAMPLES)
    return {"samples": samples, "latency_ms": latency_ms(trained.gpt, TIMED)}


def _labelled(trained: Trained, corpus: Corpus | None) -> tuple[str, ...]:
    """A few texts of the test part with what it takes them for and what they are.

    Raises:
        DataError: there is no test part.
    """
    if corpus is None or not corpus.info.documents[2]:
        raise DataError("what it takes texts for is shown on those of the test part, and data.split keeps none.")
    logits, said = next(iter(trained.answers(corpus, "test", None)))
    tokens, labels, names = corpus.tokens("test"), corpus.labels("test"), corpus.info.classes
    shown = []
    for number in range(min(len(SAMPLES), len(said))):
        ids = tokens[labels[number, 0] : labels[number + 1, 0]]
        text = trained.tokenizer.decode(ids[ids != trained.tokenizer.end])[:_SHOWN]
        share, taken = logits[number].float().softmax(-1).max(-1)
        shown.append(f"{text}\n-> {names[int(taken)]} ({float(share):.0%}); it is {names[int(said[number])]}")
    return tuple(shown)
