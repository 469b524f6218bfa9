"""One at a time: locks that die with their process, on the store's own ground and in a study's folder.
A file lock beside a SQLite file, an advisory lock inside PostgreSQL; nothing to clean up.
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

from tuner.search.store.storage import sqlite_file, store_errors
from tuner.spec.disk import note
from tuner.spec.errors import StoreError, StudyLockedError


@contextlib.contextmanager
def study_lock(url: str, study: str, folder: Path) -> Iterator[None]:
    """Hold the right to drive ``study``; ``folder`` (runs/<study>) gets a note of who holds it.

    Raises:
        StudyLockedError: another driver has it; the sentence names its process where that is known.
        StoreError: the store cannot be reached, or a folder cannot be written.
    """
    holder = folder / "driver.json"
    with contextlib.ExitStack() as held:
        if not (
            held.enter_context(_file(folder / "driver.lock")) and held.enter_context(store_lock(url, f"study.{study}"))
        ):
            raise StudyLockedError(
                f"study '{study}' is being run by another driver{_holder(holder)}; wait for it or stop it."
            )
        note(holder, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%H:%M")}))
        try:
            yield
        finally:
            holder.unlink(missing_ok=True)


@contextlib.contextmanager
def store_lock(url: str, name: str, wait: float = 0.0) -> Iterator[bool]:
    """Hold the lock ``name`` of a store; False where another process still has it after ``wait`` seconds.

    Raises:
        StoreError: the store cannot be reached, or its folder cannot be written.
    """
    path = sqlite_file(url)
    if path is not None:
        with _file(path.parent / f".{path.name}.{name}.lock", wait) as taken:
            yield taken
    elif url.startswith("postgresql"):
        with _advisory(url, name, wait) as taken:
            yield taken
    else:
        yield True


@contextlib.contextmanager
def _file(path: Path, wait: float = 0.0) -> Iterator[bool]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path.parent}: expected a folder to write in, got '{error.strerror}'.") from error
    if not os.access(path.parent, os.W_OK):
        raise StoreError(f"{path.parent}: cannot be written; run in a folder of your own.")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextlib.contextmanager
def _advisory(url: str, name: str, wait: float) -> Iterator[bool]:
    with store_errors(url):
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool, isolation_level="AUTOCOMMIT")
        connection = engine.connect()
    with contextlib.closing(connection):
        query = sqlalchemy.text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
        until = time.monotonic() + wait
        while not (taken := bool(connection.execute(query, {"name": f"tuner:{name}"}).scalar())):
            if time.monotonic() >= until:
                break
            time.sleep(0.1)
        yield taken


def _holder(path: Path) -> str:
    try:
        who = json.loads(path.read_text())
        return f" (process {who['pid']} on {who['host']}, since {who['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
