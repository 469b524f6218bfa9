"""One trial's local record: an append-only file of JSON lines, each with its checksum; always written first.
No network and no MLflow here: what is in the spool survives whatever happens to them.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuner.spec.disk import force
from tuner.spec.errors import StoreError
from tuner.spec.records import Measurement, Outcome, Spent, State, Value
from tuner.tracking.base import Kept, merge

SPOOL = "spool.jsonl"
_SEAL = re.compile(rb',"crc":"([0-9a-f]{8})"}$')
_SEAL_BYTES = 18


@dataclass(frozen=True)
class Start:
    """The first record: when, the searched params, tags, and the TrialSpec as JSON-ready data."""

    time_ms: int
    params: Mapping[str, Value]
    tags: Mapping[str, str]
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class Resume:
    """The trial goes on for the ``count``-th time."""

    time_ms: int
    count: int
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Tags:
    time_ms: int
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Finish:
    time_ms: int
    outcome: Outcome
    tags: Mapping[str, str]


Record = Start | Resume | Tags | Finish | Measurement
"""One line of a spool; a row of metrics is a Measurement with its time."""


@dataclass(frozen=True)
class SpoolContent:
    """A whole spool: one row a step, of one that reached several milestones a row for each, in the order of steps;
    ``finish`` None while the trial runs (again); ``damaged`` lines skipped.

    ``tags`` are those of all records, the last value of each; ``resumes`` counts how often the trial went on.
    """

    start: Start | None
    rows: tuple[Measurement, ...]
    finish: Finish | None
    tags: Mapping[str, str]
    resumes: int
    damaged: int


class Spool:
    """The writer of one spool file. Opening cuts a torn last line off, so that no append can glue to it.

    ``started``, ``resumes``, ``kept`` (the rows) and ``latest`` (the latest time, in milliseconds, also of what is
    appended) say what the file held; ``cut`` is the number of bytes cut off.

    Raises:
        StoreError: the file cannot be opened or read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            data = path.read_bytes()
            self._size = data.rfind(b"\n") + 1
            self.cut = len(data) - self._size
            if self.cut:
                os.ftruncate(self._file, self._size)
        except OSError as error:
            raise _refused(path, error) from error
        records = decode_lines(data[: self._size])[0]
        self.latest = max((record.time_ms for record in records), default=0)
        content = collect(records)
        self.started = content.start is not None
        self.resumes = content.resumes
        self.kept = Kept()
        for record in records:
            if isinstance(record, Measurement):
                self.kept = self.kept.after(record)
        self._fresh = not data

    def append(self, record: Record, *, durable: bool) -> None:
        """Write one record whole or not at all; ``durable`` waits until the disk has it.

        Raises:
            StoreError: the disk refused it; the file is as it was before.
        """
        line = encode(record)
        try:
            try:
                written = os.write(self._file, line)
                if written != len(line):
                    raise OSError(f"{written} of {len(line)} bytes were written; the disk may be full")
                if durable:
                    os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, self._size)
                raise
            if self._fresh:
                force(self.path.parent)  # else a power failure may forget the file's name
                self._fresh = False
        except OSError as error:
            raise _refused(self.path, error) from error
        self._size += len(line)
        self.latest = max(self.latest, record.time_ms)

    def close(self) -> None:
        os.close(self._file)


