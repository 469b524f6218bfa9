"""Workers against threads: does a second process train more than a second thread on this machine?
One run, alternating, medians; the ratio is what counts.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from tuner.bench.lab import run_study, two_trials, workplace
from tuner.tracking.base import NullTracker


def compare_workers(pairs: int) -> None:
    """Print tokens a second of both ways for each pair, and the median ratio."""
    ratios = []
    with workplace():
        for pair in range(pairs):
            rates = []
            for workers, threads in ((2, 1), (1, 2)):
                run = run_study(two_trials(milestones=2), workers, threads, NullTracker(), Path(f"{pair}-{workers}"))
                rates.append(run.tokens / run.wall)
            ratios.append(rates[0] / rates[1])
            print(f"2 workers x 1 thread: {rates[0]:,.0f} tokens/s; 1 x 2: {rates[1]:,.0f}; ratio {ratios[-1]:.2f}")
    print(f"median: two workers train {statistics.median(ratios):.2f} x the tokens a second of one with two threads")
