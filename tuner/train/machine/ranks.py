"""The processes that train one trial together, one a device: what one decides for all, and what they add up.
Every method is called by all of them at the same place of the same code; alone, each is nothing.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from tuner.spec.records import Measurement, Preparing, Seat, Started, Verdict

T = TypeVar("T")

PATIENCE = datetime.timedelta(days=1)
"""How long one waits for another, which may be building a corpus; study.patience ends what hangs."""


class Line(Protocol):
    """The trainer's line to the driver (life.Link)."""

    def preparing(self, work: Preparing) -> None: ...
    def started(self, started: Started) -> None: ...
    def report(self, measurement: Measurement) -> Verdict: ...
    def interrupted(self) -> bool: ...


class Ranks:
    """The process ``rank`` of ``size``. Rank 0 talks to the driver and writes files."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def once(self, do: Callable[[], T]) -> T:
        """What rank 0's ``do`` returns, which the others do not call."""
        if self.size == 1:
            return do()
        found: list[Any] = [do() if self.rank == 0 else None]
        dist.broadcast_object_list(found, src=0, device=torch.device("cpu"))
        result: T = found[0]
        return result

    def each(self, own: T) -> list[T]:
        """Everybody's ``own``, by rank."""
        found: list[Any] = [own] * self.size
        if self.size > 1:
            dist.all_gather_object(found, own)
        return found

    def number(self, ask: Callable[[], float]) -> float:
        """Rank 0's number: a small message, for every step."""
        if self.size == 1:
            return ask()
        told = torch.tensor(ask() if self.rank == 0 else 0.0, dtype=torch.float64)
        dist.broadcast(told, src=0)
        return float(told)

    def clock(self) -> float:
        """Rank 0's seconds, so that all agree on when a budget of seconds is spent."""
        return self.number(time.perf_counter)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def part(self, batch: Tensor) -> Tensor:
        """This rank's rows of a batch, as many as anybody's but for a remainder; (B, ...) -> (B / size, ...)."""
        return batch if self.size == 1 else batch.tensor_split(self.size)[self.rank]


ALONE = Ranks()


class Together:
    """The line of all ranks: rank 0's, whose answers all of them get."""

    def __init__(self, line: Line, ranks: Ranks) -> None:
        self._line, self._ranks = line, ranks

    def preparing(self, work: Preparing) -> None:
        if self._ranks.rank == 0:
            self._line.preparing(work)

    def started(self, started: Started) -> None:
        if self._ranks.rank == 0:
            self._line.started(started)

    def report(self, measurement: Measurement) -> Verdict:
        return self._ranks.once(lambda: self._line.report(measurement))

    def interrupted(self) -> bool:
        return bool(self._ranks.number(self._line.interrupted))


@contextmanager
def joined(seat: Seat | None, device: torch.device) -> Iterator[Ranks]:
    """Meet the other processes of the trial; nobody is met where ``seat`` is None."""
    if seat is None:
        yield ALONE
        return
    # one machine, whose processes are to be reached by nobody else
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    # what Lightning reads to know that its processes are there already
    os.environ |= {"LOCAL_RANK": str(seat.rank), "WORLD_SIZE": str(seat.of), "NODE_RANK": "0"}
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(
        backend, init_method=f"file://{seat.meeting}", rank=seat.rank, world_size=seat.of, timeout=PATIENCE
    )
    try:
        yield Ranks(seat.rank, seat.of)
    finally:
        dist.destroy_process_group()
