"""The probe: what a spec leaves ``auto`` is settled before a trial's model is built, by trying it on this machine.
It times steps of a model of its own; the trial's model, random numbers and files are never touched.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from tuner.spec.trial import TrialSpec
from tuner.train.machine.capacity import SHARE as CAPACITY
from tuner.train.machine.capacity import divisions
from tuner.train.machine.device import free_bytes, trim, wait_for
from tuner.train.machine.notes import Note, Times
from tuner.train.model.memory import memory_bytes
from tuner.train.model.module import GPTModule, Setting

FASTER = 1.1  # times as fast as the plain way, or the plain way it is: less may be noise
SHARE = 0.02  # of a trial's training time: what a comparison may take; a shorter trial goes without
OVERHEAD = 0.2  # seconds a comparison takes beside its steps: each kernel's first use
STEPS = 10  # and the fewest steps it needs: warming up, then three turns
TURNS = 7
HOPELESS = 1.5  # times as slow after two turns: no third one (a single turn may have been disturbed)
COMPILING = 35.0  # seconds; 15 to 35 were measured on two cores
WORTH = 40  # compiling is tried in trials that train so many times as long: it is paid for twice, here and in the trial


class Way(NamedTuple):
    """One way to compute a step."""

    precision: Literal["fp32", "bf16"]
    compiled: bool = False

    def __str__(self) -> str:
        return f"{self.precision} compiled" if self.compiled else self.precision


def settle(
    spec: TrialSpec,
    vocab: int,
    steps: int | None,
    device: torch.device,
    notes: Path,
    say: Callable[[str], None],
    parts: int | None = None,
    classes: Sequence[int] = (),
) -> Setting:
    """How the trial's steps are computed here; ``say`` hears why, where anything was ``auto``.

    ``steps`` are those of the budget, None where it is in seconds; ``notes`` is the folder of this machine's notes;
    ``parts`` micro-batches a step where that is settled already; ``classes`` are those of a classifier, by each label.

    Raises:
        torch.OutOfMemoryError: a GPU cannot take the smallest micro-batch that is allowed.
    """
    if spec.accumulate != "auto":
        parts = spec.accumulate
    divisors = micro_batches(spec, vocab, free_bytes(device)) if parts is None else [parts]
    for accumulate in divisors:
        try:
            times, failure = _times(spec, accumulate, (vocab, classes), steps, device, notes)
            break
        except torch.OutOfMemoryError:
            if accumulate == divisors[-1]:
                raise
    way = choice(spec, times)
    setting = Setting(way.precision, way.compiled, accumulate, _why(spec, way, accumulate, times, failure))
    if setting.why:
        say(setting.why)
    return setting


def micro_batches(spec: TrialSpec, vocab: int, free: int) -> list[int]:
    """Numbers of micro-batches a step whose estimated memory fits into ``free`` bytes, fewest first.

    Where none fits, as many as there are sequences: estimates may be wrong.
    """
    fitting = [
        parts
        for parts in divisions(spec)
        if memory_bytes(spec.model_copy(update={"accumulate": parts}), vocab) <= CAPACITY * free
    ]
    return fitting or [spec.batch]


def _times(
    spec: TrialSpec,
    accumulate: int,
    words: tuple[int, Sequence[int]],
    steps: int | None,
    device: torch.device,
    notes: Path,
) -> tuple[Times, str]:
    """What is known of the spec's steps once every question is answered; and why compiling failed, if it did."""
    vocab, classes = words
    note = Note(notes, spec, vocab, accumulate, device)
    untried = device.type == "cuda" and spec.accumulate == "auto"  # there an estimate of memory is no proof

    def ways(times: Times) -> list[Way]:
        return question(spec, steps, times) or ([_plain(spec)] if untried and not times else [])

    times, failure = note.read(), ""
    if not ways(times):
        return times, failure
    with note.held() as times:
        bench = _Bench(spec, accumulate, vocab, device, classes)
        while asked := ways(times):
            try:
                bench.compare(asked, times, SHARE * planned(spec, steps, times))
            except Exception as error:
                if not asked[-1].compiled:
                    raise
                times[str(asked[-1])] = math.inf  # whatever a compiler may do, the trial can do without
                failure = (str(error).strip().splitlines() or [type(error).__name__])[0][:100]
        bench.free()
        note.write(times)
    return times, failure


def _plain(spec: TrialSpec) -> Way:
    """The way that needs no trying."""
    return Way(Setting.plain(spec).precision)


def planned(spec: TrialSpec, steps: int | None, times: Times) -> float:
    """Seconds that the trial will train for, from the best time of a step; 0 where there is none."""
    if steps is None:
        return spec.budget.amount
    return steps * times.get(str(_eager(spec, times)), 0.0)


