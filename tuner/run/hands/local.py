"""Local hands: a fresh process per trial from a warm fork server that has torch and Lightning loaded.
Starting, hearing and ending processes only; what a trial's messages mean is the driver's business.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from tuner.run.hands.link import DevicesJob, Exhausted, Interrupt, TrialJob
from tuner.run.hands.worker import PRELOAD, work
from tuner.run.hands.workers import Died, Event
from tuner.spec.errors import TunerError
from tuner.spec.records import Outcome, Verdict

_CONTEXT = multiprocessing.get_context("forkserver")


def warm_up() -> None:
    """Start the fork server now; it loads torch while the caller goes on."""
    _CONTEXT.set_forkserver_preload(PRELOAD)
    with deaf():
        forkserver.ensure_running()


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def plan_slots(workers: int | None, devices: list[str], trials: int) -> tuple[list[str], int]:
    """One device per slot and the threads of each: a GPU a worker where there are GPUs, else CPU cores shared out.

    ``workers`` None is auto. Without a GPU that is two workers up to eight cores and one per four cores beyond:
    on small models two single threads do more than one pair (facts measured by ``tuner bench workers``), while
    many parallel trials leave the sampler little to learn from. Never more than there are ``trials``.
    """
    if devices:
        count = min(workers or len(devices), trials)
        return [devices[slot % len(devices)] for slot in range(count)], max(1, cores() // count)
    count = min(workers or min(cores(), max(2, cores() // 4)), trials)
    return ["cpu"] * count, max(1, cores() // count)


@dataclass
class _Running:
    process: BaseProcess
    pipe: Connection
    slot: int
    kills: int


class LocalWorkers:
    """Worker processes of this machine, one trial each."""

    def __init__(self, devices: list[str], threads: int) -> None:
        self.devices, self.threads, self.slots = devices, threads, len(devices)
        self._running: dict[int, _Running] = {}

    @property
    def idle(self) -> int:
        return self.slots - len(self._running)

    def start(self, job: TrialJob) -> None:
        used = {running.slot for running in self._running.values()}
        slot = next(slot for slot in range(self.slots) if slot not in used)
        process, pipe = _spawn(job, self.devices[slot], self.threads)
        self._running[job.number] = _Running(process, pipe, slot, memory_kills())

    def wait(self, timeout: float) -> list[Event]:
        by_pipe = {running.pipe: number for number, running in self._running.items()}
        events: list[Event] = []
        for ready in connection.wait(list(by_pipe), timeout):
            assert isinstance(ready, Connection)
            events += self._hear(by_pipe[ready])
        return events

    def _hear(self, number: int) -> list[Event]:
        """Everything in a worker's pipe; its end of file, or an outcome, frees the slot."""
        running, events = self._running[number], []
        try:
            while running.pipe.poll():
                message = running.pipe.recv()
                events.append(Event(number, message))
                if isinstance(message, Outcome | Exhausted):
                    self._free(number)
                    return events
        except (EOFError, OSError):
            code = self._free(number)
            events.append(Event(number, Died(code, memory=memory_kills() > running.kills)))
        return events

    def _free(self, number: int) -> int:
        running = self._running.pop(number)
        running.process.join(10)
        if running.process.is_alive():
            running.process.kill()
            running.process.join()
        running.pipe.close()
        code = running.process.exitcode
        running.process.close()
        return 1 if code is None else code

    def answer(self, number: int, verdict: Verdict) -> None:
        self._send(number, verdict)

    def interrupt(self, number: int | None = None) -> None:
        for each in self._running if number is None else (number,):
            self._send(each, Interrupt())

    def _send(self, number: int, message: object) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, KeyError):
            self._running[number].pipe.send(message)

    def kill(self, number: int | None = None) -> None:
        for each in self._running if number is None else (number,):
            self._running[each].process.kill()

    def pids(self) -> dict[int, int]:
        """Trial -> process id of its worker."""
        return {number: running.process.pid or 0 for number, running in self._running.items()}


def memory_kills() -> int:
    """How often the kernel has ended a process of this machine for want of memory; 0 where it does not say (Linux)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


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


def _spawn(job: TrialJob | DevicesJob, device: str, threads: int | None) -> tuple[BaseProcess, Connection]:
    warm_up()
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=work, args=(job, theirs, device, threads), daemon=True)
    with deaf():
        process.start()
    theirs.close()
    return process, ours
