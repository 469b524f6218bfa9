"""Which trials are best at one and the same budget, which of them tie, and who is left out and why.
A table in, a table out; how wide a tie is comes from noise.py.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from tuner.analysis.study.frame import at_milestone, budget_in
from tuner.analysis.study.noise import Noise, tie_band
from tuner.analysis.table import STATE_ORDER


def leaderboard(frame: pd.DataFrame, milestone: int | None, noise: Noise | float) -> pd.DataFrame:
    """The rows that reached ``milestone`` (None: the full budget, complete ones only), best first, then by number.

    ``noise`` is the deviation between seeds. First columns: ``value_at`` (the value there), ``gap`` (to the best,
    0 or more), ``tie`` (int: 1 for those within ``tie_band(noise)`` of the best; the best of the others begins
    group 2, and so on); then those of the frame. A loss that is not finite is not ranked.
    """
    values = at_milestone(frame, milestone)
    order = np.lexsort((frame["number"].to_numpy(), values))[: int(np.isfinite(values).sum())]
    best_first = values[order]
    table = frame.iloc[order].reset_index(drop=True)
    table.insert(0, "value_at", best_first)
    table.insert(1, "gap", best_first - best_first[:1])
    table.insert(2, "tie", _groups(best_first, tie_band(noise)))
    return table


def by_path(board: pd.DataFrame) -> pd.DataFrame:
    """Of a leaderboard ``number``, ``state`` and ``value``, and what the search chose, each column called by its path.
    No other: ``seed`` is a path as well as a fact.
    """
    paths = [name for name in board if str(name).startswith("point.")]
    table = board[["number", "state", "value_at", *paths]]
    return table.rename(columns=lambda name: "value" if name == "value_at" else str(name).removeprefix("point."))


def hidden(frame: pd.DataFrame, milestone: int | None) -> str:
    """Who is not on the leaderboard, in words: ``87 hidden: 74 never reached 1M tokens, 11 failed, 2 running``.

    Empty where none is.
    """
    rest = frame[np.isnan(at_milestone(frame, milestone))]
    if rest.empty:
        return ""
    finished = rest["state"].isin(("complete", "pruned"))
    there = (rest["state"] == "complete") if milestone is None else finished & (rest["reached"] >= milestone)
    parts = [
        (int((finished & ~there).sum()), f"never reached {budget_in(frame, milestone)}"),
        (int(there.sum()), "without a finite loss there"),
        *((int((rest["state"] == state).sum()), state) for state in STATE_ORDER if state not in ("complete", "pruned")),
    ]
    return f"{len(rest)} hidden: " + ", ".join(f"{count} {what}" for count, what in parts if count)


def _groups(values: np.ndarray, band: float) -> np.ndarray:
    """The tie group of each of the sorted ``values``."""
    groups = np.zeros(len(values), dtype=np.int64)
    start = group = 0
    while start < len(values):
        group += 1
        end = max(start + 1, int(np.searchsorted(values, values[start] + band, side="right")))
        groups[start:end] = group
        start = end
    return groups
