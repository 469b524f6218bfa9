"""From spools into MLflow while a study runs (a thread), and afterwards what is missing (`sync`).
No error of MLflow leaves the thread, and nobody waits for it; what a run holds is batches.py's matter.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from tuner.spec.errors import StoreError, TunerError
from tuner.tracking.mlflow import RunDeletedError, Writer, read_cursor, reason
from tuner.tracking.spool import SPOOL
from tuner.tracking.store import shown

Say = Callable[[str], None]
_LONGEST_WAIT_S = 30.0

TRIES = 3
"""So often the last records are tried: a store that was locked for a moment must not cost the user a command."""

_PAUSE_S = 0.5


@dataclass(frozen=True)
class SyncReport:
    """What `sync` found: trials with a spool, rows sent now and before, damaged lines, deleted runs, and a sentence on
    the first of those.
    """

    trials: int
    points: int
    already: int
    damaged: int
    deleted: int
    why: str = ""


class Mirror(threading.Thread):
    """The thread: wakes once an interval, sends what was touched, waits longer each time MLflow refuses."""

    def __init__(self, folder: Path, study: str, uri: str, say: Say, interval: float) -> None:
        super().__init__(name="tuner-mirror", daemon=True)  # daemon: a hanging server must not hold the exit
        self._folder, self._study, self._uri = folder, study, uri
        self._say, self._interval = say, interval
        self._writer = Writer(study, uri)
        self._lock = threading.Lock()  # over the four below
        self._waiting: dict[int, None] = {}  # trials with something to send, in order; the one being sent too
        self._touched: set[int] = set()  # written to since their last chunk was read
        self._runs: dict[int, str] = {}
        self._given_up: set[int] = set()  # their runs were deleted in MLflow
        self._closing = threading.Event()
        self._abandoned = False  # close() does not wait any longer: be silent, begin nothing new
        self._failures = 0

    def touch(self, trial: int) -> None:
        """Trial ``trial`` has something new."""
        with self._lock:
            if trial not in self._given_up:
                self._waiting.setdefault(trial)
                self._touched.add(trial)

    def runs(self) -> dict[int, str]:
        with self._lock:
            return dict(self._runs)

    def close(self, timeout: float) -> int:
        """Let the thread try a few times more, for at most ``timeout`` seconds; the number of records left."""
        self._closing.set()
        self.join(timeout)
        self._abandoned = True
        with self._lock:
            waiting = list(self._waiting)
        return sum(_left(self._folder / str(trial), self._uri) for trial in waiting)

    def run(self) -> None:
        with contextlib.suppress(OSError):
            self._take_up()
        with contextlib.ExitStack() as held:
            lock: FileLock | None = None
            tries = 1
            while True:
                last = self._closing.wait(self._wait_s())
                if self._waiting:
                    try:
                        lock = lock or held.enter_context(_alone(self._folder))
                        self._send_all()
                    except Exception as error:  # whatever MLflow and its libraries raise: the thread goes on
                        self._failed(error)
                    else:
                        self._recovered()
                if last:
                    if not self._failures or tries >= TRIES or self._abandoned:
                        return
                    tries += 1
                    time.sleep(_PAUSE_S)

    def _wait_s(self) -> float:
        if not self._failures:
            return self._interval
        return min(2.0 ** min(self._failures - 1, 10), _LONGEST_WAIT_S)  # 1, 2, 4 ... 30 s

    def _take_up(self) -> None:
        """Know the runs of earlier trials, and send what an earlier driver left behind."""
        for trial, folder in trial_folders(self._folder):
            run = read_cursor(folder, self._uri).run
            with self._lock:
                if run is not None:
                    self._runs.setdefault(trial, run)
                if _left(folder, self._uri):
                    self._waiting.setdefault(trial)

    def _send_all(self) -> None:
        with self._lock:
            todo = list(self._waiting)
        for trial in todo:
            try:
                self._send(trial)
            except (RunDeletedError, FileNotFoundError) as error:
                # Run or spool deleted by the user: a wish, no failure.
                self._tell(f"trial {trial} is not mirrored: {reason(error)}")
                with self._lock:
                    self._given_up.add(trial)
                    self._touched.discard(trial)
            except BaseException:
                with self._lock:  # to the end of the line: one refused trial must not hold up the others
                    self._waiting[trial] = self._waiting.pop(trial)
                raise
            with self._lock:
                if trial not in self._touched and not self._abandoned:
                    del self._waiting[trial]

    def _send(self, trial: int) -> None:
        more = True
        while more and not self._abandoned:
            with self._lock:
                self._touched.discard(trial)
            done = self._writer.mirror(self._folder / str(trial), trial)
            more = done.more
            if done.damaged:
                self._tell(f"trial {trial}: {done.damaged} damaged line(s) of its record were skipped")
            if done.note:
                self._tell(f"trial {trial}: {done.note}")
            if done.cursor.run is not None:
                with self._lock:
                    self._runs[trial] = done.cursor.run

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1 and isinstance(error, TunerError):
            self._tell(f"MLflow is not written for now: {error}")
        elif self._failures == 1:
            self._tell(
                f"MLflow at {shown(self._uri)} cannot be written ({_private(reason(error), self._uri)}); "
                f"training goes on, every point is kept in {self._folder} and mirrored when MLflow is back, "
                f"or by `tuner sync {self._study}`"
            )

    def _recovered(self) -> None:
        if self._failures:
            self._tell(f"MLflow at {shown(self._uri)} takes points again; what it missed has been sent")
        self._failures = 0

    def _tell(self, sentence: str) -> None:
        if not self._abandoned:
            with contextlib.suppress(Exception):  # a screen that is gone must not end the mirror
                self._say(sentence)


def sync(folder: Path, uri: str) -> SyncReport:
    """Mirror into ``uri`` what it lacks of the study in ``folder`` (``runs/<study>``); twice is as once.

    A run that is gone from the store (a deleted mlflow.db) is made anew; one deleted in MLflow is not.

    Raises:
        StoreError: no such folder, the store is away or refuses, or a running study mirrors for itself.
    """
    if not folder.is_dir():
        raise StoreError(f"{folder}: expected the folder of a study, got none; `tuner trials` lists them")
    writer = Writer(folder.absolute().name, uri)
    trials = points = already = damaged = deleted = 0
    why = ""
    with _alone(folder):
        for trial, path in trial_folders(folder):
            trials += 1
            try:
                sent = 0
                while True:
                    done = writer.mirror(path, trial)
                    sent += done.rows
                    if not done.more:
                        break
            except RunDeletedError as error:
                deleted, why = deleted + 1, why or str(error)
                continue
            except Exception as error:
                raise StoreError(
                    f"MLflow at {shown(uri)}: expected to store trial {trial}, got "
                    f"'{_private(reason(error), uri)}'; {points + sent} points were stored; "
                    "run the same command again when it answers"
                ) from error
            points += sent
            already += done.cursor.rows - sent
            damaged += done.cursor.damaged
    return SyncReport(trials, points, already, damaged, deleted, why)


def trial_folders(folder: Path) -> list[tuple[int, Path]]:
    """The trials of ``runs/<study>`` that have a spool, by number."""
    paths = folder.iterdir() if folder.is_dir() else ()
    named = [path for path in paths if path.name.isdecimal() and path.name == str(int(path.name))]
    return sorted((int(path.name), path) for path in named if (path / SPOOL).is_file())


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[FileLock]:
    """Hold the study's mirroring: two at once could make two runs of one trial."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".mirror.lock", timeout=0) as lock:
            yield lock
    except Timeout as error:
        raise StoreError(
            f"{folder}: expected to mirror it alone, got another process that does; a running study mirrors by itself"
        ) from error


def unmirrored(folder: Path, uri: str) -> int:
    """How many records of the study in ``folder`` the store at ``uri`` lacks; asks the disk only, not MLflow."""
    return sum(_left(trial, uri) for _, trial in trial_folders(folder))


def _left(folder: Path, uri: str) -> int:
    """The number of whole records in ``folder``'s spool beyond its cursor."""
    try:
        with (folder / SPOOL).open("rb") as file:
            file.seek(read_cursor(folder, uri).offset)
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return 0


def _private(sentence: str, uri: str) -> str:
    return sentence.replace(uri, shown(uri))
