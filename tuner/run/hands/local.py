"""Local hands: a fresh process per trial from a warm fork server that has torch and Lightning loaded.
Starting, hearing and ending processes only; what a trial's messages mean is the driver's business.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from tuner.run.hands.limits import cores, memory_kills
from tuner.run.hands.link import DevicesJob, Exhausted, Interrupt, Message, TrialJob
from tuner.run.hands.worker import PRELOAD, work
from tuner.run.hands.workers import Died, Event
from tuner.spec.errors import TunerError
from tuner.spec.records import Outcome, Seat, State, Verdict

_CONTEXT = multiprocessing.get_context("forkserver")

SPINS = "10000"
"""Rounds that one of torch's threads waits for the others before it sleeps (libgomp's GOMP_SPINCOUNT). Left to itself
it waits for milliseconds: two threads beside two busy programs then come to 120 tokens a second in place of 2,700
(4 x 128, measured on 2 cores; alone there is no difference).
"""


def warm_up() -> None:
    """Start the fork server now; it loads torch while the caller goes on."""
    if "OMP_WAIT_POLICY" not in os.environ:  # the user's own word
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    _CONTEXT.set_forkserver_preload(PRELOAD)
    resource_tracker.ensure_running()  # which the server would start, and be deaf no longer
    with deaf():
        forkserver.ensure_running()


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """Processes started meanwhile ignore Ctrl-C and its like for life: the driver alone decides what it means.

    What arrives during these milliseconds is not lost: it is delivered to us at the end.
    """
    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def accelerators() -> list[str]:
    """GPUs by their device files, for a plan; what torch can really use is asked later, in a worker."""
    found = sorted(Path("/dev").glob("nvidia[0-9]*"))
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = len(found) if allowed is None else min(len(found), len([name for name in allowed.split(",") if name]))
    return [f"cuda:{index}" for index in range(count)]


def plan_slots(workers: int | None, devices: list[str], trials: int, each: int = 1) -> tuple[list[str], int]:
    """The devices of all slots in a row, ``each`` of them a slot, and the threads of each: GPUs where there are GPUs,
    else CPU cores shared out.

    ``workers`` None is auto. Without a GPU that is two workers up to eight cores and one per four cores beyond:
    on small models two single threads do more than one pair (facts measured by ``tuner bench workers``), while
    many parallel trials leave the sampler little to learn from. Never more than there are ``trials``.

    Raises:
        TunerError: there are GPUs, but not enough for one trial.
    """
    if 0 < len(devices) < each:
        raise TunerError(f"trial.devices is {each}, and this machine has {len(devices)}: {', '.join(devices)}.")
    if devices:
        count = each * min(workers or len(devices) // each, trials)
        return [devices[place % len(devices)] for place in range(count)], max(1, cores() // count)
    count = each * min(workers or max(1, min(cores(), max(2, cores() // 4)) // each), trials)
    return ["cpu"] * count, max(1, cores() // count)


@dataclass
class _Member:
    """One of a trial's processes, and how it ended as far as that was heard."""

    process: BaseProcess
    pipe: Connection
    end: Outcome | Exhausted | Died | None = None


@dataclass
class _Running:
    """A trial's processes: one a device, the first speaks for all; they met in the folder ``meeting``."""

    members: list[_Member]
    slot: int
    kills: int
    meeting: Path | None


FAREWELL = 2.0
"""Seconds in which the cause is looked for among a trial's processes, when the first has failed."""


