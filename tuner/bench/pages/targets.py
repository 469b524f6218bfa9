"""The dashboard's targets, measured in a real browser on simulated studies; and its first chart beside another's.
What is promised and how it is said; one visit is measured in loads.py.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.bench.lab import fresh, workplace
from tuner.bench.pages.browser import await_answer, browsing, ended, free_port, serving
from tuner.bench.pages.loads import filter_changes, load, page_switches
from tuner.bench.pages.studies import STORE, make_study, simulated_spec

SIZES = (10, 1_000, 10_000)
TARGETS: Mapping[str, tuple[float, float, float]] = {
    "numbers visible": (1.8, 1.8, 2.0),
    "first chart": (2.0, 2.2, 2.5),
    "first table": (2.0, 2.2, 2.5),
    "first visitor after start": (3.0, 3.0, 4.0),
    "filter change": (0.3, 0.4, 0.8),
    "page switch": (0.4, 0.4, 0.8),
}
"""Seconds at each of SIZES, the 75th percentile of the loads; a size between two has the larger one's."""

BESIDE_TRIALS, SOONER = 2_000, 4.0
INSTALL = "no optuna-dashboard here, so nothing is set beside ours: pip install optuna-dashboard"


def measure_targets(sizes: Sequence[int], loads: int, beside: bool) -> None:
    """Print a line for each size and target: the target, 75th percentile, median and range in seconds, ok or missed;
    then, with ``beside``, how much sooner the first chart is than optuna-dashboard's.

    Every load is of a browser that has nothing cached, on a server that is warm but for the row that says so.

    Raises:
        TunerError: there is no browser, the dashboard did not come up, or a page never showed what was waited for.
    """
    with workplace(), browsing() as browser:
        print(f"{'trials':>7}  {'seconds until':<27}{'target':>7}{'p75':>8}{'median':>8}{'range':>16}", flush=True)
        for trials in sizes:
            folder = fresh()
            make_study(folder, trials)
            for row, seconds in _rows(browser, folder, loads):
                _say(trials, row, seconds)
            shutil.rmtree(folder)
        if beside:
            _compare(browser, max(3, loads // 2))


def target(row: str, trials: int) -> float:
    """Seconds promised for a study of so many trials."""
    place = next((place for place, size in enumerate(SIZES) if trials <= size), len(SIZES) - 1)
    return TARGETS[row][place]


def p75(seconds: Sequence[float]) -> float:
    """The 75th percentile, between the two nearest where it falls between."""
    return statistics.quantiles(seconds, n=4, method="inclusive")[2] if len(seconds) > 1 else seconds[0]


def _page(address: str, page: str) -> str:
    return f"{address}/{page}?study={simulated_spec(1).name}"


def _rows(browser: Any, folder: Path, loads: int) -> Iterator[tuple[str, list[float]]]:
    with serving(folder) as address:
        overview, trials = _page(address, "overview"), _page(address, "trials")
        load(browser, overview, ["chart"])
        load(browser, trials, ["table"])
        both = [load(browser, overview, ["numbers", "chart"]) for _ in range(loads)]
        yield "numbers visible", [numbers for numbers, _ in both]
        yield "first chart", [chart for _, chart in both]
        yield "first table", [load(browser, trials, ["table"])[0] for _ in range(loads)]
        yield "filter change", filter_changes(browser, trials, loads)
        yield "page switch", page_switches(browser, overview, loads)
    first = []
    for _ in range(loads):
        with serving(folder) as address:
            first += load(browser, _page(address, "overview"), ["chart"])
    yield "first visitor after start", first


def _say(trials: int, row: str, seconds: Sequence[float]) -> None:
    promised, reached = target(row, trials), p75(seconds)
    spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
    print(
        f"{trials:>7,}  {row:<27}{promised:>7.1f}{reached:>8.2f}{statistics.median(seconds):>8.2f}{spread:>16}  "
        f"{'ok' if reached <= promised else 'missed'}",
        flush=True,
    )


def _compare(browser: Any, pairs: int) -> None:
    """Print both sides' first chart of a study of BESIDE_TRIALS, in turns, and the ratio of the medians."""
    program = Path(sys.executable).with_name("optuna-dashboard")
    if not program.exists():
        print(INSTALL)
        return
    folder = fresh()
    make_study(folder, BESIDE_TRIALS)
    with serving(folder) as address, _serving_other(program, folder) as other:
        ours, theirs = _page(address, "overview"), f"{other}/dashboard/studies/1"
        sides: dict[str, list[float]] = {"chart": [], "plotted": []}
        for pair in range(pairs + 1):  # the first only warms up
            turns = [("chart", ours), ("plotted", theirs)]
            for name, where in turns if pair % 2 else reversed(turns):
                (seconds,) = load(browser, where, [name])
                sides[name] += [seconds] if pair else []
    mine, others = (statistics.median(seconds) for seconds in sides.values())
    print(
        f"first chart at {BESIDE_TRIALS:,} trials, medians of {pairs} in turns: {mine:.2f} s; optuna-dashboard "
        f"{others:.2f} s, so ours is {others / mine:.1f} x sooner (target {SOONER:.0f} x: "
        f"{'ok' if others / mine >= SOONER else 'missed'})",
        flush=True,
    )


@contextlib.contextmanager
def _serving_other(program: Path, folder: Path) -> Iterator[str]:
    """optuna-dashboard on the same store; yields its address."""
    port, log = free_port(), folder / "other.log"
    address = f"http://127.0.0.1:{port}"
    with log.open("wb") as out:
        words = [str(program), f"sqlite:///{folder / STORE}", "--port", str(port)]
        process = subprocess.Popen(words, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    try:
        await_answer(f"{address}/dashboard", process, log)
        yield address
    finally:
        ended(process)
