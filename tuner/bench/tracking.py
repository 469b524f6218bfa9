"""MLflow present, absent, hanging, or none at all: what does tracking cost the training, and the exit?
The same study each time, alternating; training seconds are the trainers' own count.
"""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from tuner.bench.lab import Case, prepare, run_study, small_study, workplace
from tuner.tracking.base import NullTracker, Tracker
from tuner.tracking.store import DEFAULT_URI, patience
from tuner.tracking.tracker import StudyTracker

ABSENT = "http://127.0.0.1:9"  # the discard port: refused at once


def _none(folder: Path) -> Tracker:
    return NullTracker()


def _at(uri: str) -> Callable[[Path], Tracker]:
    return lambda folder: StudyTracker(folder, "bench", uri, lambda sentence: None)


def compare_tracking(rounds: int) -> None:
    """Print training seconds and exit delay of each way, and the median ratios against no tracking."""
    with socket.create_server(("127.0.0.1", 0)) as mute, workplace():  # it takes connections and never answers
        hanging = f"http://127.0.0.1:{mute.getsockname()[1]}"
        _compare(
            rounds,
            {
                "no tracking": (_none, DEFAULT_URI),
                "MLflow here": (_at(DEFAULT_URI), DEFAULT_URI),
                "server absent": (_at(ABSENT), ABSENT),
                "server hangs": (_at(hanging), hanging),
            },
        )


def _compare(rounds: int, ways: dict[str, tuple[Callable[[Path], Tracker], str]]) -> None:
    spec = small_study(Case(depth=4, width=128, batch=12, context=64, steps=150), trials=2, milestones=5)
    prepare(spec)
    training: dict[str, list[float]] = {name: [] for name in ways}
    exits: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):  # the first round warms caches and makes mlflow.db
        turn = number % len(ways)  # each way comes first as often as last
        for name in [*ways][turn:] + [*ways][:turn]:
            make, uri = ways[name]
            folder = Path("runs") / f"bench{number}-{name.replace(' ', '-')}"
            tracker = make(folder)
            run = run_study(spec, 2, 1, tracker, folder)
            began = time.perf_counter()
            tracker.close(patience(uri, hurried=False))
            if number:
                training[name].append(run.training)
                cpu[name].append(run.driver / run.training)
                exits[name].append(time.perf_counter() - began)
    base = training["no tracking"]
    for name, seconds_of in training.items():
        ratio = statistics.median(one / other for one, other in zip(seconds_of, base, strict=True))
        print(
            f"{name}: training {statistics.median(seconds_of):.2f} s, {ratio:.3f} x no tracking; "
            f"driver's processor time {statistics.median(cpu[name]):.1%} of it; "
            f"exit delayed by {max(exits[name]):.2f} s at most"
        )
