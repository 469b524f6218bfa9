"""Which point next: a few spread out, every other near the prior, then where a model of all trials expects the most.
A pure function of the history; what Optuna must be told about it lives in sampler.py.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from tuner.search.bayes.acquire import candidates, chance_to_run, evidence, improvement, to_beat
from tuner.search.bayes.beliefs.pace import expected as expected_trials
from tuner.search.bayes.beliefs.pace import hurried, longest, pace
from tuner.search.bayes.beliefs.prior import guesses, log_prior
from tuner.search.bayes.beliefs.size import SIZES, cost
from tuner.search.bayes.beliefs.trend import trend
from tuner.search.bayes.past import Seen
from tuner.search.bayes.pieces import Pieces, whole
from tuner.search.bayes.places.axes import Axes
from tuner.search.bayes.process import Process
from tuner.spec.budget import Unit
from tuner.spec.dimensions.fields import values_of
from tuner.spec.errors import InfeasibleError
from tuner.spec.records import Point
from tuner.spec.study import StudySpec

TRUST = 2.0
"""How many trials' worth the prior is (beta in pi-BO, arXiv 2204.11051): its weight falls with each that ends."""

THRIFT = 0.75
"""The power of a trial's cost that its expected improvement is divided by: 0 does not look at it, 1 is improvement
per second (Snoek et al., 2012), which never leaves the small ones.
"""

HURRY = 0.25
"""THRIFT where the study has so many seconds: then a trial's size is limited already."""

BESIDE = 150
"""Running trials that the model takes as ended where it expects them, the newest: time grows with their cube."""


def propose(spec: StudySpec, axes: Axes, history: Sequence[Seen], seed: int, clock: float = 0.0) -> Point:
    """The next point to try once the study has run for ``clock`` seconds; the same for the same history, clock and
    seed. ``axes`` are the space's, ``Axes(spec)``.
    """
    return whole(proposing(spec, axes, history, seed, clock))


def proposing(spec: StudySpec, axes: Axes, history: Sequence[Seen], seed: int, clock: float = 0.0) -> Pieces[Point]:
    """``propose``, a piece at a time."""
    rng, most = random.Random(seed), longest(spec, history, clock)
    finished = [seen for seen in history if seen.ending != "running"]
    begin = startup(spec, len(finished), clock)
    if sum(seen.ending == "complete" for seen in finished) < min(begin, 2) or len(finished) < begin:
        return _spread(spec, axes, history, rng, most)
    return (yield from _improve(spec, axes, history, rng, seed, most))


