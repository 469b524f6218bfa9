"""What watching costs: a real study of two workers trains with browsers on its dashboard and without, in turns.
The browsers stand for other people's machines and get only idle time; the server is as a user starts it.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from tuner.bench.lab import Case, fresh, prepare, run_study, small_study, workplace
from tuner.bench.pages.browser import browsing, serving_process
from tuner.bench.pages.loads import visit
from tuner.bench.pages.studies import STORE, make_study
from tuner.search.asktell import Search
from tuner.search.store.storage import open_storage
from tuner.spec.study import StudySpec
from tuner.tracking.base import NullTracker

PAGES = ("overview", "trials", "parameters", "compare", "trial")
CASE = Case(depth=4, width=128, batch=12, context=64, steps=1200)  # 40 s a trial: shorter ones scatter by 5 %
WORKERS, TRIALS, MILESTONES = 2, 4, 10
BEFORE = 200  # simulated trials that the study has already, so that the pages have something to draw
TARGET = 0.98
SETTLE_S = 4.0


@dataclass(frozen=True)
class Watched:
    """A run of the study: training tokens a second of all its trials together; what the watching took meanwhile:
    processor seconds a minute of the server and of the browsers, and a page's messages to the server a minute
    (None where nobody watched).
    """

    rate: float
    server: float | None = None
    browsers: float | None = None
    asked: float | None = None


def compare_watching(browsers: int, pairs: int, by_page: bool) -> None:
    """Print tokens a second with ``browsers`` watching and without for each pair, and the median ratio; then, with
    ``by_page``, what the server takes where all of them watch the same page.

    The pages are open, and have drawn, before training begins: what is measured is watching, not arriving.

    Raises:
        TunerError: there is no browser, the dashboard did not come up, or a trial did not complete.
    """
    spec = _spec()
    with workplace():
        prepare(spec)
        print(
            f"{TRIALS} trials of {CASE}, {CASE.steps} steps and {MILESTONES} milestones, on {WORKERS} workers of one "
            f"thread, in a study of {BEFORE} simulated ones; {browsers} browsers that get idle time only, since they "
            "stand for other people's machines; the server as a user starts it",
            flush=True,
        )
        different = [PAGES[number % len(PAGES)] for number in range(browsers)]
        ratios, servers = [], []
        for pair in range(1, pairs + 1):
            if pair % 2:
                watched, alone = _run(spec, different), _run(spec, [])
            else:
                alone, watched = _run(spec, []), _run(spec, different)
            ratios.append(watched.rate / alone.rate)
            servers.append(watched.server or 0.0)
            print(
                f"pair {pair}: watched {watched.rate:,.0f} tokens/s, alone {alone.rate:,.0f}, ratio {ratios[-1]:.3f}; "
                f"{_cost(watched)}",
                flush=True,
            )
        median = statistics.median(ratios)
        print(
            f"median of {pairs}: {median:.3f} x the speed of the study alone ({min(ratios):.3f} to {max(ratios):.3f}; "
            f"target {TARGET}: {'ok' if median >= TARGET else 'missed'}); the server took "
            f"{statistics.median(servers):.1f} processor seconds a minute"
        )
        for page in PAGES if by_page else ():
            print(f"{browsers} browsers on {page + ':':<12} {_cost(_run(spec, [page] * browsers))}", flush=True)


def _cost(watched: Watched) -> str:
    return (
        f"processor s/min: server {watched.server:.1f}, browsers {watched.browsers:.1f}; "
        f"each page asked {watched.asked:.0f} times a minute"
    )


def _spec() -> StudySpec:
    """Equal trials but for their learning rate and warmup, which cost nothing."""
    data = small_study(CASE, BEFORE + TRIALS, MILESTONES).model_dump(mode="json")
    data["space"] = {"optim.lr": {"float": [1e-4, 1e-2], "log": True}, "optim.warmup": {"float": [0.0, 0.2]}}
    return StudySpec.model_validate(data)


def _run(spec: StudySpec, pages: Sequence[str]) -> Watched:
    """The study in a new folder, watched on ``pages``.

    Trial 0 is one that a driver left running, so that the pages take the study for a running one when they open.
    """
    folder = fresh()
    url = f"sqlite:///{folder / STORE}"
    Search(spec, open_storage(url, create=True)).ask()
    make_study(folder, BEFORE, spec)
    runs = folder / "runs" / spec.name
    runs.mkdir(parents=True)
    try:
        if not pages:
            return Watched(run_study(spec, WORKERS, 1, NullTracker(), runs, url).rate)
        before = _children()
        with serving_process(folder) as (address, process), _watching(address, spec.name, pages) as open_pages:
            watchers = _children() - before - {process.pid}
            began, asked = time.monotonic(), _asked(open_pages)
            server, browsers = _seconds([process.pid]), _seconds(watchers)
            rate = run_study(spec, WORKERS, 1, NullTracker(), runs, url).rate
            minutes = (time.monotonic() - began) / 60
            return Watched(
                rate,
                (_seconds([process.pid]) - server) / minutes,
                (_seconds(watchers) - browsers) / minutes,
                (_asked(open_pages) - asked) / minutes / len(pages),
            )
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _watching(address: str, study: str, pages: Sequence[str]) -> Iterator[list[Any]]:
    """A visitor on each of ``pages``, once all have drawn them."""
    more = {"compare": "&compare=0,1", "trial": "&trial=0"}
    with browsing(idle=True) as browser, contextlib.ExitStack() as visitors:
        opened = [
            visitors.enter_context(visit(browser, f"{address}/{page}?study={study}{more.get(page, '')}"))
            for page in pages
        ]
        for page in opened:
            page.wait_for_selector(".st-key-header", timeout=120_000)
        for page in opened:
            page.wait_for_selector('[data-testid="stStatusWidget"]', state="detached", timeout=120_000)
        time.sleep(SETTLE_S)
        yield opened


def _asked(pages: Sequence[Any]) -> int:
    return sum(int(page.evaluate("tunerSent")) for page in pages)


def _children() -> set[int]:
    return {one.pid for one in psutil.Process().children()}


def _seconds(pids: Collection[int]) -> float:
    """Processor seconds of processes and of all that they started, so far."""
    seconds = 0.0
    for whole in map(psutil.Process, pids):
        for one in (whole, *whole.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = one.cpu_times()
                seconds += times.user + times.system
    return seconds
