"""A trained model in use: it writes text and scores it, from a packaged folder or a trial's checkpoint.
Weights come from safetensors only; nothing here trains, and neither Lightning nor MLflow is known.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from tuner.spec.errors import CheckpointError, DataError
from tuner.spec.parts.sampling import Sampling
from tuner.spec.records import Written, answers_of, auxiliary_of, classes_of
from tuner.spec.trial import TrialSpec
from tuner.train.checkpoint import MANIFEST, SPEC, WEIGHTS, read_weights, verify, verify_files
from tuner.train.examples import evaluation
from tuner.train.model.classify import Classifier, build_gpt
from tuner.train.model.gpt import GPT
from tuner.train.model.slim.int8 import compute_in_int8
from tuner.train.text.corpus import Corpus
from tuner.train.text.cursor import Batch, Tokens, evaluation_windows
from tuner.train.text.prepare.clean import cleaned
from tuner.train.text.split import Part
from tuner.train.text.tokenizer import Tokenizer, load_tokenizer
from tuner.train.use.generate import generate
from tuner.train.use.samples import continuations
from tuner.train.use.words import Words, first_id

Precision = Literal["fp32", "bf16"]
_SCORED = 2**24  # logits in one batch of evaluation: 64 MiB


@dataclass(frozen=True)
class Answer:
    """What a classifier takes a text for, and the probability of each class; likewise by each auxiliary label."""

    label: str
    probabilities: Mapping[str, float]
    auxiliary: Mapping[str, Answer] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """JSON-ready: ``label``, ``probabilities``, and where there are auxiliary labels ``auxiliary``, alike."""
        told = {"label": self.label, "probabilities": dict(self.probabilities)}
        others = {name: one.as_data() for name, one in self.auxiliary.items()}
        return {**told, "auxiliary": others} if others else told


@dataclass(frozen=True)
class Score:
    """How well a text is foretold: ``loss`` in nats a token, over each of its ``tokens`` but the first."""

    loss: float
    bits_per_byte: float
    tokens: int
    bytes: int


@dataclass(frozen=True)
class Trained:
    """A model on the CPU with its tokenizer, the spec that made it, and the facts of its trial.

    A prompt of no token begins with the tokenizer's end of text; where there is none, or it has learned from one text
    that never ends, with a newline, and where that is no character of its own either, with the first id.
    """

    gpt: GPT
    tokenizer: Tokenizer
    spec: TrialSpec
    facts: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Of a classifier, its classes in their order; empty for a model that goes on with texts."""
        return classes_of(self.facts)

    @property
    def auxiliary(self) -> dict[str, tuple[str, ...]]:
        """Of a classifier, the classes by each auxiliary label."""
        return auxiliary_of(self.facts)

    def classify(self, texts: Sequence[str]) -> list[Answer]:
        """What each text is, by its first ``context`` tokens, cleaned as the texts that it learned from.

        Raises:
            DataError: the model is no classifier.
        """
        if not self.classes:
            raise DataError("this model goes on with texts and knows no classes; train one with task: classify.")
        answers, context = [], self.spec.data.context
        for ids in self.tokenizer.encode([self._learned(text) for text in texts]):
            end = [] if self.tokenizer.end is None else [self.tokenizer.end]
            row = [*map(int, ids), *end][:context] or [self._first]
            with torch.inference_mode(), _computing(self.precision):
                logits = self.gpt(torch.tensor([row])).float()[0]
            first, *parts = logits.split(list(answers_of(self.facts)))
            told = zip(self.auxiliary.items(), parts, strict=True)
            others = {name: _answer(classes, part) for (name, classes), part in told}
            answers.append(replace(_answer(self.classes, first), auxiliary=others))
        return answers

    @property
    def precision(self) -> Precision:
        """How its trial computed; what is no product of whole numbers is in fp32."""
        whole = self.spec.compress.compute == "int8"
        return "bf16" if self.facts.get("precision") == "bf16" and not whole else "fp32"

    def stream(self, prompt: str, sampling: Sampling) -> Iterator[str]:
        """The continuation of ``prompt``, which is cleaned as what it learned from, in pieces, each as soon as its
        characters are whole; ends with the text.

        Raises:
            DataError: the model is a classifier.
        """
        self._require_words()
        ids = self._ids(prompt)
        words = Words(self.tokenizer, ids)
        for step in generate(self.gpt, torch.tensor([ids]), sampling):
            if (drawn := int(step[0])) == self.tokenizer.end:
                break
            if piece := words.add(drawn):
                yield piece
        if piece := words.rest():
            yield piece

    def generate(self, prompt: str, sampling: Sampling) -> str:
        """The continuation of ``prompt``, without it, up to the end of the text or ``sampling.max_tokens``."""
        return "".join(self.stream(prompt, sampling))

    def write(self, prompt: str, sampling: Sampling, seconds: float) -> Written:
        """As ``generate``, and no longer than ``seconds``: what is not written by then is left out."""
        began, pieces = time.monotonic(), list[str]()
        for piece in self.stream(prompt, sampling):
            pieces.append(piece)
            if time.monotonic() - began > seconds:
                return Written("".join(pieces), time.monotonic() - began, True)
        return Written("".join(pieces), time.monotonic() - began, False)

    def samples(self, prompts: Sequence[str], sampling: Sampling) -> list[str]:
        """A continuation of each prompt; those of equally many tokens are drawn together, each its own text."""
        rows = [self._ids(prompt) for prompt in prompts]
        texts = [""] * len(rows)
        for length in sorted({len(row) for row in rows}):
            places = [place for place, row in enumerate(rows) if len(row) == length]
            found = continuations(self.gpt, self.tokenizer, [rows[place] for place in places], sampling)
            for place, text in zip(places, found, strict=True):
                texts[place] = text
        return texts

    def score(self, text: str, precision: Precision = "fp32") -> Score:
        """How well ``text``, cleaned as what it learned from, is foretold, in windows of ``context`` tokens; each token
        but the first counts once.

        Raises:
            DataError: it has fewer than 2 tokens, or the model is a classifier.
        """
        self._require_words()
        learned = self._learned(text)
        (tokens,) = self.tokenizer.encode([learned])
        if len(tokens) < 2:
            raise DataError(f"the text to score has {len(tokens)} tokens; expected 2 at least, as the first is given.")
        total = sum(float(losses.sum()) for losses in self._losses(self._windows(tokens, None), precision))
        loss, size = total / (len(tokens) - 1), len(learned.encode())
        return Score(loss, loss / math.log(2) * len(tokens) / size, len(tokens), size)

    def window_losses(self, tokens: Tokens, limit: int | None, precision: Precision = "fp32") -> NDArray[np.float64]:
        """Mean loss (nats a token) of each evaluation window of ``context`` tokens, shape (windows,).

        Windows are evenly spaced, of at most ``limit`` tokens in all (None: every one there is), and only whole
        ones: the same for every model of this context and tokenizer. Empty where there is no whole one.
        """
        context = self.spec.data.context
        whole = [rows for rows in self._losses(self._windows(tokens, limit), precision) if rows.shape[1] == context]
        return torch.cat([rows.mean(1) for rows in whole]).numpy() if whole else np.empty(0, np.float64)

    def part_losses(self, corpus: Corpus, part: Part, limit: int | None) -> NDArray[np.float64]:
        """Loss (nats) of each target on a part of a corpus, of at most ``limit`` tokens in all, computed as in
        training: of each token, or each text that a classifier reads; shape (targets,).
        """
        examples = evaluation(corpus, part, self.spec.data, limit, self._at_once)
        found = [rows.flatten() for rows in self._losses(examples, self.precision)]
        return torch.cat(found).numpy() if found else np.empty(0, np.float64)

    def answers(self, corpus: Corpus, part: Part, limit: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """A classifier's logits (texts, classes) for those texts of a part that ``part_losses`` has, and what they are,
        (texts,), batch by batch, by the label alone.
        """
        gpt = cast(Classifier, self.gpt)
        for inputs, targets in evaluation(corpus, part, self.spec.data, limit, self._at_once):
            with torch.inference_mode(), _computing(self.precision):
                yield gpt.first(gpt(torch.from_numpy(inputs))), torch.from_numpy(gpt.judged(targets))

    @property
    def _at_once(self) -> int:
        return max(1, min(8192, _SCORED // self.gpt.vocab) // self.spec.data.context)

    def _windows(self, tokens: Tokens, limit: int | None) -> Iterator[tuple[Batch, Batch]]:
        return evaluation_windows(tokens, self.spec.data.context, limit, self._at_once)

    def _losses(self, examples: Iterable[tuple[Batch, NDArray[np.int64]]], precision: Precision) -> Iterator[Tensor]:
        """Loss of each target that counts, float64, of the targets' shape, batch by batch."""
        for inputs, targets in examples:
            x, y = torch.from_numpy(inputs), torch.from_numpy(targets)
            with torch.inference_mode(), _computing(precision):
                losses = self.gpt.loss(x, y, reduction="none").view(self.gpt.judged(y).shape).double()
            yield losses

    def _require_words(self) -> None:
        if self.classes:
            raise DataError(
                "this model is a classifier: it says what a text is, and cannot go on with one or score it."
            )

    def _ids(self, prompt: str) -> list[int]:
        (ids,) = self.tokenizer.encode([self._learned(prompt)])
        return [int(i) for i in ids] or [self._first]

    @property
    def _first(self) -> int:
        return first_id(self.tokenizer, int(self.facts.get("documents", 2)))  # one that does not say had end marks

    def _learned(self, text: str) -> str:
        """A text as it would be among those that were learned from."""
        return cleaned(_clean(text), self.spec.data.clean, self.spec.data.mask)


def load_model(folder: Path) -> Trained:
    """The model in a packaged folder: ``model.safetensors``, ``spec.json`` as in a checkpoint, the tokenizer's files;
    each held against its checksum where the package has them.

    Raises:
        CheckpointError: a file is missing, damaged, or does not belong to the others.
        DataError: the tokenizer cannot be read.
    """
    if (folder / MANIFEST).exists():
        _verify_package(folder)
    spec, facts = read_record(folder)
    return _built(folder, spec, facts, load_tokenizer(folder))


def load_checkpoint(folder: Path, corpora: Path) -> Trained:
    """The model in a checkpoint, each file held against its checksum; its tokenizer is its corpus's in ``corpora``.

    Raises:
        CheckpointError: it is none, or damaged.
        DataError: the corpus is not there any more, or its tokenizer is damaged.
    """
    verify(folder)
    spec, facts = read_record(folder)
    corpus = corpora / str(facts.get("data_fingerprint"))
    if not corpus.is_dir():
        raise DataError(
            f"{corpus}: the corpus that {folder} was trained on is gone, and its tokenizer with it; "
            "run the study's command again, which builds it."
        )
    return _built(folder, spec, facts, load_tokenizer(corpus))


def _verify_package(folder: Path) -> None:
    """Hold what a model is made of against the package's manifest; its card may be written on."""
    try:
        files = dict(json.loads((folder / MANIFEST).read_bytes())["files"])
        made = {name: files[name] for name in (WEIGHTS, SPEC)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / MANIFEST}: missing or damaged ({error}); export the model again.") from error
    verify_files(folder, made | {name: sha256 for name, sha256 in files.items() if name.startswith("tokenizer")})


def _built(folder: Path, spec: TrialSpec, facts: dict[str, Any], tokenizer: Tokenizer) -> Trained:
    known = {"vocab": tokenizer.vocab, "tokenizer_fingerprint": tokenizer.fingerprint}
    for name, got in known.items():
        if facts.get(name) != got:
            raise CheckpointError(
                f"{folder}: was trained with another tokenizer ({name} {facts.get(name)}, here {got}); "
                "the files do not belong together."
            )
    return Trained(built(folder, spec, facts), tokenizer, spec, facts)


def built(folder: Path, spec: TrialSpec, facts: Mapping[str, Any]) -> GPT:
    """The model in a folder as it is used, whose record ``read_record`` has read.

    Raises:
        CheckpointError: its weights are missing, damaged, or another model's.
    """
    with torch.random.fork_rng(devices=[]):  # a model is initialised when built, and that draws
        gpt = build_gpt(spec, facts["vocab"], answers_of(facts))
    try:
        gpt.load_state_dict(read_weights(folder / WEIGHTS))
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder / WEIGHTS}: does not load ({reason}).") from error
    if spec.compress.compute == "int8":
        compute_in_int8(gpt)
    return gpt.eval().requires_grad_(False)


def read_record(folder: Path) -> tuple[TrialSpec, dict[str, Any]]:
    """The spec of the trial whose model is in a folder of ours, and its facts.

    Raises:
        CheckpointError: there is no such record, or a damaged one.
    """
    try:
        record = json.loads((folder / SPEC).read_text(encoding="utf-8"))
        return TrialSpec.model_validate(record["trial"]), dict(record["facts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder / SPEC}: expected the spec of a trial and its facts ({reason}).") from error


def _answer(classes: Sequence[str], logits: Tensor) -> Answer:
    known = dict(zip(classes, logits.softmax(-1).tolist(), strict=True))
    return Answer(max(known, key=known.__getitem__), known)


def _clean(text: str) -> str:
    """Without lone surrogates: bytes that a shell passed on and that are no UTF-8 read as question marks."""
    return text.encode(errors="replace").decode()


def _computing(precision: Precision) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
