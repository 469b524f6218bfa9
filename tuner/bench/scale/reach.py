"""How far one driver reaches: verdicts with workers by the hundred, ask and tell with trials by the thousand.
The workers are simulated; driver, search, spools and store are the real ones.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from tuner.bench.lab import fresh, workplace
from tuner.bench.pages.studies import make_study
from tuner.bench.scale.hands import Flood, Paced
from tuner.run.driver import Driver
from tuner.run.watcher import Silent
from tuner.search.asktell import Search
from tuner.search.store.address import said, sqlite_file
from tuner.search.store.reader import engine_of
from tuner.search.store.storage import Storage, open_storage
from tuner.spec.errors import StoreError
from tuner.spec.load import parse
from tuner.spec.records import Measurement, Outcome, Spent, State
from tuner.spec.study import StudySpec
from tuner.tracking.tracker import Spooler

TRIALS = 40
"""Trials asked and told again in a store, for a median."""


def measure_reach(url: str | None, crowds: Sequence[int], rate: float, seconds: float, stores: Sequence[int]) -> None:
    """Print decisions a second with each number of workers, the verdict's latency at ``rate`` reports a second with
    the most of them, and ask + tell in stores of so many trials; ``url`` None is a SQLite file.

    Raises:
        StoreError: the store cannot be reached.
    """
    with workplace() as folder, _place(url, folder) as (place, storage):
        print(f"store: {said(place)}; simulated workers")
        for crowd in crowds:
            _flood(storage(), crowd)
        for name in ("paced", f"flood-{max(crowds)}"):
            _pace(storage(), name, max(crowds), rate, seconds)
        for trials in sorted(stores):
            _grow(place, storage(), trials)


def _spec(name: str, trials: int) -> StudySpec:
    """A study of seven dimensions with the default sampler and pruner."""
    return parse(f"""
name: {name}
trial: {{budget: 1M tokens}}
space:
  optim.lr:      {{float: [1e-4, 3e-2], log: true}}
  optim.warmup:  {{float: [0.0, 0.2]}}
  batch:         {{choice: [8, 16, 32, 64]}}
  model.depth:   {{int: [2, 8]}}
  model.width:   {{int: [64, 256], step: 32}}
  optim.kind:    {{choice: [adamw, muon]}}
  optim.muon.lr: {{float: [1e-3, 1e-1], log: true, when: {{optim.kind: muon}}}}
study: {{trials: {trials}, milestones: 10}}
""")


def _flood(storage: Storage, crowd: int) -> None:
    """Workers that always have something to say: how many verdicts a second the driver can give."""
    hands = Flood(crowd)
    driver = _driver(_spec(f"flood-{crowd}", max(100, 2 * crowd)), storage, hands)
    began = time.perf_counter()
    driver.run()
    lasted = time.perf_counter() - began
    print(
        f"{crowd:4} workers on the fake clock: {len(hands.answered) / lasted:5.0f} decisions/s, choosing the next "
        f"trials included; a verdict takes {_shares(hands.answered)}; driver {_memory()}",
        flush=True,
    )


def _pace(storage: Storage, name: str, crowd: int, rate: float, seconds: float) -> None:
    """Workers in real time that report ``rate`` times a second together, for ``seconds``: in a new study, in which all
    have a trial, and in that of ``_flood``, whose pruner ends most trials as soon as they have reported.
    """
    hands = Paced(crowd, crowd / rate, seconds, lambda: driver.stop())
    driver = _driver(_spec(name, 10**6), storage, hands)
    past = driver.search.spent
    driver.run()
    begun, waiting = hands.begun - crowd, statistics.fmean(hands.empty)
    print(
        f"{crowd:4} workers in real time after {past:,} trials, {len(hands.answered) / seconds:.0f} reports/s for "
        f"{seconds:.0f} s, in which {begun} trials begin and {waiting:.0f} workers wait for one: a verdict comes after "
        f"{_shares(hands.answered)}; the driver is busy {hands.busy:.0%} of the time; {_memory()}",
        flush=True,
    )


def _driver(spec: StudySpec, storage: Storage, hands: Flood | Paced) -> Driver:
    runs = fresh()
    tracker = Spooler(runs, lambda sentence: None)
    return Driver(spec, Search(spec, storage), hands, tracker, Silent(), runs, runs / "corpora", clock=hands.clock)


def _grow(place: str, storage: Storage, trials: int) -> None:
    """Ask and tell in a store of so many trials, one at a time."""
    spec = make_study(place, trials, _spec(f"grown-{trials}", 10**6))
    began = time.perf_counter()
    search = Search(spec, storage)
    opened = time.perf_counter() - began
    took = []
    for _ in range(TRIALS):
        began = time.perf_counter()
        asked = search.ask()
        spent = Spent(100, 10**6, 1e12, 60.0)
        search.report(asked.number, Measurement(spent, {"val_loss": 3.5}, 10))
        search.tell(asked.number, Outcome(State.COMPLETE, "simulated"), 3.5, spent)
        took.append(time.perf_counter() - began)
    print(
        f"{trials:7,} trials in the store: opened in {opened:.1f} s; ask, a report and tell {_shares(took)}; "
        f"driver {_memory()}",
        flush=True,
    )


def _shares(seconds: Sequence[float]) -> str:
    """Median, 99th percentile and longest, in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"{1000 * cuts[49]:.1f} ms (99th percentile {1000 * cuts[98]:.0f}, longest {1000 * max(seconds):.0f})"


def _memory() -> str:
    return f"{psutil.Process().memory_info().rss / 1e6:.0f} MB"


@contextlib.contextmanager
def _place(url: str | None, folder: Path) -> Iterator[tuple[str, Callable[[], Storage]]]:
    """A store of the bench's own, gone afterwards: a file, or a schema beside the user's; and how to open it."""
    if url is None or sqlite_file(url) is not None:
        place, schema = f"sqlite:///{folder}/tuner.db", None
    elif "options=" in url:
        raise StoreError(f"{said(url)}: the bench makes a schema of its own; name the database without options.")
    else:
        schema = f"tuner_bench_{os.getpid()}"
        place = f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}"
    storage = open_storage(place, create=True)
    try:
        yield place, lambda: storage
    finally:
        engine = engine_of(storage)
        storage.remove_session()
        assert engine is not None
        if schema is not None:
            with engine.begin() as connection:
                connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
        engine.dispose()
