"""The few numbers at the head of every page of a study.
Taken from the record and the frame that a page has already; nothing is read here.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

import numpy as np
import pandas as pd

from tuner.analysis.study.frame import at_milestone, budget_at, milestones
from tuner.analysis.study.noise import Noise, tie_band
from tuner.analysis.table import counts
from tuner.search.history import IMPORTED, StudyRecord
from tuner.search.repeats import REPEAT, winner


class Headline(TypedDict):
    """``counts``: trials by state. ``best``: at the full budget, None without one: of the trial to ship, which is that
    with the lowest loss, or, where the best ran again, one of the settings that stood best then; ``best_number`` its
    trial; ``band``: within which two trials tie; ``budget``: of a trial, in words. ``spent`` of ``total`` trials have
    ended, repeats and those of another study among both (infeasible ones cost none). ``failure_rate``: failed and
    diverged ones of those that ended, None before the first. ``last_activity``: the last start or end, None before the
    first.
    """

    counts: dict[str, int]
    best: float | None
    best_number: int | None
    band: float
    budget: str
    spent: int
    total: int
    failure_rate: float | None
    last_activity: datetime | None


def headline(record: StudyRecord, frame: pd.DataFrame, noise: Noise) -> Headline:
    """The numbers of the header."""
    values = at_milestone(frame, None)
    lowest = int(frame["number"].iloc[np.nanargmin(values)]) if np.isfinite(values).any() else None
    ran_again = winner(record) if any(REPEAT in trial.facts for trial in record.trials) else None
    best = lowest if ran_again is None else ran_again.number
    states = counts(record)
    spent = sum(count for state, count in states.items() if state not in ("running", "queued", "infeasible"))
    broken = states.get("failed", 0) + states.get("diverged", 0)
    times = [time for trial in record.trials for time in (trial.started, trial.ended) if time is not None]
    return {
        "counts": states,
        "best": None if best is None else record.find(best).value,
        "best_number": best,
        "band": tie_band(noise),
        "budget": budget_at(record, milestones(record)),
        "spent": spent,
        "total": int(record.spec["study"]["trials"])
        + sum(bool({REPEAT, IMPORTED} & set(trial.facts)) for trial in record.trials),
        "failure_rate": broken / spent if spent else None,
        "last_activity": max(times, default=None),
    }
