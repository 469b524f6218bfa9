"""Studies made by hand: records of trials on a real spec, and histories of every kind for property tests."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from tuner.search.history import StudyRecord, TrialRecord
from tuner.spec.load import parse
from tuner.spec.records import Value

YAML = """
name: hand
trial: {optim: {warmup: 0.05}, budget: 400k tokens}
space:
  optim.lr:      {float: [1e-4, 1e-2], log: true}
  optim.warmup:  {float: [0.0, 0.2]}
  batch:         {choice: [4, 8, 16]}
  model.width:   {int: [64, 256], step: 32}
  optim.kind:    {choice: [adamw, muon]}
  optim.muon.lr: {float: [1e-3, 1e-1], log: true, when: {optim.kind: muon}}
  seed:          {choice: [1, 2, 3]}
study: {trials: 24, milestones: 4}
"""

BEGIN = datetime(2026, 1, 1)

POINT: Mapping[str, Value] = {
    "optim.lr": 1e-3, "optim.warmup": 0.1, "batch": 8, "model.width": 128, "optim.kind": "adamw", "seed": 1,
}  # fmt: skip


def trial(
    number: int,
    value: float | None = None,
    state: str = "complete",
    milestones: Mapping[int, float] | None = None,
    reason: str = "",
    facts: Mapping[str, Value] | None = None,
    **point: Value,
) -> TrialRecord:
    """One trial; ``optim_lr=...`` changes its point at optim.lr. It took a minute for each milestone."""
    if milestones is None:
        milestones = {} if value is None else {k: value + 0.1 * (4 - k) for k in range(1, 5)}
    reached = max(milestones, default=0)
    spent: dict[str, Value] = {"tokens": 100_000 * reached, "seconds": 60.0 * reached, "flops": 1e9 * reached}
    started = None if state == "queued" else BEGIN + timedelta(minutes=10 * number)
    ended = None if state in ("queued", "running") or started is None else started + timedelta(minutes=reached + 1)
    changed = {name.replace("_", "."): setting for name, setting in point.items()}
    return TrialRecord(
        number, state, reason, {**POINT, **changed}, value, milestones, {**spent, **(facts or {})}, started, ended
    )


def study(*trials: TrialRecord, text: str = YAML) -> StudyRecord:
    spec = _spec(text)
    return StudyRecord(spec["name"], spec, trials)


@functools.cache
def _spec(text: str) -> dict[str, Any]:
    return parse(text).model_dump(mode="json")


LOSS = st.floats(0.5, 5, allow_nan=False) | st.sampled_from([1.5, math.nan, math.inf])
ENDS = ("complete", "pruned", "infeasible", "diverged", "failed", "running", "queued")


@st.composite
def _trial(draw: Any, number: int) -> TrialRecord:
    state = draw(st.sampled_from(ENDS))
    reached = {"complete": 4, "queued": 0, "infeasible": 0}.get(state)
    if reached is None:
        reached = draw(st.integers(1 if state == "pruned" else 0, 3))
    milestones = {k: draw(LOSS) for k in range(1, reached + 1)}
    value = draw(st.floats(0.5, 5) | st.just(1.5)) if state == "complete" else None
    point = {"batch": draw(st.sampled_from([4, 8, 16])), "seed": draw(st.sampled_from([1, 2, 3]))}
    return trial(number, value, state, milestones, reason=draw(st.sampled_from(["", "loss nan at step 12"])), **point)


@st.composite
def histories(draw: Any, most: int = 25) -> StudyRecord:
    """Studies of any trials in any states, also none, with losses that tie, are NaN or infinite."""
    count = draw(st.integers(0, most))
    return study(*(draw(_trial(number)) for number in range(count)))
