"""The curves of trials on any axis, and the texts they wrote, from their spools.
Reads files of the study's folder; a trial without one has the milestones of its record.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tuner.search.history import RUNNING, StudyRecord, TrialRecord
from tuner.spec.budget import Budget
from tuner.spec.errors import StoreError
from tuner.spec.records import Measurement
from tuner.tracking.spool import SPOOL, read_spool

MOST = 200
"""Rows a trial: more than a screen can show apart."""

SPENT = ("step", "tokens", "flops", "seconds")
LOSSES = ("train_loss", "val_loss", "val_bpb")


def curves(record: StudyRecord, numbers: Sequence[int], folder: Path) -> pd.DataFrame:
    """Long: ``number``, ``step``, ``tokens``, ``flops``, ``seconds``, ``train_loss``, ``val_loss``, ``val_bpb``,
    the study's metric, ``milestone`` (NaN where there is none), at most 200 rows a trial, in the order of their steps.

    ``folder`` holds the studies (``runs``). Without a spool the milestones of the record stand for the curve, what
    was spent there taken as their share of all that the trial spent. Seconds are training seconds.

    Raises:
        StoreError: the study has no such trial.
    """
    rows: list[tuple[float, ...]] = []
    told = tuple(dict.fromkeys([*LOSSES, record.metric]))
    for number in dict.fromkeys(numbers):
        trial = record.find(number)
        kept = measured(record, number, folder)
        found = (_row(row, told) for row in _thinned(kept)) if kept else _milestones(record, trial, told)
        rows += [(number, *row) for row in found]
    table = pd.DataFrame(rows, columns=["number", *SPENT, *told, "milestone"], dtype=np.float64)
    return table.astype({"number": np.int64})


def samples(record: StudyRecord, number: int, folder: Path) -> pd.DataFrame:
    """The texts a trial wrote: ``milestone``, ``index`` (from 0), ``text``; empty where it wrote none.

    Raises:
        StoreError: the study has no such trial.
    """
    record.find(number)
    found = [
        (row.milestone, index, text)
        for row in measured(record, number, folder)
        if row.milestone is not None
        for index, text in enumerate(row.samples)
    ]
    table = pd.DataFrame(found, columns=["milestone", "index", "text"], dtype=object)
    return table.astype({"milestone": np.int64, "index": np.int64})


def first_result(record: StudyRecord, folder: Path) -> float | None:
    """Seconds of training until a running trial reaches its first milestone, by its speed so far.

    The soonest of the running ones; None where none has a row yet.
    """
    budget = Budget.parse(str(record.spec["trial"]["budget"]))
    wanted = budget.amount / int(record.spec["study"]["milestones"])
    waits = []
    for trial in record.trials:
        rows = measured(record, trial.number, folder) if trial.state == RUNNING and not trial.milestones else ()
        if rows and (done := float(getattr(rows[-1].spent, budget.unit.name.lower()))) > 0:
            waits.append(max(0.0, (wanted - done) * rows[-1].spent.seconds / done))
    return min(waits, default=None)


def measured(record: StudyRecord, number: int, folder: Path) -> tuple[Measurement, ...]:
    """The rows that a trial's spool below ``folder`` holds; nothing where there is none."""
    path = folder / record.name / str(number) / SPOOL
    try:
        return read_spool(path).rows
    except StoreError:
        return ()


def _thinned(rows: Sequence[Measurement]) -> list[Measurement]:
    """At most MOST rows, evenly taken, first and last among them; those with a validation before the others."""
    if len(rows) <= MOST:
        return list(rows)
    dear = [i for i, row in enumerate(rows) if "val_loss" in row.metrics or i in (0, len(rows) - 1)]
    dear_set = set(dear)
    rest = [i for i in range(len(rows)) if i not in dear_set]
    kept = _even(dear, MOST)
    return [rows[i] for i in sorted([*kept, *_even(rest, MOST - len(kept))])]


def _even(items: Sequence[int], most: int) -> list[int]:
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / max(1, most - 1))] for i in range(most)]


def _row(row: Measurement, told: Sequence[str]) -> tuple[float, ...]:
    spent = (row.spent.steps, row.spent.tokens, row.spent.flops, row.spent.seconds)
    losses = (row.metrics.get(name, math.nan) for name in told)
    return (*spent, *losses, math.nan if row.milestone is None else row.milestone)


def _milestones(record: StudyRecord, trial: TrialRecord, told: Sequence[str]) -> Iterator[tuple[float, ...]]:
    reached = max(trial.milestones, default=0)
    spent = [trial.facts.get(name) for name in ("steps", "tokens", "flops", "seconds")]
    for k, loss in sorted(trial.milestones.items()):
        shares = (k / reached * value if isinstance(value, int | float) else math.nan for value in spent)
        losses = (loss if name == record.metric else math.nan for name in told)
        yield (*shares, *losses, k)
