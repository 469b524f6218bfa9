"""What a study will do and cost, worked out before anything heavy is loaded or anything is created.
Arithmetic on the spec; estimates are called estimates and say what they stand on.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import sys
import timeit
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tuner.run.hands.local import plan_slots
from tuner.spec.budget import Unit
from tuner.spec.errors import DataError, InfeasibleError
from tuner.spec.study import StudySpec
from tuner.spec.trial import TrialSpec
from tuner.train.machine.capacity import divisions, limit_of
from tuner.train.model.memory import counted, memory_bytes
from tuner.train.model.shape import Shape, planned_steps
from tuner.train.text.corpus import corpus_info, foreseen_vocabulary
from tuner.train.text.mixed.mixture import require_there

if TYPE_CHECKING:
    from tuner.search.history import StudyRecord

SPEED_FILE = ".speed.json"
ASSUMED_VOCAB = {"byte": 257, "char": 100, "bpe": 1024, "file": 32_000}


@dataclass(frozen=True)
class Cost:
    """One trial: its shape, steps, tokens and FLOPs (None where the budget is in seconds), peak memory, disk."""

    shape: Shape
    steps: int | None
    tokens: float | None
    flops: float | None
    memory: int
    disk: int


@dataclass(frozen=True)
class Plan:
    """A study's cost: the trial as written, the range over the space, and the time if nothing is pruned.

    ``limit`` is what one trial may take of the memory, None where a GPU's decides; ``unfit`` the share of the space
    that cannot do with it. Trials train on the Ray cluster of the address ``cluster``, where ``slots``, ``threads``
    and ``seconds`` say nothing, or here.
    """

    trial: TrialSpec
    vocab: int
    vocab_known: bool
    base: Cost
    smallest: int
    largest: int
    memory: int
    disk: int
    slots: int
    threads: int
    seconds: float
    measured: bool
    limit: int | None
    unfit: float
    cluster: str | None = None


def vocabulary(trial: TrialSpec, corpora: Path) -> tuple[int, bool]:
    """The vocabulary and whether it is known: from the built corpus, a small text, the spec; else assumed."""
    info = corpus_info(trial.data, corpora)
    if info is not None:
        return info.vocab, True
    foreseen = foreseen_vocabulary(trial.data)
    if foreseen is not None:
        return foreseen, True
    tokenizer = trial.data.tokenizer
    return tokenizer.vocab or ASSUMED_VOCAB[tokenizer.kind], tokenizer.kind in ("byte", "bpe")


def _vocabularies(spec: StudySpec, trials: list[TrialSpec], corpora: Path, written: int) -> list[int]:
    """The vocabulary of each trial; ``written`` is that of the tokenizer as written. A text is read once a tokenizer
    whose size only the text tells.
    """
    known = {spec.trial.data.tokenizer: written}
    for trial in trials:
        if (tokenizer := trial.data.tokenizer) not in known:
            try:
                told = tokenizer.vocab if tokenizer.kind == "bpe" else vocabulary(trial, corpora)[0]
            except DataError:  # said when the trial runs
                told = None
            known[tokenizer] = told or ASSUMED_VOCAB[tokenizer.kind]
    return [known[trial.data.tokenizer] for trial in trials]


def cost(trial: TrialSpec, vocab: int) -> Cost:
    """Count one trial. Checkpoints (last and best) hold 12 bytes a parameter each."""
    counts = counted(trial, vocab)
    steps = planned_steps(trial.budget, trial.tokens_per_step, counts.flops_per_token)
    tokens = None if steps is None else float(steps) * trial.tokens_per_step
    flops = None if tokens is None else tokens * counts.flops_per_token
    return Cost(counts, steps, tokens, flops, memory_bytes(trial.share, vocab), 2 * 12 * counts.parameters)


def remote_limit(spec: StudySpec) -> int | None:
    """What each process of a trial may take on a Ray cluster's node; None where nobody has said."""
    study = spec.study
    limit = study.resources.memory if study.memory == "auto" else study.memory
    return None if limit is None else limit // spec.trial.devices