def read_spool(path: Path) -> SpoolContent:
    """Read a whole spool, also one that is being written. A torn last line counts as damaged.

    Raises:
        StoreError: there is no such file, or it cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"{path}: expected a trial's spool, got '{error.strerror or error}'; `tuner trials` lists what is stored"
        ) from error
    records, damaged = decode_lines(data)
    return collect(records, damaged)


def collect(records: Iterable[Record], damaged: int = 0) -> SpoolContent:
    """Put the records of a spool together (pure)."""
    start: Start | None = None
    rows: list[Measurement] = []
    finish: Finish | None = None
    tags: dict[str, str] = {}
    resumes = 0
    for record in records:
        match record:
            case Measurement():
                merged = merge(rows[-1] if rows else None, record)
                rows[-1 if rows and merged is not record else len(rows) :] = [merged]
                continue
            case Start():
                start = record
            case Resume():
                finish, resumes = None, record.count
            case Finish():
                finish = record
        tags.update(record.tags)
    rows.sort(key=lambda row: row.spent.steps)  # a resumed trial may reach a milestone at an earlier step
    return SpoolContent(start, tuple(rows), finish, tags, resumes, damaged)


def decode_lines(data: bytes) -> tuple[list[Record], int]:
    """The records in ``data``, and the number of lines that are torn, flipped or of no known kind."""
    records: list[Record] = []
    damaged = 0
    lines = data.split(b"\n")
    for line in lines[:-1]:
        try:
            records.append(decode(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            damaged += 1
    return records, damaged + bool(lines[-1])


def encode(record: Record) -> bytes:
    """One record as a line of valid JSON whose last member is the crc32 of everything before it."""
    match record:
        case Measurement(spent, metrics, milestone, time_ms, samples, confusion):
            data: dict[str, Any] = {"kind": "row", "time_ms": time_ms, **asdict(spent)}
            if milestone is not None:
                data["milestone"] = milestone
            data["metrics"] = {key: _finite_or_word(float(value)) for key, value in metrics.items()}
            if samples:
                data["samples"] = list(samples)
            if confusion:
                data["confusion"] = confusion
        case Finish(time_ms, outcome, tags):
            data = {"kind": "finish", "time_ms": time_ms, **asdict(outcome), "tags": dict(tags)}
        case Start(time_ms, params, tags, spec):
            data = {"kind": "start", "time_ms": time_ms, "params": dict(params), "tags": dict(tags)}
            data["spec"] = dict(spec)
        case Resume(time_ms, count, tags):
            data = {"kind": "resume", "time_ms": time_ms, "count": count, "tags": dict(tags)}
        case Tags(time_ms, tags):
            data = {"kind": "tags", "time_ms": time_ms, "tags": dict(tags)}
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate (a reason with undecodable bytes) becomes \udcXX, which is JSON's own way to write it.
    body = text.encode("utf-8", "backslashreplace")[:-1]
    return body + b',"crc":"%08x"}\n' % zlib.crc32(body)


def decode(line: bytes) -> Record:
    """Read one line without its newline.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is damaged or of no known kind.
    """
    seal = _SEAL.search(line)
    if not seal or zlib.crc32(line[:-_SEAL_BYTES]) != int(seal[1], 16):
        raise ValueError("the checksum does not match")
    data = json.loads(line)
    time_ms = data["time_ms"]
    match data["kind"]:
        case "row":
            spent = Spent(data["steps"], data["tokens"], data["flops"], data["seconds"])
            metrics = {key: float(value) for key, value in data["metrics"].items()}
            samples = tuple(str(text) for text in data.get("samples", ()))
            confusion = tuple(tuple(int(n) for n in row) for row in data.get("confusion", ()))
            return Measurement(spent, metrics, data.get("milestone"), time_ms, samples, confusion)
        case "start":
            return Start(time_ms, data["params"], data["tags"], data["spec"])
        case "finish":
            outcome = Outcome(State(data["state"]), data["reason"], data["checkpoint"], data["sha256"])
            return Finish(time_ms, outcome, data["tags"])
        case "resume":
            return Resume(time_ms, data["count"], data["tags"])
        case "tags":
            return Tags(time_ms, data["tags"])
    raise ValueError(f"unknown kind {data['kind']!r}")


def _finite_or_word(value: float) -> float | str:
    """JSON has no NaN: 'nan', 'inf' and '-inf' are written as words, which float() reads back."""
    return value if abs(value) < float("inf") else str(value)


def _refused(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{path}: expected to write the trial's record, got '{error.strerror or error}'; "
        "free space or mend the folder's rights, then run the same command again: it goes on from here"
    )