def startup(spec: StudySpec, finished: int = 0, clock: float = 0.0) -> int:
    """Trials that are spread out before a model is asked: a short study must leave some to learn from. One that has so
    many seconds is as short as it turns out, once so many trials have ended after ``clock`` of them; where it comes to
    a dozen trials, what is known beforehand has to do.
    """
    many = min(2 + len(spec.space), int(expected_trials(spec, finished, clock)) // 4)
    return max(3, many) if many > 3 or not hurried(spec) else 1


def first_guess(spec: StudySpec, given: Point | None = None) -> Point | None:
    """The trial as written, with the values ``given`` and the prior's centres for that, as near as the space comes to
    it; None without a prior, or where rules forbid it.
    """
    if spec.study.prior == "none":
        return None
    axes, written = Axes(spec), {**values_of(spec.trial), **(given or {})}
    row = axes.encode({path: written[path] for path in spec.space})
    point = axes.decode(row)
    for path, guess in guesses(spec, point).items():
        if axes.ordered(path):
            row[axes.column(path)] = axes.place(path, guess.at(0.0))
    guessed = axes.decode(row)
    return next((one for one in (guessed, point) if possible(spec, one)), None)


def possible(spec: StudySpec, point: Point) -> bool:
    """Whether rules and fields allow the point."""
    try:
        spec.resolve(point)
    except InfeasibleError:
        return False
    return True


def draw(spec: StudySpec, axes: Axes, rng: random.Random) -> Point:
    """A random point, near the prior's centres where it has some."""
    point = axes.draw(rng)
    row = axes.encode(point)
    for path, guess in guesses(spec, point).items():
        if axes.ordered(path):
            row[axes.column(path)] = axes.place(path, guess.at(rng.gauss(0, 1)))
    return axes.decode(row)


def _spread(spec: StudySpec, axes: Axes, history: Sequence[Seen], rng: random.Random, most: float) -> Point:
    """Of some random points that take no more than ``most`` seconds the one farthest from all that were tried."""
    tried = np.array([seen.row for seen in history]).reshape(-1, axes.columns)
    near = len(history) % 2 == 1  # every other one listens to the prior, which may be wrong
    points = [draw(spec, axes, rng) if near else axes.draw(rng) for _ in range(24)]
    second = hurried(spec) and [seen.ending for seen in history] == ["running"]
    if second:  # beside the first guess: others like it
        sizes = [{path: value for path, value in point.items() if path in SIZES} for point in points]
        points = [first_guess(spec, size) or point for size, point in zip(sizes, points, strict=True)]
    points = [point for point in points if possible(spec, point)]
    points = [point for point in points if not any(point == seen.point for seen in history)] or points
    if not points:
        return draw(spec, axes, rng)
    if hurried(spec):
        known = pace(spec, history)
        seconds = [float(known.seconds(spec, point)) for point in points]
        limit = max(most, min(seconds))
        points = [point for point, each in zip(points, seconds, strict=True) if each <= limit]
    if second:  # what is larger is thought to be better, and tells how much slower it is
        return max(points, key=lambda point: cost(spec, point))
    if not len(tried):
        return points[0]
    return max(points, key=lambda point: float(((tried - axes.encode(point)) ** 2).sum(1).min()))


def _improve(
    spec: StudySpec, axes: Axes, history: Sequence[Seen], rng: random.Random, seed: int, most: float
) -> Pieces[Point]:
    rows, values, doubt = evidence(history, spec.study.milestones)
    yield
    tried = axes.snap(rows)
    sizes = np.log(cost(spec, {path: axes.numbers(path, tried) for path in tried.active})) * np.ones(len(rows))
    along = trend(spec, sizes, values)
    process = yield from Process.fitting(rows, values - along.at(sizes), doubt, seed)
    running = [seen.row for seen in history if seen.ending == "running"][-BESIDE:]
    if running:  # taken to end as expected, so that nobody tries the same beside them
        process = process.joined(np.array(running))
        yield
    means = process.at(rows)[0] + along.at(sizes)
    places = candidates(axes, rows[np.argsort(means)[:5]], {seen.key for seen in history}, seed)
    yield
    numbers = {path: axes.numbers(path, places) for path in places.active}
    costs = np.asarray(cost(spec, numbers)) * np.ones(len(places.rows))
    expected, deviations = process.at(places.rows)
    expected = expected + along.at(np.log(costs))
    yield
    best = to_beat(spec, history, places, numbers, (float(means.min()), float(values.max())), seed)
    yield
    score = improvement(best, expected, deviations) * chance_to_run(history, places.rows, seed)
    finished = sum(seen.ending != "running" for seen in history)
    score = np.log(score + 1e-12) + TRUST / finished * log_prior(spec, numbers, len(score))
    if hurried(spec):
        seconds = pace(spec, history).seconds(spec, numbers) * np.ones(len(score))
        score -= HURRY * np.log(seconds)
        score[seconds > max(most, seconds.min())] = -np.inf
    elif spec.trial.budget.unit is Unit.TOKENS:  # else all trials take the same
        score -= THRIFT * np.log(costs)
    ranked = (axes.decode(places.rows[index]) for index in np.argsort(-score).tolist())
    return next((point for point in ranked if possible(spec, point)), axes.draw(rng))
