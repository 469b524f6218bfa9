"""The words of a running trial as frozen records: what is spent, measured, decided and concluded.
Plain data that crosses processes; no behaviour beyond reading and writing itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from tuner.spec.parts.scalars import digest

Value = float | int | str | bool | None
"""One setting of a trial, as YAML and Optuna know it."""

Point = Mapping[str, Value]
"""Dotted path -> value, active dimensions only."""


@dataclass(frozen=True)
class Origin:
    """Which study it is: its own name for life (one made anew under the same name has another), and a mark for each
    time it was copied, oldest first: a copy and its original differ in the last.
    """

    id: str
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seat:
    """Which of the ``of`` processes of a trial on several devices it is; they find each other by the file ``meeting``,
    which is not there yet.
    """

    rank: int
    of: int
    meeting: Path


@dataclass(frozen=True)
class Spent:
    """What a trial has used so far; every metric row carries all four. Seconds are training seconds."""

    steps: int = 0
    tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Measurement:
    """One row of metrics. ``milestone`` k (1 .. K) is set only where the k-th share of the budget was reached.

    ``samples`` are texts that the model wrote there, of at most 64 tokens each; ``confusion`` is how many texts of each
    class (rows) a classifier took for which (columns).
    """

    spent: Spent
    metrics: Mapping[str, float]
    milestone: int | None = None
    time_ms: int = 0
    samples: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()


class Verdict(StrEnum):
    """The only value that travels back to the trainer. PAUSE may come: match it, never test for truth."""

    CONTINUE = "continue"
    STOP = "stop"


class State(StrEnum):
    """How a trial ended."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    INFEASIBLE = "infeasible"  # cannot fit: forbidden, or out of memory
    DIVERGED = "diverged"  # NaN or a blow-up
    FAILED = "failed"  # a bug
    INTERRUPTED = "interrupted"  # stopped from outside; goes on under the same number


@dataclass(frozen=True)
class Outcome:
    """The end of a trial, its reason in a sentence, and the checkpoint that stands for it (folder name, sha256); the
    ``metrics`` of that one where they stand for the trial, not those of its last milestone.
    """

    state: State
    reason: str = ""
    checkpoint: str | None = None
    sha256: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Started:
    """What a worker knows once data and model stand: the facts the record of a trial needs.

    ``facts`` holds parameters, flops_per_token, steps, vocab, data and tokenizer fingerprints, device, threads,
    code version, spec hash; ``spec`` is the TrialSpec as JSON-ready data, ``resumed_from`` a step or None.
    """

    spec: Mapping[str, Any]
    facts: Mapping[str, Value]
    resumed_from: int | None = None


@dataclass(frozen=True)
class Preparing:
    """Work before training: ``fraction`` (0 .. 1, or None where unknown) of ``task`` is done."""

    task: str
    fraction: float | None = None


@dataclass(frozen=True)
class CorpusInfo:
    """A tokenised corpus on disk. Counts are per part, in the order train, validation, test; ``classes``, where its
    texts have labels, are those in the order of their numbers, and ``auxiliary`` those of each auxiliary label, where
    there is one ``judged`` is the fingerprint without them; ``mixed`` are the fingerprints of texts mixed in.
    """

    folder: str
    fingerprint: str
    tokenizer_fingerprint: str
    vocab: int
    tokens: tuple[int, int, int]
    bytes: tuple[int, int, int]
    documents: tuple[int, int, int] = field(default=(0, 0, 0))
    classes: tuple[str, ...] = ()
    auxiliary: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    judged: str | None = None
    mixed: Mapping[str, str] = field(default_factory=dict)

    @property
    def answers(self) -> tuple[int, ...]:
        """As ``answers_of`` has it."""
        return _answers(self.classes, self.auxiliary)

    @property
    def texts(self) -> str:
        """The fingerprint of all that is learned from."""
        return all_texts(self.fingerprint, self.mixed)


