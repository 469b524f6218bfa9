"""Repeats: trials that differ in nothing but the seed, which are still wanted, and what they tell of noise.
Reading only; how much noise a decision may bear is said in promotion/ and analysis/.
"""

from __future__ import annotations

import functools
import itertools
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from tuner.search.history import REPEAT as REPEAT  # of those who ask of repeats
from tuner.search.history import RUNNING, StudyRecord, TrialRecord
from tuner.spec.parts.scalars import digest
from tuner.spec.records import Point, Value
from tuner.spec.study import StudySpec
from tuner.spec.trial import TrialSpec

SEED = "seed"
"""The path of a trial's seed, where it is a dimension."""

ASSUMED = 0.005
"""Deviation between seeds as a share of the loss, where a study has too few repeats to tell its own.

Measured on char-Shakespeare at 4 x 128: 0.2 to 0.3 % of the loss; smaller budgets scatter more.
"""

TRUSTED = 4
"""Repeats beyond the first of each settings from which on a study's own deviation is believed alone."""


@dataclass(frozen=True)
class Wanted:
    """One more run of the settings of trial ``like``."""

    like: int
    seed: int


@dataclass(frozen=True)
class Standing:
    """Settings that were run with several seeds. ``values``: seed -> final value, that of ``first`` with them, which
    is why they were chosen; ``mean`` is that of the others, which nobody chose; ``best`` the trial of the lowest value.
    """

    first: int
    best: int
    values: Mapping[str, float]
    mean: float
    probability: float
    """That it is the best of those repeated."""
    ties: bool
    """Whether it may be as good as the first of them, seeds being what they are."""
    fresh: int
    """Values that the mean is of."""


def family(point: Point) -> str:
    """What the points of equal settings share, whatever their seed."""
    return _family(frozenset((path, type(value), value) for path, value in point.items() if path != SEED))


@functools.lru_cache(maxsize=100_000)  # of every trial, each time that one ends
def _family(settings: frozenset[tuple[str, type, Value]]) -> str:
    return digest({path: value for path, _, value in settings})


def families(record: StudyRecord) -> dict[str, dict[str, float]]:
    """Family -> seed -> final value, complete trials only."""
    found: dict[str, dict[str, float]] = {}
    for trial in record.trials:
        if trial.value is not None:
            found.setdefault(family(trial.point), {}).setdefault(seed_of(record, trial), trial.value)
    return found


OF_TOTAL = "the study's total of"
"""How the reason of a trial begins that was cut short because a total is spent."""


def seed_of(record: StudyRecord, trial: TrialRecord) -> str:
    """As its point says, else its facts, else as the study has it for all; of a repeat as its facts say."""
    if REPEAT in trial.facts and SEED in trial.facts:  # its point has the seed of the one that it repeats
        return str(trial.facts[SEED])
    return str(trial.point.get(SEED, trial.facts.get(SEED, record.spec["trial"]["seed"])))


def trained_as(record: StudyRecord, trial: TrialRecord) -> TrialSpec:
    """The trial as it was trained: what its point comes to, with its own seed.

    Raises:
        SpecError, ValueError: this version of tuner reads another study in what is stored.
    """
    whole = StudySpec.stored(record.spec).resolve(trial.point)
    return whole.model_copy(update={SEED: int(seed_of(record, trial))})


def wanted(record: StudyRecord, top: int, seeds: int) -> list[Wanted]:
    """The runs still to be begun until each of the ``top`` settings has ``seeds`` seeds, the best settings first.

    The settings are ranked by the trials of the search alone, so that no repeat changes what is repeated; a seed that
    failed or runs counts as begun, one that a total cut short does not. The same store always gives the same answer.
    """
    begun: dict[str, set[str]] = {}
    for trial in record.trials:
        if REPEAT in trial.facts and trial.state == "pruned" and trial.reason.startswith(OF_TOTAL):
            continue
        begun.setdefault(family(trial.point), set()).add(seed_of(record, trial))
    found = []
    for mark, trial in _chosen(record, top).items():
        first, known = int(seed_of(record, trial)), begun[mark]
        fresh = (seed % 2**32 for seed in itertools.count(first + 1) if str(seed % 2**32) not in known)
        found += [Wanted(trial.number, seed) for seed in itertools.islice(fresh, max(0, seeds - len(known)))]
    return found


def _chosen(record: StudyRecord, top: int) -> dict[str, TrialRecord]:
    """The ``top`` settings that the search found best, each with the trial that it found them by."""
    return dict(list(_best(t for t in record.trials if REPEAT not in t.facts).items())[:top])


def _best(trials: Iterable[TrialRecord]) -> dict[str, TrialRecord]:
    """Family -> the complete trial of the lowest value, the best settings first."""
    best: dict[str, TrialRecord] = {}
    for trial in sorted((trial for trial in trials if trial.value is not None), key=lambda trial: trial.order):
        best.setdefault(family(trial.point), trial)
    return best


