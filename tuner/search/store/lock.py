"""One at a time: locks that die with their process, on the store's own ground and in a study's folder.
A file lock beside a SQLite file, an advisory lock inside PostgreSQL; nothing to clean up.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from tuner.search.store.address import sqlite_file
from tuner.search.store.advisory import Advisory
from tuner.spec.disk import note
from tuner.spec.errors import StoreError, StudyLockedError


class Lock(Protocol):
    """True if it was taken. ``renew`` asks again after the store was away: False where another process has it now."""

    def __bool__(self) -> bool: ...
    def renew(self) -> bool: ...


@dataclass(frozen=True)
class _Kept:
    """A lock that no outage takes away: the kernel's, or none at all."""

    taken: bool

    def __bool__(self) -> bool:
        return self.taken

    def renew(self) -> bool:
        return self.taken


@contextlib.contextmanager
def study_lock(url: str, study: str, folder: Path) -> Iterator[Callable[[], None]]:
    """Hold the right to drive ``study``; ``folder`` (runs/<study>) gets a note of who holds it.

    Yields what is to be called when the store was away, and raises StudyLockedError if another driver has come.

    Raises:
        StudyLockedError: another driver has it; the sentence names its process where that is known.
        StoreError: the store cannot be reached, or a folder cannot be written.
    """
    holder = folder / "driver.json"
    with contextlib.ExitStack() as held:
        here, lock = held.enter_context(_file(folder / "driver.lock")), None
        if not here or not (lock := held.enter_context(store_lock(url, f"study.{study}"))):
            raise StudyLockedError(
                f"study '{study}' is being run by another driver{_holder(holder)}; wait for it or stop it."
            )

        def renew() -> None:
            if not lock.renew():
                raise StudyLockedError(
                    f"study '{study}' was taken over by another driver while the trial store was away; it goes on "
                    "there."
                )

        who = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%H:%M")}
        try:
            with contextlib.suppress(OSError):  # a courtesy: on a full disk the lock is held all the same
                note(holder, json.dumps(who))
            yield renew
        finally:
            holder.unlink(missing_ok=True)


@contextlib.contextmanager
def store_lock(url: str, name: str, wait: float = 0.0) -> Iterator[Lock]:
    """Hold the lock ``name`` of a store; a false one where another process still has it after ``wait`` seconds.

    Raises:
        StoreError: the store cannot be reached, or its folder cannot be written.
    """
    path = sqlite_file(url)
    if path is not None:
        with _file(path.parent / f".{path.name}.{name}.lock", wait) as taken:
            yield _Kept(taken)
    elif url.startswith("postgresql"):
        with contextlib.closing(Advisory(url, name)) as lock:
            lock.take(wait)
            yield lock
    else:
        yield _Kept(True)


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


def _holder(path: Path) -> str:
    try:
        who = json.loads(path.read_text())
        return f" (process {who['pid']} on {who['host']}, since {who['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
