"""The five numbers that say where a search stands, each with its basis and what it means; and what runs here.
Worked out by tuner.analysis, told alike on the page Overview and in a report; no streamlit, nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any, NamedTuple

import pandas as pd

from app.looks import number
from tuner.analysis.study.frame import budget_at, milestones
from tuner.analysis.study.live import headline
from tuner.analysis.study.noise import Noise, expected_again, expected_on_rerun, standings, tie_band
from tuner.analysis.study.progress import advice, gain_recent, spent
from tuner.analysis.words import count, duration


class Told(NamedTuple):
    """A number in words, what it stands on, and what it means."""

    label: str
    value: str
    basis: str
    why: str


def advised(record: Any, frame: pd.DataFrame, noise: Noise) -> str:
    """Go on, or stop; nothing where two objectives are weighed: the loss alone does not say whether it still pays."""
    return "" if record.spec["study"].get("against") else advice(frame, noise)


def standing(record: Any, frame: pd.DataFrame, noise: Noise) -> list[Told]:
    """Best, expected on a re-run, spent, recent gain, failure rate."""
    told, band = headline(record, frame, noise), tie_band(noise)
    again = standings(record)
    rerun = expected_again(again[0], noise) if again else expected_on_rerun(frame, noise)
    gain = gain_recent(frame)
    ended = int((~frame["state"].isin(("running", "queued"))).sum())
    bad = int(frame["state"].isin(("failed", "diverged", "infeasible")).sum())
    tokens, seconds = (float(spent(frame, what).sum()) for what in ("tokens", "seconds"))
    return [
        Told(
            f"Best @ {budget_at(record, milestones(record))}",
            "–" if told["best"] is None else number(told["best"]),
            "no trial has finished" if told["best"] is None else f"trial {told['best_number']}",
            "The trial to ship at the full budget, as measured: the best, or the best of the settings that stood best "
            "when run again.",
        ),
        Told(
            "Expected on re-run",
            "–" if rerun is None else f"{number(rerun[0])}\u00a0–\u00a0{number(rerun[1])}",
            f"{len(again[0].values)} seeds of its settings, {noise.basis}" if again else noise.basis,
            "The best of many is partly luck. Run again with another seed, it lands here in 95 of 100 cases.",
        ),
        Told(
            "Spent",
            f"{told['spent']} of {told['total']}",
            f"{count(tokens)} tokens, {duration(seconds)}",
            "Finished trials of the study's total; what trials of another study took is not counted.",
        ),
        Told(
            "Gain, last 20 %",
            "–" if gain is None else number(gain) if gain else "none",
            "too few finished" if gain is None else "under noise" if gain < band else "above noise",
            f"How much the last fifth of the trials improved the best. Noise is ±{band:.2g}.",
        ),
        Told(
            "Failure rate",
            f"{bad / ended:.0%}" if ended else "–",
            f"{bad} of {ended}",
            "Failed, diverged and infeasible trials, of those that ended. Pruned ones are not failures.",
        ),
    ]


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Package -> version of those that are installed, without importing any of them."""
    found = {}
    for package in packages:
        try:
            found[package] = str(metadata.version(package))
        except metadata.PackageNotFoundError:
            continue
    return found
