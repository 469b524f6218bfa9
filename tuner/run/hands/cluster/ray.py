"""Hands on a Ray cluster: an actor a slot, wherever Ray finds room, in which the hands of that machine do the work.
Ray places, notices and ends; what a trial's messages mean is the driver's business. The only room that knows Ray.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of what it will do one day

import ray
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayError, RayTaskError

from tuner.run.hands.cluster.depot import Depot
from tuner.run.hands.cluster.slot import TURN, Kill, Order, Place, Slot, away
from tuner.run.hands.limits import cores
from tuner.run.hands.link import Alive, Exhausted, Interrupt, TrialJob
from tuner.run.hands.workers import Died, Event
from tuner.spec.errors import TunerError
from tuner.spec.parts.settings import ResourceSettings
from tuner.spec.records import Outcome, Preparing, State, Verdict

OVERDUE = 10.0
"""Seconds after which an order to end a worker is no longer waited for: its slot is ended. After as many a trial whose
slot Ray has found no room for takes one that has become free.
"""


PLACE = re.compile(r"(ray://)?(?P<host>[^/:]+|\[[^/]+\]):(?P<port>\d{1,5})")
"""An address with a port, which can be knocked at."""


@dataclass(frozen=True)
class Need:
    """What one trial asks of the cluster: CPUs, GPUs, and bytes of memory (None: not said)."""

    cpus: float
    gpus: float
    memory: int | None

    @property
    def options(self) -> dict[str, Any]:
        return {"num_cpus": self.cpus, "num_gpus": self.gpus} | ({"memory": self.memory} if self.memory else {})

    def __str__(self) -> str:
        memory = f", {self.memory / 1e9:g} GB of memory" if self.memory else ""
        return f"{self.cpus:g} CPUs, {self.gpus:g} GPUs{memory}"


@dataclass
class _Hired:
    """A slot as the driver sees it: its actor, its trial, the call that listens, and orders not known to have arrived.

    ``there`` is whether it has ever answered: Ray may still look for room, or start its process; ``begun`` whether it
    has since its trial was given to it; ``leaving`` whether that is to end.
    """

    actor: Any
    job: TrialJob | None = None
    hearing: Any = None
    heard: int = 0
    ordered: int = 0
    orders: dict[Any, tuple[int, Order]] = field(default_factory=dict)
    there: bool = False
    begun: bool = False
    leaving: bool = False
    given: float = 0.0
    said: float = 0.0
    killed: float | None = None

    @property
    def number(self) -> int | None:
        return None if self.job is None else self.job.number


class RayWorkers:
    """Slots on a cluster: ``most`` of them, or as many as its nodes have room for, as nodes come and go. A trial has
    ``each`` devices: GPUs where the cluster has any and ``asked`` does not say otherwise.

    Raises:
        TunerError: the cluster cannot be reached, no node has room for a trial, or there is no such depot.
    """

    def __init__(self, address: str, each: int, most: int | None, asked: ResourceSettings, place: Place) -> None:
        self._place, self._depot = place, None if place.depot is None else Depot(place.depot, place.study)
        _connect(address)
        accelerated = any(node["Resources"].get("GPU") for node in _nodes())
        self.each, self.most = each, most
        gpus = (each if accelerated else 0) if asked.gpus is None else asked.gpus
        self.need = Need(each if asked.cpus is None else asked.cpus, gpus, asked.memory)
        self.threads = max(1, int(self.need.cpus) // each)
        self._hired: list[_Hired] = []
        self._told: list[Event] = []
        self._room, self._counted = 0, -TURN
        if most is None and not self.slots:
            there = _resources()
            ray.shutdown()
            raise TunerError(
                f"no node of the Ray cluster has {self.need} for a trial (study.resources); it has {there}. "
                "With study.workers as a number, trials wait until there is room."
            )

    @property
    def slots(self) -> int:
        if self.most is not None:
            return self.most
        if time.monotonic() - self._counted > TURN:
            self._room, self._counted = sum(self._fits(node["Resources"]) for node in _nodes()), time.monotonic()
        return self._room

    def _fits(self, node: dict[str, float]) -> int:
        wanted = {"CPU": self.need.cpus, "GPU": self.need.gpus, "memory": self.need.memory or 0}
        return min(int(node.get(name, 0) / amount) for name, amount in wanted.items() if amount)

    @property
    def idle(self) -> int:
        return max(0, self.slots - sum(hired.number is not None for hired in self._hired))

    def kind(self, say: Callable[[str], None]) -> str:
        """The kind of device that trials run on, of the first slot that there is room for.

        Raises:
            TunerError: the slot died.
        """
        answer = self._idle().actor.kind.remote()
        if not ray.wait([answer], timeout=2 * TURN)[0]:
            say(f"waiting for the Ray cluster to have room for {self.need}; it has {_resources()}")
        try:
            return str(ray.get(answer))
        except RayError as error:
            raise TunerError(f"a trial cannot begin on the Ray cluster: {_last_line(error)}") from None

    def _idle(self) -> _Hired:
        """A slot without a trial: where there is none any more, a new one, which may have to wait for room."""
        free = [hired for hired in self._hired if hired.job is None]
        found = next((hired for hired in free if hired.there), free[0] if free else None)
        if found is None:
            actor = ray.remote(Slot).options(max_concurrency=4, max_restarts=0, **self.need.options)
            found = _Hired(actor.remote(self.each, self.threads, math.ceil(self.need.gpus), self._place))
            self._hired.append(found)
        return found

    def start(self, job: TrialJob) -> None:
        job = replace(job, folder=job.folder.resolve(), corpora=job.corpora.resolve())
        if self._depot is not None:
            try:
                self._depot.lend(job.spec)
                self._depot.pull(job.folder)  # what was saved while no driver heard of it
                self._depot.push(job.folder)
            except Exception as error:  # each kind of location has its own
                self._told.append(Event(job.number, away(error)))
                return
        self._give(job)

    def _give(self, job: TrialJob) -> None:
        hired = self._idle()
        hired.job, hired.begun, hired.leaving, hired.killed = job, False, False, None
        hired.given = hired.said = time.monotonic()
        self._order(job.number, job)
        hired.hearing = hired.actor.hear.remote(hired.heard)

    def wait(self, timeout: float) -> list[Event]:
        if self._told:
            told, self._told = self._told, []
            return told
        hearing = {hired.hearing: hired for hired in self._hired if hired.number is not None}
        if not hearing:
            time.sleep(timeout)
            return []
        ready, _ = ray.wait(list(hearing), num_returns=1, timeout=timeout)
        more, _ = ray.wait(list(hearing), num_returns=len(hearing), timeout=0)
        for hired in hearing.values():
            _repeat_orders(hired)
        events = [event for call in dict.fromkeys([*ready, *more]) for event in self._hear(hearing[call])]
        self._seat()
        return events + [event for hired in hearing.values() for event in _waiting(hired)]

    def _seat(self) -> None:
        """Trials that have waited for room take the slots that are free now, before any new trial does: those hold the
        room that is waited for.
        """
        for waiting in [hired for hired in self._hired if hired.job is not None and not hired.there]:
            late = time.monotonic() - waiting.given > OVERDUE
            if late and waiting.job is not None and any(hired.job is None and hired.there for hired in self._hired):
                self._hired.remove(waiting)
                ray.kill(waiting.actor)
                self._give(waiting.job)
                waiting.job = None

    def _hear(self, hired: _Hired) -> Iterator[Event]:
        try:
            events = ray.get(hired.hearing)
        except ActorUnavailableError:  # or dead: the next call will know
            events = []
        except RayError as error:
            yield from self._lost(hired, error)
            return
        hired.there = hired.begun = True
        hired.heard += len(events)
        for event in events:
            if isinstance(event.message, Outcome | Exhausted | Died):
                event = self._fetched(hired.job, event)
                hired.job = None
            yield event
        hired.hearing = None if hired.number is None else hired.actor.hear.remote(hired.heard)

    def _fetched(self, job: TrialJob | None, event: Event) -> Event:
        """A trial has ended, there at least: its checkpoints come from the depot to where the study's are."""
        if self._depot is None or job is None:
            return event
        try:
            self._depot.fetch(job.folder)
        except Exception as error:
            return Event(event.number, away(error))
        return event

    def _lost(self, hired: _Hired, error: RayError) -> Iterator[Event]:
        """A slot is gone, its node, perhaps, with it: its worker ends by itself, its trial goes on elsewhere."""
        self._hired.remove(hired)
        self._counted = -TURN
        assert hired.job is not None
        job, hired.job = hired.job, None  # whose wait for room is over
        if isinstance(error, RayTaskError):  # a mistake of ours: the next slot would make it again
            died = Died(1, why=f"the slot on the Ray cluster failed: {_last_line(error)}")
        elif "OOM" in str(error) or isinstance(error, OutOfMemoryError):
            died = Died(-9, memory=True, why="Ray ended the slot because its node's memory ran out")
        elif hired.there and not hired.begun and not hired.leaving and hired.killed is None:
            self._give(job)  # the slot had gone while nobody wanted it
            return
        else:
            died = Died(-9, why="its slot on the Ray cluster is gone: the node, or Ray's process there")
        yield self._fetched(job, Event(job.number, died))

    def answer(self, number: int, verdict: Verdict) -> None:
        self._order(number, verdict)

    def interrupt(self, number: int | None = None) -> None:
        for hired in self._of(number):
            hired.leaving = True
            if hired.there:
                self._order(hired.number, Interrupt())
            elif hired.job is not None:  # it need not get room first, only to leave
                self._hired.remove(hired)
                ray.kill(hired.actor)
                waited = Outcome(State.INTERRUPTED, "it waited for room in the cluster")
                self._told.append(self._fetched(hired.job, Event(hired.job.number, waited)))

    def kill(self, number: int | None = None) -> None:
        for hired in self._of(number):
            if hired.killed is None:
                hired.killed = time.monotonic()
                self._order(hired.number, Kill())
            if not hired.there or time.monotonic() - hired.killed > OVERDUE:
                ray.kill(hired.actor)

    def _order(self, number: int | None, order: Order) -> None:
        for hired in self._of(number):
            hired.ordered += 1
            words = (hired.ordered, order)
            hired.orders[hired.actor.take.remote(*words)] = words

    def _of(self, number: int | None) -> list[_Hired]:
        return [hired for hired in self._hired if hired.number is not None and number in (None, hired.number)]

    def close(self) -> None:
        """End what still runs, and leave the cluster."""
        for hired in self._hired:
            with contextlib.suppress(RayError):
                ray.kill(hired.actor)
        ray.shutdown()


