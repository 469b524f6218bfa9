"""Is the search still paying off: the best so far on any axis, the recent gain against noise, what to do now.
Worked out from the frame; nothing here stops a study.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pandas as pd

from tuner.analysis.study.frame import at_milestone
from tuner.analysis.study.noise import Noise, tie_band
from tuner.search import ending
from tuner.search.history import FINISHED

Axis = Literal["trials", "tokens", "flops", "hours"]

NEEDED = 6
"""Finished trials from which on progress is judged at all; and the fewest without gain that suggest a stop."""


def best_so_far(frame: pd.DataFrame, axis: Axis, milestone: int | None = None) -> pd.DataFrame:
    """One row for each trial that ended, as they ended: ``x``, ``best``, ``number``, ``state``, ``value``.

    ``x`` adds up what all trials so far have spent here, pruned and failed ones too: trials (infeasible ones and those
    of another study cost none), tokens, FLOPs, or hours of training. ``value`` is the trial's own at ``milestone``
    (None: the full budget), NaN where it has none; ``best`` the least of those so far, NaN before the first.
    """
    ended = _in_order(frame)
    values = at_milestone(ended, milestone)
    return pd.DataFrame(
        {
            "x": np.cumsum(_spent(ended, axis)),
            "best": np.fmin.accumulate(values) if len(values) else values,
            "number": ended["number"].to_numpy(),
            "state": ended["state"].to_numpy(),
            "value": values,
        }
    )


def gain_recent(frame: pd.DataFrame, share: float = 0.2) -> float | None:
    """How much the best fell over the last ``share`` of the finished trials; None where there was no best before."""
    best = _best(frame)
    last = max(1, round(share * len(best)))
    if len(best) <= last or math.isnan(best[-last - 1]):
        return None
    return float(best[-last - 1] - best[-1])


def stale(frame: pd.DataFrame, noise: Noise) -> int:
    """How many trials finished since the best came within noise of what it is now."""
    best = _best(frame)
    return 0 if not len(best) or math.isnan(best[-1]) else ending.stale(best.tolist(), tie_band(noise))


def advice(frame: pd.DataFrame, noise: Noise) -> str:
    """One sentence: too little to judge, go on, or stop."""
    states = frame["state"]
    own = frame[frame["ended"].notna() & ~frame["imported"] & ~frame["repeat"]]
    best, finished = _best(frame), int(own["state"].isin(FINISHED).sum())
    if len(own) and not finished:
        return f"No trial of {len(own)} came to a loss: look at the causes first."
    if finished < NEEDED or math.isnan(best[-1]):
        complete = int((own["state"] == "complete").sum())
        return f"Too early to judge: {finished} finished, {complete} at the full budget; needs {NEEDED} and 1."
    since = stale(frame, noise)
    word = "assumed seed noise" if noise.assumed else "seed noise"
    if since >= max(NEEDED, round(0.2 * len(best))):
        if (frame["repeat"] & (states == "running")).any():
            return f"Gain below {word} for {since} trials; the best is running again."
        if (frame["repeat"] & (states == "complete")).any():
            return f"Gain below {word} for {since} trials, and the best ran again: this search has done its work."
        top = min(3, int((states == "complete").sum()))
        return f"Gain below {word} for {since} trials: stop, or repeat the top {top} with new seeds."
    ago = "with the newest trial" if since == 0 else f"{since} {'trial' if since == 1 else 'trials'} ago"
    return f"Go on: the last gain above {word} came {ago}."


def funnel(frame: pd.DataFrame, K: int) -> pd.DataFrame:
    """``milestone`` 1 .. K, how many trials ``reached`` it, how many were ``pruned`` there."""
    reached = frame["reached"].to_numpy()
    pruned = reached[(frame["state"] == "pruned").to_numpy()]
    shares = np.arange(1, K + 1)
    return pd.DataFrame(
        {
            "milestone": shares,
            "reached": [int((reached >= k).sum()) for k in shares],
            "pruned": [int((pruned == k).sum()) for k in shares],
        }
    )


def _in_order(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["ended"].notna()].sort_values(["ended", "number"])


def _best(frame: pd.DataFrame) -> np.ndarray:
    """The best so far after each trial of the search that finished (see ending.py): a failed or infeasible one is no
    attempt that brought nothing, those of another study set the best to begin with, and repeats of the best are none
    of its.
    """
    finished = frame[frame["state"].isin(FINISHED) & ~frame["repeat"]]
    before = at_milestone(finished[finished["imported"]], None)
    own = at_milestone(_in_order(finished[~finished["imported"]]), None)
    known = before[np.isfinite(before)]
    values = np.r_[known.min(), own] if len(known) else own
    return np.fmin.accumulate(values) if len(values) else values


def _spent(ended: pd.DataFrame, axis: Axis) -> np.ndarray:
    match axis:
        case "trials":
            return np.asarray((ended["state"] != "infeasible") & ~ended["imported"], dtype=np.int64)
        case "hours":
            return np.asarray(spent(ended, "seconds")) / 3600
    return np.asarray(spent(ended, axis))


def spent(frame: pd.DataFrame, what: str) -> pd.Series:
    """``seconds``, ``tokens`` or ``flops`` of each trial; 0 where another study spent them."""
    return frame[what].fillna(0.0).where(~frame["imported"], 0.0)
