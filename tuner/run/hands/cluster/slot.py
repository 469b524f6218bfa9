"""What runs on a node of a cluster: a slot, in which that machine's own hands train one trial at a time.
It obeys orders and tells what happened, each once; what that means is the driver's business. Ray is not known here.
"""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree

from tuner.run.folder import RECORD
from tuner.run.hands.cluster.depot import Depot
from tuner.run.hands.link import Exhausted, Interrupt, TrialJob
from tuner.run.hands.local import LocalWorkers, devices
from tuner.run.hands.workers import Died, Event
from tuner.spec.records import Measurement, Outcome, State, Verdict

POLL = 0.02
"""Seconds for which a slot listens to its worker before it looks for orders."""

TURN = 5.0
"""Seconds after which a slot that has nothing to tell says so."""


@dataclass(frozen=True)
class Kill:
    """From the driver: end the worker at once."""


Order = TrialJob | Verdict | Interrupt | Kill
"""What the driver says to a slot; but for the first, to the worker of the one trial that is there."""


@dataclass(frozen=True)
class Place:
    """Where a slot works: in the driver's folder ``home``, as all nodes see it; or, with a ``depot``, in a folder of
    its node's own, with what belongs to ``study`` carried to and fro.
    """

    home: Path
    study: str = ""
    depot: str | None = None


class Slot:
    """One slot of ``each`` devices on this machine, GPUs where it has been given ``gpus`` of them.

    What is told is kept until it is known to have arrived, and each order is obeyed once, in their order: a call may
    be lost, made again, or overtaken by another.
    """

    def __init__(self, each: int, threads: int, gpus: int, place: Place) -> None:
        main = sys.modules["__main__"]
        for name in ("__file__", "__spec__"):  # else each worker process would begin by running the cluster's script
            with contextlib.suppress(AttributeError):
                delattr(main, name)
        main.__spec__ = None
        self._depot = None if place.depot is None else Depot(place.depot, place.study)
        home = place.home if self._depot is None else _scratch(place.study)
        with contextlib.suppress(OSError):  # what is not seen from here is said of each trial
            os.chdir(home)
        self._hands = LocalWorkers([f"cuda:{index}" for index in range(gpus)] or ["cpu"] * each, threads, each)
        self._hearing = threading.Lock()
        self._orders: dict[int, Order] = {}
        self._obeyed = 0
        self._told: list[Event] = []
        self._first = 0
        self._folder: Path | None = None

    def kind(self) -> str:
        """What kind of device trials run on here."""
        return " and ".join(sorted(set(devices().values())))

    def take(self, key: int, order: Order) -> None:
        """Order number ``key``, from 1 on, to be obeyed by the call that listens when all before it have been."""
        if key > self._obeyed:
            self._orders[key] = order

    def hear(self, first: int) -> list[Event]:
        """What happened from event ``first`` on; those before it have arrived. The only one to touch the hands."""
        with self._hearing:
            del self._told[: first - self._first]
            self._first = first
            deadline = time.monotonic() + TURN
            while not self._told and time.monotonic() < deadline:
                while (order := self._orders.pop(self._obeyed + 1, None)) is not None:
                    self._obeyed += 1
                    self._obey(order)
                if not self._told:
                    self._told += map(self._carried, self._hands.wait(POLL))
            return list(self._told)

    def _obey(self, order: Order) -> None:
        match order:
            case TrialJob() as job:
                self._begin(job)
            case Verdict() as verdict:
                for number in self._hands.pids():
                    self._hands.answer(number, verdict)
            case Interrupt():
                self._hands.interrupt()
            case Kill():
                self._hands.kill()

    def _begin(self, job: TrialJob) -> None:
        if self._depot is not None:
            job = replace(job, folder=Path(str(job.number)).absolute(), corpora=Path("../corpora").absolute())
            try:
                self._depot.borrow()
                self._depot.pull(job.folder)
            except Exception as error:  # each kind of location has its own
                self._told.append(Event(job.number, away(error)))
                return
        elif not (job.folder.parent / RECORD).exists():
            why = f"{socket.gethostname()} does not see {job.folder.parent}: all nodes need that folder, or study.depot"
            self._told.append(Event(job.number, Outcome(State.INTERRUPTED, why)))
            return
        self._folder = job.folder
        self._hands.start(job)

    def _carried(self, event: Event) -> Event:
        """Checkpoints go to the depot before the driver hears of them."""
        message = event.message
        if self._depot is None or self._folder is None:
            return event
        if isinstance(message, Outcome) or (isinstance(message, Measurement) and message.milestone is not None):
            try:
                self._depot.push(self._folder)
            except Exception as error:
                self._hands.kill()
                return Event(event.number, away(error))
        if isinstance(message, Outcome | Exhausted | Died):
            rmtree(self._folder, ignore_errors=True)
        return event


def _scratch(study: str) -> Path:
    """A folder of this user's on this node, of this process alone: TMPDIR says where. Those of this node's processes
    that are gone are removed: they were ended without a word. Others see the folder where it is shared, and none of
    our processes.
    """
    root = Path(tempfile.gettempdir()) / f"tuner-{os.getuid()}"
    try:
        here = f"{socket.gethostname()}.{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # no Linux: nobody is known to be gone
        here = f"{socket.gethostname()}.{secrets.token_hex(4)}"
    for other in root.glob(f"*-{glob.escape(here)}-*"):
        if (pid := other.name.rpartition("-")[2]).isdigit() and not Path(f"/proc/{pid}").exists():
            rmtree(other, ignore_errors=True)
    place = root / f"{study}-{here}-{os.getpid()}"
    place.mkdir(parents=True, exist_ok=True)
    return place


def away(error: Exception) -> Outcome:
    """How a trial ends whose depot cannot be used: it goes on when that can."""
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return Outcome(State.INTERRUPTED, f"the depot could not be used from {socket.gethostname()} ({said})")
