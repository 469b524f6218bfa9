"""Why trials failed, grouped by cause, and where in the space they did.
Counting only; the traceback of a trial is in its folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tuner.analysis import words
from tuner.analysis.study.frame import POINT, numeric, paths
from tuner.search.history import StudyRecord

FAILED = ("failed", "diverged", "infeasible")
EXAMPLES = 5

_NUMBER = re.compile(r"\d+(?:[.,_]\d+)*(?:[eE][+-]?\d+)?")
_NEEDED = 3
_MOST, _FEWER = 0.6, 0.3
"""A setting says something where most of the failed share it, and clearly fewer of the others."""


@dataclass(frozen=True)
class _Share:
    said: str
    failed: int
    others: int


def causes(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a cause, the most frequent first: ``state``, ``reason`` (numbers as ``#``, so that equal causes are
    one), ``count``, ``examples`` (a list of at most 5 trial numbers).
    """
    groups: dict[tuple[str, str], list[int]] = {}
    rows = frame[frame["state"].isin(FAILED)]
    for number, state, reason in zip(rows["number"], rows["state"], rows["reason"], strict=True):
        groups.setdefault((state, _NUMBER.sub("#", reason) or "no reason was given"), []).append(int(number))
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[1][0]))
    return pd.DataFrame(
        {
            "state": pd.Series([state for (state, _), _ in ordered], dtype=object),
            "reason": pd.Series([reason for (_, reason), _ in ordered], dtype=object),
            "count": np.array([len(numbers) for _, numbers in ordered], dtype=np.int64),
            "examples": pd.Series([numbers[:EXAMPLES] for _, numbers in ordered], dtype=object),
        }
    )


def region(record: StudyRecord, frame: pd.DataFrame) -> str:
    """The setting that most of the failed share and few others have: ``9 of 11 failed have batch >= 64 (2 of 30
    others do)``; empty where there is none, or fewer than 3 failed. Points that a rule forbids are left out.
    """
    tried = frame[
        frame["state"].isin((*FAILED, "complete", "pruned")) & ~frame["reason"].str.startswith("forbidden by")
    ]
    failed = np.asarray(tried["state"].isin(FAILED), dtype=bool)
    bad, good = int(failed.sum()), int((~failed).sum())
    if bad < _NEEDED or good < _NEEDED:
        return ""
    searched = set(record.spec["space"])
    shares = [s for path in paths(frame) if path in searched for s in _shares(tried, path, failed)]
    telling = [s for s in shares if s.failed / bad >= _MOST and s.failed / bad - s.others / good >= _FEWER]
    if not telling:
        return ""
    best = max(telling, key=lambda s: s.failed / bad - s.others / good)
    return f"{best.failed} of {bad} failed have {best.said} ({best.others} of {good} others do)"


def _shares(tried: pd.DataFrame, path: str, failed: np.ndarray) -> Iterator[_Share]:
    """What each value of one path would explain: all at or above it, all at or below it; of words the word itself."""
    settings = numeric(tried, path)
    if settings is None:
        column = tried[POINT + path]
        for value in dict.fromkeys(column[failed]):
            same = np.asarray(column == value, dtype=bool)
            if value is not None:
                yield _Share(f"{path} {words.setting(value)}", int((same & failed).sum()), int((same & ~failed).sum()))
        return
    known = np.isfinite(settings)
    bad, good = np.sort(settings[known & failed]), np.sort(settings[known & ~failed])
    for end in np.unique(bad):
        said = words.number(float(end))
        above = [len(side) - int(np.searchsorted(side, end, side="left")) for side in (bad, good)]
        below = [int(np.searchsorted(side, end, side="right")) for side in (bad, good)]
        yield _Share(f"{path} >= {said}", *above)
        yield _Share(f"{path} <= {said}", *below)