@dataclass(frozen=True)
class Weighed:
    """What a model is and takes: its ``metrics`` on the validation part, by the names a study knows them by, the bytes
    of its file, milliseconds a generated token, and the share of zeros in its layers; its loss on the test part, where
    there is one, and something that it wrote or what it took a text for.
    """

    metrics: Mapping[str, float]
    bytes: int
    parameters: int
    latency_ms: float
    sparsity: float
    test_loss: float | None = None
    sample: str = ""


@dataclass(frozen=True)
class Ancestor:
    """A trained model that trials begin with: its copy in ``folder``, the sha256 of its weights, its ModelSpec as data,
    its context, and the file of its tokenizer in the folder; ``classes`` where it is a classifier.
    """

    folder: str
    sha256: str
    model: Mapping[str, Any]
    context: int
    tokenizer: str
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What looking at a checkpoint showed; ``failures`` has a sentence for each question without an answer.

    ``recorded`` and ``val_loss`` are its validation loss as its manifest has it and as evaluated again. The losses
    on the test part are means over ``test_windows`` windows; ``gain`` is the champion's minus the candidate's on the
    same windows, and ``gain_error`` the standard error of that mean. Nats a token, milliseconds a generated token; of a
    classifier windows are texts, of which it knew the share ``test_accuracy``, and both are of a text.
    """

    sha256: str | None = None
    recorded: float | None = None
    val_loss: float | None = None
    test_loss: float | None = None
    test_error: float | None = None
    test_windows: int = 0
    test_accuracy: float | None = None
    champion_loss: float | None = None
    gain: float | None = None
    gain_error: float | None = None
    parameters: int | None = None
    bytes: int | None = None
    latency_ms: float | None = None
    samples: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)


CLASSES = "classes"
"""The fact of a classifier that names its classes in their order, as JSON."""

AUXILIARY = "auxiliary_classes"
"""The fact of a classifier that names those of each auxiliary label, as JSON: name -> classes."""

JUDGED = "judged_fingerprint"
"""The fact of a trial with auxiliary labels that has the fingerprint of its text without them."""


def judged_by(facts: Mapping[str, Any]) -> str | None:
    """The fingerprint of what a trial was judged by: losses on equal ones compare."""
    found = facts.get(JUDGED, facts.get("data_fingerprint"))
    return None if found is None else str(found)


UNTOLD = -1
"""The number that stands for the class of a text of which an auxiliary label says nothing."""


def classes_of(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes that a trial's facts name; none where it is no classifier's."""
    return tuple(json.loads(str(facts.get(CLASSES, "[]"))))


def auxiliary_of(facts: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The classes of each auxiliary label that a trial's facts name."""
    return {name: tuple(told) for name, told in json.loads(str(facts.get(AUXILIARY, "{}"))).items()}


def answers_of(facts: Mapping[str, Any]) -> tuple[int, ...]:
    """How many answers a classifier has to each of its questions, the label's first; empty where it is none."""
    return _answers(classes_of(facts), auxiliary_of(facts))


def _answers(classes: Sequence[str], auxiliary: Mapping[str, Sequence[str]]) -> tuple[int, ...]:
    return (len(classes), *map(len, auxiliary.values())) if classes else ()


MIXED = "mixed_fingerprints"
"""The fact of a trial that says which texts were mixed in: name -> fingerprint, as JSON."""


def all_texts(fingerprint: str, mixed: Mapping[str, str]) -> str:
    """The fingerprint of all that a trial learns from: its own text's, where nothing is mixed in."""
    return digest([fingerprint, sorted(mixed.items())])[:16] if mixed else fingerprint


def mixed_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """The texts that were mixed in by a trial's facts: name -> fingerprint."""
    return dict(json.loads(str(facts.get(MIXED, "{}"))))


def texts_of(facts: Mapping[str, Any]) -> str | None:
    """``all_texts`` of a trial, by its facts; None where it has not begun."""
    own = facts.get("data_fingerprint")
    return None if own is None else all_texts(str(own), mixed_of(facts))


SIMULATED = "simulated"
"""The fact ``device_kind`` of a trial that was made up: nothing was trained."""


@dataclass(frozen=True)
class Written:
    """What a checkpoint wrote after a prompt, without it; ``cut`` says that its time was up before it had ended."""

    text: str
    seconds: float
    cut: bool
