"""Which points of a crowd are drawn: thousands hide each other and cost a browser seconds. No chance is in it.
A table in, fewer of its rows out, always the same ones; how many are left out is said in a sentence.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

HISTORY, NEWEST = 500, 100
"""Points of a history, and how many of the newest are all among them."""

BOARD, BEST = 600, 100
"""Points of any other picture, and how many of the best are all among them."""


def history_sample(points: pd.DataFrame) -> pd.DataFrame:
    """About 500 rows of a history (``best_so_far``, in its order): every improvement of ``best``, all of the newest
    100, and of the rest an even sample, each state in its share. Drawn as steps, the best so far loses nothing.
    """
    best = points["best"].to_numpy(dtype=np.float64)
    kept = np.r_[True, best[1:] != best[:-1]] & np.isfinite(best) if len(points) else np.zeros(0, dtype=bool)
    kept[-NEWEST:] = True
    return points[_filled(kept, points["state"].to_numpy(), HISTORY)]


def board_sample(board: pd.DataFrame) -> pd.DataFrame:
    """At most 600 rows of a leaderboard (best first): all of the best 100, and of the rest an even sample."""
    kept = np.arange(len(board)) < BEST
    return board[_filled(kept, np.zeros(len(board)), BOARD)]


def front_sample(table: pd.DataFrame) -> pd.DataFrame:
    """About 600 rows of a loss against its cost (``pareto``): all on the front, and of the rest an even sample."""
    return table[_filled(table["on_front"].to_numpy(dtype=bool), np.zeros(len(table)), BOARD)]


def history_left_out(points: pd.DataFrame) -> str:
    """``8,800 of 10,000 points are left out: ...``; empty where all are drawn."""
    what = f"drawn are every improvement, the newest {NEWEST} and an even sample of the rest"
    return _said(len(points), len(history_sample(points)), what)


def board_left_out(board: pd.DataFrame) -> str:
    """``9,400 of 10,000 points are left out: ...``; empty where all are drawn."""
    return _said(len(board), len(board_sample(board)), f"drawn are the best {BEST} and an even sample of the rest")


def front_left_out(table: pd.DataFrame) -> str:
    """``9,390 of 10,000 points are left out: ...``; empty where all are drawn."""
    return _said(len(table), len(front_sample(table)), "drawn are the front and an even sample of the rest")


def _said(whole: int, drawn: int, what: str) -> str:
    return f"{whole - drawn:,} of {whole:,} points are left out: {what}." if drawn < whole else ""


def _filled(kept: np.ndarray, kinds: np.ndarray, most: int) -> np.ndarray:
    """``kept``, and of the other rows so many as ``most`` leaves room for: evenly in their order, each kind in its
    share, at least one of each. All rows where there is room for all.
    """
    if len(kept) <= most:
        return np.ones(len(kept), dtype=bool)
    chosen = kept.copy()
    rest = np.flatnonzero(~kept)
    room = most - int(kept.sum())
    if room <= 0:
        return chosen
    for kind in dict.fromkeys(kinds[rest]):
        rows = rest[kinds[rest] == kind]
        chosen[_even(rows, max(1, room * len(rows) // len(rest)))] = True
    return chosen


def _even(rows: np.ndarray, most: int) -> np.ndarray:
    """``most`` of the rows, the first and the last among them."""
    if len(rows) <= most:
        return rows
    return rows[np.round(np.linspace(0, len(rows) - 1, most)).astype(np.int64)]