def question(spec: TrialSpec, steps: int | None, times: Times) -> list[Way]:
    """The ways to be timed next, against each other where they are two; empty once ``choice`` can be made.

    Nothing is asked in a trial so short that the answer would cost more than it is worth.
    """
    if spec.precision != "auto" and spec.compile != "auto":
        return []
    if SHARE * spec.budget.amount < OVERHEAD if steps is None else SHARE * steps < STEPS:
        return []
    plain, bf16 = _plain(spec), Way("bf16")
    if str(plain) not in times:
        return [plain]
    whole = planned(spec, steps, times)
    if spec.precision == "auto" and str(bf16) not in times:
        return [plain, bf16] if SHARE * whole >= OVERHEAD + STEPS * times[str(plain)] else []
    eager = _eager(spec, times)
    compiled = eager._replace(compiled=True)
    if spec.compile == "auto" and str(compiled) not in times and whole >= WORTH * COMPILING:
        return [eager, compiled]
    return []


def _eager(spec: TrialSpec, times: Times) -> Way:
    """The better precision of those that were timed, not compiled."""
    plain = _plain(spec)
    if spec.precision != "auto":
        return plain
    return Way("bf16") if faster(times, Way("bf16"), plain) else plain


def choice(spec: TrialSpec, times: Times) -> Way:
    """What the spec says, and for each ``auto`` the way that was clearly faster."""
    eager = _eager(spec, times)
    if spec.compile != "auto":
        return eager._replace(compiled=spec.compile)
    compiled = eager._replace(compiled=True)
    return compiled if faster(times, compiled, eager) else eager


def ratio(times: Times, way: Way, plain: Way) -> float | None:
    """How many times as fast a way is as a plain one; None where one of them was not timed."""
    seconds, before = times.get(str(way)), times.get(str(plain))
    return None if seconds is None or before is None else before / seconds


def faster(times: Times, way: Way, plain: Way) -> bool:
    return (ratio(times, way, plain) or 0.0) >= FASTER


def _why(spec: TrialSpec, way: Way, accumulate: int, times: Times, failure: str) -> str:
    """What was found out, in words; empty where nothing was tried."""
    said = []
    gain = ratio(times, Way("bf16"), Way("fp32"))
    if spec.precision == "auto" and gain is not None:
        said.append(f"bf16 ({gain:.2f} x as fast)" if way.precision == "bf16" else f"fp32 (bf16: {gain:.2f} x)")
    gain = ratio(times, way._replace(compiled=True), way._replace(compiled=False))
    if spec.compile == "auto" and (failure or gain is not None):
        reason = failure or f"{gain:.2f} x as fast"
        said.append(f"compiled ({reason})" if way.compiled else f"not compiled ({reason})")
    if spec.accumulate == "auto" and accumulate > 1:
        said.append(f"{accumulate} micro-batches a step (as memory allows)")
    return ", ".join(said)


class _Bench:
    """Real training steps of a model like the trial's, on random ids, timed."""

    def __init__(
        self, spec: TrialSpec, accumulate: int, vocab: int, device: torch.device, classes: Sequence[int]
    ) -> None:
        self._accumulate, self._device = accumulate, device
        self._module: GPTModule | None = GPTModule(spec, vocab, lambda: 0.5, classes=classes).to(device)
        self._ids = torch.randint(vocab, (spec.batch, spec.data.context + max(1, len(classes))), device=device)
        for place, count in enumerate(classes, spec.data.context):
            self._ids[:, place] %= count
        self._warm: set[Way] = set()
        self._began = time.perf_counter()

    def compare(self, ways: Sequence[Way], times: Times, allowed: float) -> None:
        """Time the ways in turns, so that what disturbs one disturbs the other; ``times`` keeps the least of each.

        After three turns it ends as soon as this bench has taken ``allowed`` seconds.
        """
        for way in ways:
            warming = self._warm_up(way)
            if len(ways) > 1 and not way.compiled and warming > allowed:  # bf16 emulated, on a processor without
                times[str(way)] = warming
                return
        for turn in range(TURNS if len(ways) > 1 else 1):
            for way in ways:
                times[str(way)] = min(self._step(way), times.get(str(way), math.inf))
            hopeless = times[str(ways[-1])] > HOPELESS * times[str(ways[0])]
            if (turn and hopeless) or (turn > 1 and time.perf_counter() - self._began > allowed):
                return

    def _warm_up(self, way: Way) -> float:
        """Seconds of the first step of a way, in which kernels are made or compiled; 0 where it was done before."""
        if way in self._warm:
            return 0.0
        self._warm.add(way)
        trim()  # the blocks of another way do not fit this one's
        first = self._step(way)
        if way.compiled:  # CUDA graphs are recorded in the second
            self._step(way)
            self._step(way)
        return first

    def _step(self, way: Way) -> float:
        assert self._module is not None
        self._module.adopt(Setting(way.precision, way.compiled, self._accumulate))
        wait_for(self._device)
        began = time.perf_counter()
        self._module.training_step(self._ids)
        wait_for(self._device)
        return time.perf_counter() - began

    def free(self) -> None:
        """Give the memory back; on a GPU the trial's own peak is counted from here."""
        self._module = None
        gc.collect()
        trim()
        if any(way.compiled for way in self._warm):
            torch.compiler.reset()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
