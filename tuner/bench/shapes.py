"""Tokens a second by shape: precision auto against fp32 and bf16; workers against threads.
One run, in turns, medians of ratios; the platform's own trials are timed, nothing else. No torch here.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from tuner.bench.lab import Case, Measured, fresh, prepare, run_study, settle, small_study, workplace
from tuner.run.hands.limits import cores
from tuner.tracking.base import NullTracker

SMALL = Case(depth=2, width=64, batch=16, context=64, steps=150)
MIDDLE = Case(depth=4, width=128, batch=12, context=64, steps=80)
LARGE = Case(depth=6, width=256, batch=16, context=128, steps=10)
SETTLED = 2_000
"""Steps of the trial whose choice of precision is measured: one as short as the timed ones would ask no probe."""
PRECISIONS = ("auto", "fp32", "bf16")

Way = tuple[int, int]
"""Workers x threads of each."""

Runs = dict[str, list[Measured]]
"""What was run -> its measurements, round by round."""


def compare_shapes(rounds: int, precision_cases: Sequence[Case], worker_cases: Sequence[Case]) -> None:
    """Print both tables; each line's ratios were measured side by side in this run.

    Raises:
        TunerError: a trial did not complete.
    """
    compare_precisions(rounds, precision_cases, cores())
    print()
    compare_ways(rounds, worker_cases, ways(cores()))


def compare_precisions(rounds: int, cases: Sequence[Case], threads: int) -> None:
    """Print tokens a second of auto, fp32 and bf16 for each case, what auto chose, and its median ratios."""
    _line(f"tokens/s on {threads} threads", [*PRECISIONS, "auto/fp32", "auto/bf16", "auto chose"])
    with workplace():
        prepare(small_study(cases[0]))
        for case in cases:

            def run(precision: str, case: Case = case) -> Measured:
                return run_study(small_study(case, precision=precision), 1, threads, NullTracker(), fresh())

            settle(small_study(replace(case, steps=SETTLED), precision="auto"), threads)
            runs = _in_turns(rounds, PRECISIONS, run)
            chosen = dict.fromkeys(str(measured.facts.get("precision", "untold")) for measured in runs["auto"])
            ratios = [f"{_ratio(runs, 'auto', other):.2f}" for other in ("fp32", "bf16")]
            _line(str(case), [*_medians(runs), *ratios, "/".join(chosen)])


def compare_ways(rounds: int, cases: Sequence[Case], ways: Sequence[Way]) -> None:
    """Print tokens a second of each of ``ways`` for each case, a line each, with the median ratio against the last way
    of one worker.
    """
    names = {f"{workers}x{threads}": (workers, threads) for workers, threads in ways}
    base = [name for name, (workers, _) in names.items() if workers == 1][-1]
    _line("workers x threads", ["way", "tokens/s", f"against {base}"])
    with workplace():
        prepare(small_study(cases[0]))
        for case in cases:

            def run(name: str, case: Case = case) -> Measured:
                workers, threads = names[name]
                return run_study(small_study(case, trials=workers), workers, threads, NullTracker(), fresh())

            runs = _in_turns(rounds, list(names), run)
            for name, median in zip(names, _medians(runs), strict=True):
                _line(str(case), [name, median, f"{_ratio(runs, name, base):.2f}"])


def ways(cores: int) -> list[Way]:
    """Workers x threads in powers of two whose product is at most ``cores``, fewest workers first."""
    powers = [2**k for k in range(cores.bit_length())]
    return [(workers, threads) for workers in powers for threads in powers if workers * threads <= cores]


def _in_turns(rounds: int, names: Sequence[str], run: Callable[[str], Measured]) -> Runs:
    """Run each of ``names`` once a round, beginning with another one each round."""
    runs: Runs = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in [*names[turn:], *names[:turn]]:
            runs[name].append(run(name))
    return runs


def _ratio(runs: Runs, name: str, base: str) -> float:
    return statistics.median(one.rate / other.rate for one, other in zip(runs[name], runs[base], strict=True))


def _medians(runs: Runs) -> list[str]:
    return [f"{statistics.median(measured.rate for measured in times):,.0f}" for times in runs.values()]


def _line(title: str, cells: Sequence[str]) -> None:
    print(f"{title:<28}" + "".join(f"{cell:>13}" for cell in cells), flush=True)