def make_plan(spec: StudySpec, runs: Path, devices: list[str], cluster: str | None = None) -> Plan:
    """Work out a study's cost; 100 seeded random points stand for the space."""
    require_there(spec.trial.data)
    vocab, known = vocabulary(spec.trial, runs / ".corpora")
    each = spec.trial.devices
    places, threads = plan_slots(spec.study.at_once, devices, spec.study.most, each)
    slots = len(places) // each
    trials = sample(spec)
    vocabularies = _vocabularies(spec, trials, runs / ".corpora", vocab)
    costs = [cost(*each) for each in zip(trials, vocabularies, strict=True)] or [cost(spec.trial, vocab)]
    parameters = [c.shape.parameters for c in costs]
    limit = limit_of(spec.study.memory, slots, bool(devices), each) if cluster is None else remote_limit(spec)
    least = [_least(*each) for each in zip(trials, vocabularies, strict=True)]
    kept = spec.study.keep if spec.study.against is None else spec.study.trials  # all of them may be on the front
    keep = sorted((c.disk for c in costs), reverse=True)[: kept + slots]
    return Plan(
        trial=spec.trial,
        vocab=vocab,
        vocab_known=known,
        base=cost(spec.trial, vocab),
        smallest=min(parameters),
        largest=max(parameters),
        memory=min(max(c.memory for c in costs), limit or sys.maxsize) * len(places),
        disk=sum(keep),
        slots=slots,
        threads=threads,
        seconds=_seconds(spec, costs, slots, runs),
        measured=spec.trial.budget.unit is Unit.SECONDS or known_speed(runs, slots) is not None,
        limit=limit,
        unfit=sum(limit is not None and needed > limit for needed in least) / max(1, len(least)),
        cluster=cluster,
    )


def _least(trial: TrialSpec, vocab: int) -> int:
    """Bytes that a trial needs in the smallest micro-batches it may have."""
    share = trial.share
    return memory_bytes(share.model_copy(update={"accumulate": divisions(share)[-1]}), vocab)


def sample(spec: StudySpec, count: int = 100) -> list[TrialSpec]:
    """Feasible trials at random points of the space, the same ones every time."""
    rng = random.Random(0)
    return list(_feasible(spec, rng, count))


def _feasible(spec: StudySpec, rng: random.Random, count: int) -> Iterator[TrialSpec]:
    for _ in range(count):
        try:
            yield spec.resolve(spec.draw(rng))
        except InfeasibleError:
            continue


def _seconds(spec: StudySpec, costs: list[Cost], slots: int, runs: Path) -> float:
    """Time for all trials if none is pruned, within the study's total."""
    totals = spec.study.totals
    most = math.inf if totals is None or totals.seconds is None else totals.seconds
    return min(most, _seconds_of_all(spec, costs, slots, runs))


def _seconds_of_all(spec: StudySpec, costs: list[Cost], slots: int, runs: Path) -> float:
    rounds = math.ceil(spec.study.most / slots)
    if spec.trial.budget.unit is Unit.SECONDS:
        return rounds * spec.trial.budget.amount
    flops = statistics.fmean(c.flops or 0.0 for c in costs)
    return rounds * flops / (known_speed(runs, slots) or guessed_speed(slots))


def known_speed(runs: Path, slots: int) -> float | None:
    """FLOPs a second of one worker among ``slots``, as the last study in this folder measured it."""
    try:
        return float(json.loads((runs / SPEED_FILE).read_text())[str(slots)])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def guessed_speed(slots: int) -> float:
    """FLOPs a second of one worker from a matrix product: small GPTs came to about half of it here."""
    matrix = np.ones((384, 384), np.float32)
    best = min(timeit.repeat(lambda: matrix @ matrix, number=10, repeat=5)) / 10
    return 0.5 * 2 * 384**3 / best / slots


def remember_speed(runs: Path, slots: int, record: StudyRecord) -> None:
    """Keep for the next plan what the trials that a study has run here came to."""
    from tuner.search.history import IMPORTED

    own = [trial for trial in record.trials if IMPORTED not in trial.facts]
    spent = [(t.facts.get("flops"), t.facts.get("seconds")) for t in own]
    pairs = [(float(f), float(s)) for f, s in spent if isinstance(f, float | int) and isinstance(s, float | int)]
    flops, seconds = sum(f for f, _ in pairs), sum(s for _, s in pairs)
    if seconds <= 0:
        return
    try:
        known = json.loads((runs / SPEED_FILE).read_text())
    except (OSError, ValueError):
        known = {}
    (runs / SPEED_FILE).write_text(json.dumps({**known, str(slots): flops / seconds}))