def shippable(record: StudyRecord) -> list[int]:
    """The trials whose weights may yet be wanted, the likeliest first: the winner, and until all repeats have ended
    the best trial of each of the settings that are run again.
    """
    found = [] if (first := winner(record)) is None else [first.number]
    repeats = record.spec["study"].get("repeats")
    if repeats is None:
        return found
    top, seeds = int(repeats["top"]), int(repeats["seeds"])
    running = any(REPEAT in trial.facts and trial.state == RUNNING for trial in record.trials)
    if running or wanted(record, top, seeds):
        best = _best(record.trials)
        found += [best[mark].number for mark in _chosen(record, top) if best[mark].number not in found]
    return found


def standings(record: StudyRecord, draws: int = 20_000) -> list[Standing]:
    """The settings that were repeated, the best first; empty where none was.

    They are ranked by the seeds that followed: the first one's value is why they were chosen, so it flatters.
    """
    found = _repeated(record)
    if not found:
        return []
    spread = _spread(record, found[0][0])
    errors = [spread / count**0.5 for _, count, _, _ in found]
    chances = _chances([mean for mean, *_ in found], errors, draws)
    return [
        Standing(
            first.number,
            min(trials, key=lambda trial: trial.order).number,
            {seed_of(record, trial): trial.value for trial in trials if trial.value is not None},
            mean,
            chance,
            mean - found[0][0] <= 1.96 * (error**2 + errors[0] ** 2) ** 0.5,
            count,
        )
        for (mean, count, first, trials), error, chance in zip(found, errors, chances, strict=True)
    ]


def winner(record: StudyRecord) -> TrialRecord | None:
    """The trial to ship: of the settings that stood best when run again, the one with the lowest value, unless the
    search has gone on since and come to one that lies below them by more than luck; where nothing was repeated the best
    complete one, None without any.
    """
    best = next((trial for trial in record.ranked() if trial.value is not None), None)
    if best is None or not (again := _repeated(record)):
        return best
    mean, count, _, trials = again[0]
    least = mean - 1.96 * _spread(record, mean) * (1 + 1 / count) ** 0.5
    last = max(trial.number for trial in record.trials if REPEAT in trial.facts)
    if best.number > last and best.value is not None and best.value < least:
        return best
    return min(trials, key=lambda trial: trial.order)


def _spread(record: StudyRecord, near: float) -> float:
    """How far seeds deviate, where losses are about ``near``."""
    measured, freedom = pooled(values for values in families(record).values() if len(values) > 1)
    return deviation(None, measured, freedom, near)


def _repeated(record: StudyRecord) -> list[tuple[float, int, TrialRecord, list[TrialRecord]]]:
    """The settings run again, the best first: the mean of the seeds that followed, how many those are, the trial they
    were chosen by, and all their complete trials.
    """
    groups: dict[str, list[TrialRecord]] = {}
    for trial in record.trials if any(REPEAT in trial.facts for trial in record.trials) else ():
        if trial.value is not None:
            groups.setdefault(family(trial.point), []).append(trial)
    found = []
    for trials in groups.values():
        fresh = [trial.value for trial in trials if REPEAT in trial.facts and trial.value is not None]
        first = next((trial for trial in trials if REPEAT not in trial.facts), None)
        if fresh and first is not None:
            found.append((statistics.fmean(fresh), len(fresh), first, trials))
    return sorted(found, key=lambda one: (one[0], one[2].number))


def _chances(means: Sequence[float], errors: Sequence[float], draws: int) -> list[float]:
    """For each of several normal values the share of draws in which it is the lowest; the same every time."""
    rng = random.Random(0)
    wins = [0] * len(means)
    for _ in range(draws if len(means) > 1 else 0):
        drawn = [rng.gauss(mean, error) for mean, error in zip(means, errors, strict=True)]
        wins[drawn.index(min(drawn))] += 1
    return [win / draws for win in wins] if len(means) > 1 else [1.0]


def looked_at(record: StudyRecord) -> int:
    """Different settings of which something was seen: a pruned trial was looked at as well as a complete one."""
    return len({family(trial.point) for trial in record.trials if trial.value is not None or trial.milestones})


def pooled(groups: Iterable[Mapping[str, float]]) -> tuple[float | None, int]:
    """Standard deviation within families of repeats, pooled over them, and its degrees of freedom; None and 0 where
    nothing was repeated.
    """
    squares, freedom = 0.0, 0
    for values in groups:
        mean = sum(values.values()) / len(values)
        squares += sum((value - mean) ** 2 for value in values.values())
        freedom += len(values) - 1
    return ((squares / freedom) ** 0.5 if freedom else None), freedom


def deviation(set_: float | None, measured: float | None, repeats: int, loss: float, least: float = 0.0) -> float:
    """The deviation between seeds in units of the metric: as set, else as measured by ``repeats``, at least the assumed
    one where those are few; that is a share of ``loss``, and not below ``least``.
    """
    if set_ is not None:
        return set_
    assumed = max(ASSUMED * loss, least)
    if measured is None:
        return assumed
    return measured if repeats >= TRUSTED else max(measured, assumed)


def luckiest(n: int) -> float:
    """The mean of the largest of ``n`` standard normal values, in deviations: what the best of n owes to luck at most.

    Blom's approximation (1958): the quantile at (n - 3/8) / (n + 1/4); 0 for one value.
    """
    return NormalDist().inv_cdf((n - 0.375) / (n + 0.25))
