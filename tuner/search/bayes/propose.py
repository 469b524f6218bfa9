"""Which point next: a few spread out, every other near the prior, then where a model of all trials expects the most.
A pure function of the history; what Optuna must be told about it lives in sampler.py.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from tuner.search.bayes.acquire import candidates, chance_to_run, evidence, improvement, to_beat
from tuner.search.bayes.past import Seen
from tuner.search.bayes.pieces import Pieces, whole
from tuner.search.bayes.places.axes import Axes
from tuner.search.bayes.prior import cost, guesses, log_prior
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

BESIDE = 150
"""Running trials that the model takes as ended where it expects them, the newest: time grows with their cube."""


def propose(spec: StudySpec, axes: Axes, history: Sequence[Seen], seed: int) -> Point:
    """The next point to try; the same for the same history and seed. ``axes`` are the space's, ``Axes(spec)``."""
    return whole(proposing(spec, axes, history, seed))


def proposing(spec: StudySpec, axes: Axes, history: Sequence[Seen], seed: int) -> Pieces[Point]:
    """``propose``, a piece at a time."""
    rng = random.Random(seed)
    finished = [seen for seen in history if seen.ending != "running"]
    if sum(seen.ending == "complete" for seen in finished) < 2 or len(finished) < startup(spec):
        return _spread(spec, axes, history, rng)
    return (yield from _improve(spec, axes, history, rng, seed))


def startup(spec: StudySpec) -> int:
    """Trials that are spread out before a model is asked: a short study must leave some to learn from."""
    return max(3, min(2 + len(spec.space), spec.study.trials // 4))


def first_guess(spec: StudySpec) -> Point | None:
    """The trial as written, with the prior's centres, as near as the space comes to it; None without a prior, or where
    rules forbid it.
    """
    if spec.study.prior == "none":
        return None
    axes, written = Axes(spec), values_of(spec.trial)
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


def _spread(spec: StudySpec, axes: Axes, history: Sequence[Seen], rng: random.Random) -> Point:
    """Of some random points the one farthest from all that were tried."""
    tried = np.array([seen.row for seen in history]).reshape(-1, axes.columns)
    near = len(history) % 2 == 1  # every other one listens to the prior, which may be wrong
    points = [draw(spec, axes, rng) if near else axes.draw(rng) for _ in range(24)]
    points = [point for point in points if possible(spec, point)]
    points = [point for point in points if not any(point == seen.point for seen in history)] or points
    if not points:
        return draw(spec, axes, rng)
    if not len(tried):
        return points[0]
    return max(points, key=lambda point: float(((tried - axes.encode(point)) ** 2).sum(1).min()))


def _improve(spec: StudySpec, axes: Axes, history: Sequence[Seen], rng: random.Random, seed: int) -> Pieces[Point]:
    rows, values, doubt = evidence(history, spec.study.milestones)
    yield
    process = yield from Process.fitting(rows, values, doubt, seed)
    running = [seen.row for seen in history if seen.ending == "running"][-BESIDE:]
    if running:  # taken to end as expected, so that nobody tries the same beside them
        process = process.joined(np.array(running))
        yield
    means, _ = process.at(rows)
    places = candidates(axes, rows[np.argsort(means)[:5]], {seen.key for seen in history}, seed)
    yield
    numbers = {path: axes.numbers(path, places) for path in places.active}
    expected, deviations = process.at(places.rows)
    yield
    best = to_beat(spec, history, places, numbers, (float(means.min()), float(values.max())), seed)
    yield
    score = improvement(best, expected, deviations) * chance_to_run(history, places.rows, seed)
    finished = sum(seen.ending != "running" for seen in history)
    score = np.log(score + 1e-12) + TRUST / finished * log_prior(spec, numbers, len(score))
    if spec.trial.budget.unit is Unit.TOKENS:  # else all trials take the same
        score -= THRIFT * np.log(cost(spec, numbers))
    ranked = (axes.decode(places.rows[index]) for index in np.argsort(-score).tolist())
    return next((point for point in ranked if possible(spec, point)), axes.draw(rng))