def _repeat_orders(hired: _Hired) -> None:
    """Those that may not have arrived."""
    done, _ = ray.wait(list(hired.orders), num_returns=len(hired.orders), timeout=0) if hired.orders else ([], [])
    for call in done:
        words = hired.orders.pop(call)
        try:
            ray.get(call)
        except ActorUnavailableError:
            hired.orders[hired.actor.take.remote(*words)] = words
        except RayActorError:
            pass  # its hearing says so


def _waiting(hired: _Hired) -> Iterator[Event]:
    """Of a trial whose slot has not answered yet, once a second: it is not hung, it has not begun."""
    if hired.number is not None and not hired.there and time.monotonic() - hired.said > 1.0:
        hired.said = time.monotonic()
        yield Event(hired.number, Preparing("waiting for room in the Ray cluster"))
        yield Event(hired.number, Alive())


def _connect(address: str) -> None:
    """Raises TunerError: nobody answers there."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    try:
        if (place := PLACE.fullmatch(address)) is not None:  # else Ray tries for a minute, and then ends the process
            socket.create_connection((place["host"], int(place["port"])), timeout=2 * TURN).close()
        if address == "local":
            ray.init(num_cpus=cores(), include_dashboard=False, object_store_memory=128 * 2**20, **quiet)
        elif address.startswith("ray://"):  # what more is said would be said to that machine's Ray, which may be in use
            ray.init(address=address, log_to_driver=False)
        else:
            ray.init(address=address, **quiet)
        ray._private.worker._worker_logs_enabled = False  # pages of a node's state for each that is lost; we say it
    except (RayError, OSError, OverflowError, ValueError, RuntimeError) as error:
        raise TunerError(
            f"no Ray cluster at {address!r}: {_first_line(error)}; expected 'local' (one is made here), 'auto' "
            "(the one this machine is in) or ray://HOST:10001."
        ) from None


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _resources() -> str:
    """What there is, a node at a time, in words."""
    told = [
        f"{node['Resources'].get('CPU', 0):g} CPUs, {node['Resources'].get('GPU', 0):g} GPUs, "
        f"{node['Resources'].get('memory', 0) / 1e9:.1f} GB on {node['NodeManagerHostname']}"
        for node in _nodes()
    ]
    return "; ".join(told) or "no nodes"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
