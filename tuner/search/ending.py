"""When a study has had enough: a total is spent, what is left of it is the repeats', or the search no longer pays.
Worked out from what the store has and what runs; whoever drives the study ends it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace

from tuner.search.history import FINISHED, IMPORTED, RUNNING, StudyRecord, TrialRecord
from tuner.search.noise import Z, study_noise, tie_band
from tuner.search.repeats import OF_TOTAL, REPEAT, wanted
from tuner.spec.parts.settings import RepeatSettings, StopSettings, StudySettings, TotalSettings
from tuner.spec.records import Spent, Value

SPARE = 1.1
"""Of the time that trials took, what they may take when they run again."""


Of = Callable[[Spent, float], float]
Limit = tuple[float, str, Of]
"""A total that is set, in what it is, and how much of it is used by what was spent and the seconds of the clock."""


@dataclass(frozen=True)
class Enough:
    """Why no further trial of the search begins, and what to raise for one; with ``spent`` nothing runs on either, for
    a total is used up.
    """

    sentence: str
    spent: bool
    raising: str = "study.totals"


def enough(
    record: StudyRecord, settings: StudySettings, live: Mapping[int, Spent], seconds: float, searching: bool = True
) -> Enough | None:
    """Whether the study is to end before its trials are used up; None while it is not.

    ``live`` is what trials by number have spent so far in this session, ``seconds`` how long the study has run in all
    its sessions; it is ``searching`` while there are trials to begin but for that.
    """
    if settings.totals is not None:
        used, limits = spent(record, live), _limits(settings.totals, int(record.spec["trial"].get("devices", 1)))
        if (why := _total(limits, used, seconds)) is not None:
            return Enough(why, spent=True)
        again = settings.repeats if searching else None
        if again is not None and (why := _promised(record, limits, again, live, used, seconds)) is not None:
            return Enough(why, spent=False)
    if settings.stop is not None and (why := _stale(record, settings.stop)) is not None:
        return Enough(why, spent=False, raising="study.stop.over")
    return None


def spent(record: StudyRecord, live: Mapping[int, Spent]) -> Spent:
    """What all trials have spent here together: as ``live`` has it, else as stored at their last milestone or end."""
    return _sum(
        live.get(trial.number) or _stored(trial.facts) for trial in record.trials if IMPORTED not in trial.facts
    )


def _sum(several: Iterable[Spent], parts: int = 1) -> Spent:
    """All together, or the mean of so many ``parts``."""
    every = list(several)
    return Spent(
        round(sum(one.steps for one in every) / parts),
        round(sum(one.tokens for one in every) / parts),
        sum(one.flops for one in every) / parts,
        sum(one.seconds for one in every) / parts,
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


def _total(limits: Sequence[Limit], used: Spent, seconds: float) -> str | None:
    for limit, words, of in limits:
        if of(used, seconds) >= limit:
            return f"{OF_TOTAL} {limit:,.10g} {words} is spent"
    return None


def _promised(
    record: StudyRecord,
    limits: Sequence[Limit],
    repeats: RepeatSettings,
    live: Mapping[int, Spent],
    used: Spent,
    seconds: float,
) -> str | None:
    """Whether one more trial of the search would take what its repeats need, which is what those cost that they repeat,
    and half of a total at most.
    """
    costs = {trial.number: _stored(trial.facts) for trial in record.trials}
    whole = [costs[t.number] for t in record.trials if t.value is not None and not {REPEAT, IMPORTED} & t.facts.keys()]
    if not whole:
        return None
    one, search, begun, going = _sum(whole, len(whole)), list[Spent](), list[Spent](), 0
    for trial in record.trials:
        if IMPORTED not in trial.facts:
            like, cost = trial.facts.get(REPEAT), live.get(trial.number) or costs[trial.number]
            if trial.state == RUNNING:
                cost = _most(cost, one if like is None else costs[int(str(like))])
                going += like is not None
            (search if like is None else begun).append(cost)
    pace = seconds / used.seconds if used.seconds else 0.0
    workers = max(1, round(1 / pace)) if pace else 1
    trial_clock = SPARE * pace * workers  # seconds of the clock for each that one of several trials at once trains
    first, clock = _sum([one, *search]), seconds + trial_clock * one.seconds
    if all(of(first, clock) <= limit / 2 for limit, _, of in limits):
        return None  # whatever the repeats take; to look for them takes a while in a large study
    left = [costs[repeat.like] for repeat in wanted(record, repeats.top, repeats.seeds)]
    left += [one] * (repeats.most - len(begun) - len(left))
    if begun:  # another trial might come to be one of the best, and want its own
        left += [one] * (repeats.seeds - 1)
    then = _sum([*begun, *left])
    then = replace(then, seconds=SPARE * then.seconds)
    waves = math.ceil((len(left) + going) / workers) * trial_clock * max(cost.seconds for cost in (one, *left))
    for limit, words, of in limits:
        if of(first, clock) + min(limit / 2, of(then, waves)) >= limit:
            return f"what is left of the study's total of {limit:,.10g} {words} is kept for its repeats"
    return None


def _most(a: Spent, b: Spent) -> Spent:
    return Spent(*map(max, astuple(a), astuple(b)))


def _limits(totals: TotalSettings, devices: int) -> list[Limit]:
    every: tuple[tuple[float | None, str, Of], ...] = (
        (totals.tokens, "tokens", lambda used, clock: used.tokens),
        (totals.flops, "FLOPs", lambda used, clock: used.flops),
        (totals.seconds, "seconds", lambda used, clock: clock),
        (totals.device_hours, "hours of device", lambda used, clock: used.seconds * devices / 3600),
    )
    return [(limit, words, of) for limit, words, of in every if limit is not None]


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