class LocalWorkers:
    """Worker processes of this machine; a trial has ``each`` of ``devices``, with a process of ``threads`` for each."""

    def __init__(self, devices: list[str], threads: int, each: int = 1) -> None:
        self.devices, self.threads, self.each, self.slots = devices, threads, each, len(devices) // each
        self._running: dict[int, _Running] = {}

    @property
    def idle(self) -> int:
        return self.slots - len(self._running)

    def start(self, job: TrialJob) -> None:
        used = {running.slot for running in self._running.values()}
        slot = next(slot for slot in range(self.slots) if slot not in used)
        meeting = None if self.each == 1 else Path(tempfile.mkdtemp(prefix="tuner-ranks-"))
        members = []
        for rank, device in enumerate(self.devices[slot * self.each : (slot + 1) * self.each]):
            seat = None if meeting is None else Seat(rank, self.each, meeting / "met")
            members.append(_Member(*_spawn(job, device, self.threads, seat)))
        self._running[job.number] = _Running(members, slot, memory_kills(), meeting)

    def wait(self, timeout: float) -> list[Event]:
        by_pipe = {
            member.pipe: number
            for number, running in self._running.items()
            for member in running.members
            if member.end is None
        }
        events: list[Event] = []
        for number in dict.fromkeys(by_pipe[pipe] for pipe in connection.wait(list(by_pipe), timeout)):  # type: ignore[index]
            events += self._hear(number)
        return events

    def _hear(self, number: int) -> list[Event]:
        """What a trial's processes have said; the end of the first, or a bad one of another, ends all and frees the
        slot.
        """
        running = self._running[number]
        first, *others = running.members
        events = [Event(number, message) for message in _heard(first, running.kills)]
        for other in others:
            _heard(other, running.kills)
        if others and isinstance(first.end, Outcome) and first.end.state is State.FAILED:  # of the others' silence?
            connection.wait([other.process.sentinel for other in others], FAREWELL)
            for other in others:
                _heard(other, running.kills)
        end = next((other.end for other in others if _bad(other.end)), first.end)
        if end is not None:
            self._free(number)
            events.append(Event(number, end))
        return events

    def _free(self, number: int) -> None:
        running = self._running.pop(number)
        for member in running.members:
            if not isinstance(running.members[0].end, Outcome):
                member.process.kill()  # the others wait for one that is gone
            _bury(member)
        if running.meeting is not None:
            shutil.rmtree(running.meeting, ignore_errors=True)

    def answer(self, number: int, verdict: Verdict) -> None:
        self._send(number, verdict)

    def interrupt(self, number: int | None = None) -> None:
        for each in self._running if number is None else (number,):
            self._send(each, Interrupt())

    def _send(self, number: int, message: object) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, KeyError):
            self._running[number].members[0].pipe.send(message)

    def kill(self, number: int | None = None) -> None:
        for each, running in self._running.items():
            for member in running.members if number in (None, each) else ():
                member.process.kill()

    def pids(self) -> dict[int, int]:
        """Trial -> process id of its worker, the first where it has several."""
        return {number: running.members[0].process.pid or 0 for number, running in self._running.items()}


def _heard(member: _Member, kills: int) -> list[Message]:
    """What is in a process's pipe; its last word, or how it died, is its end and not among these."""
    said: list[Message] = []
    try:
        while member.end is None and member.pipe.poll():
            message = member.pipe.recv()
            if isinstance(message, Outcome | Exhausted):
                member.end = message
            else:
                said.append(message)
    except (EOFError, OSError):
        member.process.join(10)
        code = member.process.exitcode
        member.end = Died(1 if code is None else code, memory=memory_kills() > kills)
    return said


def _bad(end: Outcome | Exhausted | Died | None) -> bool:
    return isinstance(end, Exhausted | Died) or (end is not None and end.state is State.FAILED)


def _bury(member: _Member) -> None:
    member.process.join(10)
    if member.process.is_alive():
        member.process.kill()
        member.process.join()
    member.pipe.close()
    member.process.close()


def devices() -> dict[str, str]:
    """What trials can run on, device -> kind, as a worker sees it: the GPUs, or the CPU on a machine without.

    Raises:
        TunerError: the worker died.
    """
    process, pipe = _spawn(DevicesJob(), "cpu", None)
    try:
        found: dict[str, str] = pipe.recv()
        return found
    except EOFError:
        process.join()
        raise TunerError(f"while naming devices: {Died(process.exitcode or 1).sentence}.") from None
    finally:
        process.kill()
        process.join()
        pipe.close()


def _spawn(
    job: TrialJob | DevicesJob, device: str, threads: int | None, seat: Seat | None = None
) -> tuple[BaseProcess, Connection]:
    warm_up()
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=work, args=(job, theirs, device, threads, seat), daemon=True)
    with deaf():
        process.start()
    theirs.close()
    return process, ours
