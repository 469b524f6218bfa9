"""Crash points: where durable state changes, by name, and a process that kills itself at the n-th of them.

The points are those of the operating system and of the databases (a write, a sync, a rename, a deletion, a commit) and
those of the platform's own words (ask, report, tell ...). Nothing of it is known to the product: a child process of a
test wraps the functions of its own copy, so any change of the product is held to the same law.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

SYSTEM = {
    "write": "os:write",
    "sync": "os:fsync",
    "rename": "os:rename",
    "replace": "os:replace",
    "delete": "os:unlink",
    "delete folder": "os:rmdir",
    "make folder": "os:mkdir",
}
STUDY = SYSTEM | {
    "commit": "sqlalchemy.engine.default:DefaultDialect.do_commit",
    "claim": "tuner.run.folder:claim",
    "open": "tuner.search.asktell:Search.__init__",
    "ask": "tuner.search.asktell:Search._ask",
    "choose": "tuner.search.asktell:Search._chosen",
    "note": "tuner.search.asktell:Search.note",
    "report": "tuner.search.asktell:Search.report",
    "tell": "tuner.search.asktell:Search.tell",
    "repeat": "tuner.search.asktell:Search.ask_again",
    "link": "tuner.search.asktell:Search.link_runs",
    "spool": "tuner.tracking.spool:Spool.append",
    "mirror": "tuner.tracking.mlflow:Writer._send",
    "cursor": "tuner.tracking.mlflow:write_cursor",
    "retention": "tuner.run.retention:_delete",
}
TRIAL = SYSTEM | {
    "weights": "tuner.train.checkpoint:save_file",
    "checkpoint": "tuner.train.checkpoint:save",
    "old checkpoints": "tuner.train.checkpoint:retain",
    "capacity": "tuner.train.machine.capacity:write_note",
}
"""Label -> module:attribute, of a whole study on fake hands and of one trial in its worker."""


WARM = [
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "tuner.analysis.table",
    "tuner.run.driver",
    "tuner.train.fit",
]
"""What a child needs and takes seconds to load."""


class Point(NamedTuple):
    """The ``nth`` time that ``label`` is reached, ``before`` or after it is done."""

    label: str
    nth: int
    before: bool

    def __str__(self) -> str:
        return f"{'before' if self.before else 'after'} {self.label} {self.nth}"


def arm(points: dict[str, str], reached: Callable[[Point], None]) -> None:
    """Wrap every function of ``points`` in this process; ``reached`` hears before and after each of its calls."""
    counts: Counter[str] = Counter()

    def wrapped(label: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            counts[label] += 1
            nth = counts[label]
            reached(Point(label, nth, True))
            try:
                return real(*args, **kwargs)
            finally:
                reached(Point(label, nth, False))

        return call

    for label, where in points.items():
        module, _, path = where.partition(":")
        owner: Any = importlib.import_module(module)
        *inner, name = path.split(".")
        for part in inner:
            owner = getattr(owner, part)
        setattr(owner, name, wrapped(label, getattr(owner, name)))


def _child(job: Callable[[], None], points: dict[str, str], kill: Point | None, lose: bool) -> None:
    seen: list[Point] = []

    def reached(point: Point) -> None:
        seen.append(point)
        if point == kill and lose:
            raise sqlite3.OperationalError("database is locked")
        if point == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    write = os.write
    arm(points, reached)
    job()
    if kill is None and points:
        listing = json.dumps(seen).encode()
        handle = os.open("points.json", os.O_WRONLY | os.O_CREAT)
        write(handle, listing)
        os.close(handle)
    os._exit(0)


def start(
    job: Callable[..., None],
    *args: Any,
    points: dict[str, str] | None = None,
    kill: Point | None = None,
    lose: bool = False,
    **options: Any,
) -> BaseProcess:
    """Do ``job`` in a fresh process of a warm fork server, to be killed at ``kill``; with ``lose`` that call of the
    database fails instead, before it is done or after it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(WARM)
    process = context.Process(target=_child, args=(functools.partial(job, *args, **options), points or {}, kill, lose))
    process.start()
    return process


def run(job: Callable[..., None], *args: Any, **how: Any) -> int:
    """Do ``job`` as ``start`` does and wait for its end; the exit code."""
    process = start(job, *args, **how)
    process.join()
    code = process.exitcode
    process.close()
    assert code is not None
    return code


def counted(folder: Path, until: str | None = None) -> Counter[str]:
    """How often each label was reached by an undisturbed ``run`` with points in ``folder``, or before ``until`` was."""
    found: Counter[str] = Counter()
    for label, nth, _ in json.loads((folder / "points.json").read_text()):
        if label == until:
            break
        found[label] = max(found[label], nth)
    return found


def chosen(counts: Counter[str], each: int) -> list[Point]:
    """At most ``each`` calls of every label, the first, the last and evenly between, before and after."""
    points = []
    for label, count in counts.items():
        wanted = min(each, count)
        nths = {1 + round(k * (count - 1) / max(1, wanted - 1)) for k in range(wanted)}
        points += [Point(label, nth, before) for nth in sorted(nths) for before in (True, False)]
    return points


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[bool]:
    """Make ``folder`` a file system of its own meanwhile, of ``size`` bytes; False where this user may not."""
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = shutil.which("mount") is not None and subprocess.run(words, capture_output=True).returncode == 0
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", "-l", str(folder)], check=True)
