"""When a study has had enough: a total is spent, or the search no longer pays.
Worked out from what the store has and what runs; whoever drives the study ends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tuner.search.history import FINISHED, IMPORTED, StudyRecord, TrialRecord
from tuner.search.noise import Z, study_noise, tie_band
from tuner.search.repeats import REPEAT
from tuner.spec.parts.settings import StopSettings, StudySettings
from tuner.spec.records import Spent, Value


@dataclass(frozen=True)
class Enough:
    """Why no further trial of the search begins; with ``spent`` nothing runs on either, for a total is used up."""

    sentence: str
    spent: bool


def enough(record: StudyRecord, settings: StudySettings, live: Mapping[int, Spent], seconds: float) -> Enough | None:
    """Whether the study is to end before its trials are used up; None while it is not.

    ``live`` is what trials by number have spent so far in this session, ``seconds`` how long the study has run in all
    its sessions.
    """
    if (why := _total(record, settings, live, seconds)) is not None:
        return Enough(why, spent=True)
    if settings.stop is not None and (why := _stale(record, settings.stop)) is not None:
        return Enough(why, spent=False)
    return None


def spent(record: StudyRecord, live: Mapping[int, Spent]) -> Spent:
    """What all trials have spent here together: as ``live`` has it, else as stored at their last milestone or end."""
    every = [live.get(trial.number) or _stored(trial.facts) for trial in record.trials if IMPORTED not in trial.facts]
    return Spent(
        sum(one.steps for one in every),
        sum(one.tokens for one in every),
        sum(one.flops for one in every),
        sum(one.seconds for one in every),
    )


def _stored(facts: Mapping[str, Value]) -> Spent:
    def number(name: str) -> float:
        value = facts.get(name)
        return float(value) if isinstance(value, int | float) else 0.0

    return Spent(int(number("steps")), int(number("tokens")), number("flops"), number("seconds"))


def stale(best_so_far: Sequence[float], band: float) -> int:
    """How many values came since the best so far was within ``band`` of what it is at the end."""
    if not len(best_so_far):
        return 0
    limit = best_so_far[-1] + band
    return len(best_so_far) - 1 - next(place for place, best in enumerate(best_so_far) if best <= limit)


def _total(record: StudyRecord, settings: StudySettings, live: Mapping[int, Spent], seconds: float) -> str | None:
    totals = settings.totals
    if totals is None:
        return None
    used = spent(record, live)
    for limit, have, words in (
        (totals.tokens, used.tokens, "tokens"),
        (totals.flops, used.flops, "FLOPs"),
        (totals.seconds, seconds, "seconds"),
        (totals.device_hours, used.seconds / 3600, "hours of device"),
    ):
        if limit is not None and have >= limit:
            return f"the study's total of {limit:,.10g} {words} is spent"
    return None


def _stale(record: StudyRecord, stop: StopSettings) -> str | None:
    """Judged by the trials of the search alone, so that no repeat changes it; another study's set the first best."""
    searched = [t for t in record.trials if t.state in FINISHED and t.ended is not None and REPEAT not in t.facts]
    known = [t.value for t in searched if IMPORTED in t.facts and t.value is not None]
    best = min(known, default=float("inf"))
    so_far = [best] if known else []
    for trial in sorted((t for t in searched if IMPORTED not in t.facts), key=_end):
        best = min(best, float("inf") if trial.value is None else trial.value)
        so_far.append(best)
    if best == float("inf"):
        return None
    noise = study_noise(replace(record, trials=tuple(searched)))
    band = tie_band(noise) if stop.gain == "seed noise" else stop.gain
    since = stale(so_far, band)
    if since < stop.over:
        return None
    what = f"seed noise ({Z:g} deviations of a difference: {band:.2g})" if stop.gain == "seed noise" else f"{band:g}"
    return f"the search no longer pays: gain below {what} over {since} trials"


def _end(trial: TrialRecord) -> tuple[float, int]:
    return (0.0 if trial.ended is None else trial.ended.timestamp(), trial.number)
