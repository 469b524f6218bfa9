"""From spool records to what MLflow takes: params, tags and metrics in batches, and a run status.
Pure functions on records; nothing here imports MLflow or reads a file.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any, NamedTuple, TypeVar

from tuner.spec.records import Measurement, State
from tuner.tracking.spool import Finish, Record, Resume, Start

# MLflow refuses more a call: 1000 entries in all, of which 100 params and 100 tags, in 1e6 bytes of JSON.
METRICS, PARAMS, TAGS, BYTES = 800, 100, 100, 300_000
PARAM_CHARS, TAG_CHARS, NAME_CHARS = 6000, 5000, 250  # tags: 8000 now, 5000 on older servers
_STATUS = {
    State.COMPLETE: "FINISHED",
    State.PRUNED: "KILLED",
    State.INFEASIBLE: "KILLED",
    State.DIVERGED: "FAILED",
    State.FAILED: "FAILED",
    State.INTERRUPTED: "KILLED",
}
"""State -> MLflow's word, which has none for pruned: the tag tuner.state says it exactly."""


class Metric(NamedTuple):
    key: str
    value: float
    time_ms: int
    step: int


class Gap(NamedTuple):
    """A metric that was not a finite number: what it was first, at which step, and how often."""

    value: str
    step: int
    times: int


@dataclass(frozen=True)
class Batch:
    """The arguments of one log_batch call."""

    metrics: tuple[Metric, ...] = ()
    params: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Status:
    """A run's status in MLflow's word, and its end in ms since the epoch; None while it runs."""

    word: str
    end_ms: int | None


@dataclass(frozen=True)
class Plan:
    """What some records mean for a run: start record if among them, batches, last status, gaps so far.

    ``texts`` are the samples and confusion matrices of milestones: path of an artifact -> its content.
    """

    start: Start | None
    batches: tuple[Batch, ...]
    status: Status | None
    gaps: Mapping[str, Gap]
    texts: Mapping[str, str]


def plan(records: Iterable[Record], gaps: Mapping[str, Gap], *, damaged: int = 0, since: int | None = None) -> Plan:
    """Turn records, in spool order, into a Plan; the same records give the same Plan, times included.

    MLflow stores infinity as 1.8e308 and draws NaN as a hole: neither is logged. Instead the tag
    ``tuner.nonfinite`` names metric, value, first step and count; ``gaps`` are those of the records before.
    ``damaged`` lines so far, where there are any, become the tag ``tuner.damaged_lines``. Metrics from
    before ``since`` (ms since the epoch) are in the store already and left out.
    """
    start: Start | None = None
    status: Status | None = None
    metrics: list[Metric] = []
    tags: dict[str, str] = {}
    texts: dict[str, str] = {}
    seen = dict(gaps)
    for record in records:
        match record:
            case Measurement():
                if record.samples:  # always: which artifacts the store has is not asked
                    texts[f"samples/milestone-{record.milestone or 0:02d}.txt"] = _numbered(record.samples)
                if record.confusion:
                    texts[f"confusion/milestone-{record.milestone or 0:02d}.json"] = json.dumps(record.confusion)
                for metric in row_metrics(record):
                    if math.isfinite(metric.value):
                        if since is None or metric.time_ms >= since:
                            metrics.append(metric)
                    else:
                        first = seen.get(metric.key, Gap(str(metric.value), metric.step, 0))
                        seen[metric.key] = first._replace(times=first.times + 1)
                continue
            case Start():
                start, status = record, Status("RUNNING", None)
                tags.update({"tuner.state": "running"})
            case Resume():
                status = Status("RUNNING", None)
                tags.update({"tuner.state": "running", "tuner.reason": "", "tuner.resumed": str(record.count)})
            case Finish(time_ms, outcome):
                status = Status(_STATUS[outcome.state], time_ms)
                tags.update({"tuner.state": outcome.state.value, "tuner.reason": outcome.reason})
        tags.update(record.tags)
    if seen != dict(gaps):
        tags["tuner.nonfinite"] = ", ".join(
            f"{key} {gap.value} at step {gap.step}" + (f" (and {gap.times - 1} later)" if gap.times > 1 else "")
            for key, gap in seen.items()
        )
    if damaged:
        tags["tuner.damaged_lines"] = str(damaged)
    params = {**_texts(start.params), **_texts(flatten(start.spec))} if start else {}
    return Plan(start, tuple(pack(metrics, params, tags)), status, seen, texts)


def row_metrics(row: Measurement) -> Iterator[Metric]:
    """Metrics, what was spent, and the milestone where there is one; all at step ``spent.steps``."""
    spent = asdict(row.spent)
    step = spent.pop("steps")
    values = {name(key): value for key, value in row.metrics.items()} | spent
    if row.milestone is not None:
        values["milestone"] = row.milestone
    for key, value in values.items():
        yield Metric(key, float(value), row.time_ms, step)


def flatten(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted path -> leaf; a list is a leaf."""
    leaves: dict[str, Any] = {}
    for key, value in spec.items():
        if isinstance(value, Mapping):
            leaves |= flatten(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def pack(metrics: Sequence[Metric], params: Mapping[str, str], tags: Mapping[str, str]) -> Iterator[Batch]:
    """Fill as few batches as MLflow's limits on counts and bytes allow."""
    clean_params = {name(key): cut(value, PARAM_CHARS) for key, value in params.items()}
    clean_tags = {name(key): cut(value, TAG_CHARS) for key, value in tags.items()}
    for some_metrics, some_params, some_tags in zip_longest(
        _chunks(metrics, METRICS),
        _chunks(clean_params.items(), PARAMS),
        _chunks(clean_tags.items(), TAGS),
        fillvalue=(),
    ):
        yield Batch(tuple(some_metrics), tuple(some_params), tuple(some_tags))


def name(key: str) -> str:
    """``key`` in the letters MLflow accepts: others become '_', as do paths that lead elsewhere."""
    clean = re.sub(r"[^A-Za-z0-9_.\- :/]", "_", key)[:NAME_CHARS]
    if posixpath.normpath(clean) != clean or clean == "." or clean.startswith(("..", "/")):
        clean = "_" + re.sub(r"[./]", "_", clean)[: NAME_CHARS - 1]
    return clean


def cut(text: str, limit: int) -> str:
    """``text`` as valid UTF-8 without NUL; over ``limit`` characters, its head and a note of its length."""
    clean = text.encode("utf-8", "replace").decode().replace("\0", "?")
    if len(clean) <= limit:
        return clean
    note = f" ... (cut, {len(clean)} characters)"
    return clean[: limit - len(note)] + note


def _numbered(samples: Sequence[str]) -> str:
    clean = (text.encode("utf-8", "replace").decode() for text in samples)
    return "\n".join(f"--- sample {number}\n{text}\n" for number, text in enumerate(clean, start=1))


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """As MLflow's own clients write them: str() of a scalar, JSON of a list."""
    return {k: json.dumps(v) if isinstance(v, list | tuple) else str(v) for k, v in values.items()}


T = TypeVar("T")


def _chunks(items: Iterable[T], count: int) -> Iterator[list[T]]:
    """At most ``count`` items and about BYTES bytes of JSON a chunk."""
    chunk: list[T] = []
    size = 0
    for item in items:
        cost = len(json.dumps(item)) + 60
        if chunk and (len(chunk) == count or size + cost > BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += cost
    if chunk:
        yield chunk
