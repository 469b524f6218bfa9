"""What a loss costs: which complete trials are not beaten in loss and cost at once, and which are as good for less.
Tables in, tables and sentences out; how wide a tie is comes from study/noise.py.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import pandas as pd

from tuner.analysis import words
from tuner.analysis.study.frame import at_milestone
from tuner.search.history import unbeaten

Cost = Literal["parameters", "seconds", "flops", "tokens", "latency_ms", "bytes"]
COSTS: tuple[Cost, ...] = get_args(Cost)

SAID: dict[Cost, str] = {
    "parameters": "parameters", "seconds": "training time", "flops": "compute", "tokens": "tokens",
    "latency_ms": "latency", "bytes": "file size",
}  # fmt: skip
"""Each cost in words, as ``a third of its ...``."""

_WORTH = 0.9
"""A cost above this share of the best's is no saving worth a sentence."""

_SHARES = ((1 / 2, "half"), (1 / 3, "a third"), (1 / 4, "a quarter"), (1 / 5, "a fifth"), (1 / 10, "a tenth"))


def pareto(frame: pd.DataFrame, cost: Cost, band: float = 0.0) -> pd.DataFrame:
    """One row for each complete trial with a finite loss and a known cost, the cheapest first, then by loss.

    Columns: ``number`` (int), ``value`` (the loss), ``cost`` (parameters, seconds of training, FLOPs, tokens,
    milliseconds a token or bytes), ``on_front`` (bool: no other trial is at least as good and as cheap, and better in
    one of the two; equals stand there together), ``as_good`` (float, NaN for none: the number of the cheapest trial
    among those cheaper than this one and at most ``band`` worse). A trial on the front with such a number is better by
    no more than noise.
    """
    values, costs = at_milestone(frame, None), frame[cost].to_numpy(dtype=np.float64)
    numbers = frame["number"].to_numpy()
    known = np.isfinite(values) & np.isfinite(costs)
    order = np.flatnonzero(known)[np.lexsort((numbers[known], values[known], costs[known]))]
    values, costs, numbers = values[order], costs[order], numbers[order]
    before = np.searchsorted(costs, costs, side="left")  # how many are cheaper
    first = _cheapest(values, values + band)
    return pd.DataFrame(
        {
            "number": numbers.astype(np.int64),
            "value": values,
            "cost": costs,
            "on_front": np.array(unbeaten(zip(costs.tolist(), values.tolist(), strict=True)), dtype=np.bool_),
            "as_good": np.where(first < before, numbers[np.minimum(first, len(numbers) - 1)], np.nan),
        }
    )


def hypervolume(table: pd.DataFrame) -> float | None:
    """How much of the box between the best and the worst of both, loss and cost, the front of ``table`` dominates: 1
    where the best is the cheapest too (Zitzler and Thiele, 1999, as a share); None where the box has no area.
    """
    values, costs = table["value"].to_numpy(), table["cost"].to_numpy()
    if not len(table) or np.ptp(values) == 0 or np.ptp(costs) == 0:
        return None
    lowest = np.fmin.accumulate(values)  # for each cost the least loss so far; the cheapest are first
    heights = (values.max() - lowest[:-1]) * np.diff(costs)
    return float(heights.sum() / (np.ptp(values) * np.ptp(costs)))


def bargain(table: pd.DataFrame, cost: Cost, band: float) -> str:
    """``Trial 7 is as good as the best, trial 3, at a third of its parameters.``; empty where none is so cheap.

    ``table`` is that of ``pareto``; as good is at most ``band`` worse, and of several the cheapest is named.
    """
    if table.empty:
        return ""
    best = table.loc[table["value"].idxmin()]
    found = table.iloc[int(_cheapest(table["value"].to_numpy(), np.array(best["value"] + band)))]
    if found["cost"] <= 0 or found["cost"] > _WORTH * best["cost"]:
        return ""
    return (
        f"Trial {int(found['number'])} is as good as the best, trial {int(best['number'])}, "
        f"at {_share(float(found['cost'] / best['cost']))} of its {SAID[cost]}."
    )


def unweighed(table: pd.DataFrame, cost: Cost) -> str:
    """Why there is no loss to weigh against the cost in ``table`` (of ``pareto``), in a sentence; else empty."""
    if len(table) < 2:
        return f"It needs two complete trials with known {SAID[cost]}; this study has {len(table)}."
    if table["cost"].nunique() > 1:
        return ""
    amount = float(table["cost"].iloc[0])
    unit = {"flops": "FLOPs", "latency_ms": "ms a token"}.get(cost, cost)
    said = words.duration(amount) if cost == "seconds" else f"{words.count(amount)} {unit}"
    return f"All {len(table)} complete trials cost the same: {said}."


def _cheapest(values: np.ndarray, most: np.ndarray) -> np.ndarray:
    """For each of ``most`` the first of ``values``, which are ordered by cost, that is no higher; their count if none.

    The first at most so high is where the least so far comes there, and that only falls.
    """
    return np.searchsorted(-np.fmin.accumulate(values), -most, side="left")


def _share(ratio: float) -> str:
    share, word = min(_SHARES, key=lambda pair: abs(pair[0] - ratio))
    return word if abs(share - ratio) <= 0.06 * share else f"{ratio:.0%}" if ratio >= 0.01 else "less than 1 %"
