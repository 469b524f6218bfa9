"""One driver a study: a lock that dies with its process, on the store's own ground.
A file lock beside a SQLite file; an advisory lock inside PostgreSQL; nothing that needs cleaning up.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy
from filelock import FileLock, Timeout

from tuner.search.storage import MEMORY_URL, sqlite_file
from tuner.spec.errors import StudyLockedError


@contextlib.contextmanager
def study_lock(url: str, study: str, folder: Path) -> Iterator[None]:
    """Hold the right to drive ``study``; ``folder`` (runs/<study>) gets a note of who holds it.

    Raises:
        StudyLockedError: another driver has it; the sentence names its process where that is known.
    """
    note = folder / "driver.json"
    with contextlib.ExitStack() as held:
        if url.startswith("postgresql"):
            taken = held.enter_context(_advisory(url, study))
        elif url == MEMORY_URL:
            taken = True
        else:
            taken = held.enter_context(_file(url, study, folder))
        if not taken:
            raise StudyLockedError(
                f"study '{study}' is being run by another driver{_holder(note)}; wait for it or stop it."
            )
        folder.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%H:%M")}))
        try:
            yield
        finally:
            note.unlink(missing_ok=True)


@contextlib.contextmanager
def _file(url: str, study: str, folder: Path) -> Iterator[bool]:
    path = sqlite_file(url)
    beside = folder if path is None else path.parent
    beside.mkdir(parents=True, exist_ok=True)
    lock = FileLock(beside / (f".{study}.lock" if path is None else f".{path.name}.{study}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextlib.contextmanager
def _advisory(url: str, study: str) -> Iterator[bool]:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        query = sqlalchemy.text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
        yield bool(connection.execute(query, {"name": f"tuner:{study}"}).scalar())


def _holder(note: Path) -> str:
    try:
        who = json.loads(note.read_text())
        return f" (process {who['pid']} on {who['host']}, since {who['since']})"
    except (OSError, ValueError, KeyError):
        return ""
