"""Which point next: a few spread out, every other near the prior, then where a model of all trials expects the most.
A pure function of the history; what Optuna must be told about it lives in sampler.py.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tuner.search.bayes.axes import Array, Axes, snapped
from tuner.search.bayes.forecast import Curve, forecast
from tuner.search.bayes.prior import cost, guesses
from tuner.search.bayes.process import Process
from tuner.spec.budget import Unit
from tuner.spec.dimensions.fields import values_of
from tuner.spec.errors import InfeasibleError
from tuner.spec.records import Point, Value
from tuner.spec.study import StudySpec

CANDIDATES = 500
"""Random points that are weighed each time; as many again lie near the best."""

REMEMBERED = 150
"""Trials that the model is fitted to: the best half and the newest, where there are more."""

TRUST = 2.0
"""How many trials' worth the prior is (beta in pi-BO, arXiv 2204.11051): its weight falls with each that ends."""

THRIFT = 0.75
"""The power of a trial's cost that its expected improvement is divided by: 0 does not look at it, 1 is improvement
per second (Snoek et al., 2012), which never leaves the small ones.
"""

Ending = Literal["complete", "pruned", "bad", "impossible", "running"]


@dataclass(frozen=True)
class Seen:
    """A trial of the history: ``curve`` milestone -> value, ``value`` at the full budget for complete ones. ``bad``
    ran and came to nothing, ``impossible`` could not run.
    """

    point: Point
    ending: Ending
    curve: Curve
    value: float | None = None
    latency: float | None = None


def propose(spec: StudySpec, history: Sequence[Seen], seed: int) -> Point:
    """The next point to try; the same for the same history and seed."""
    rng, axes = random.Random(seed), Axes(spec)
    finished = [seen for seen in history if seen.ending != "running"]
    if sum(seen.ending == "complete" for seen in finished) < 2 or len(finished) < startup(spec):
        return _spread(spec, axes, history, rng)
    return _improve(spec, axes, history, rng, seed)


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
            row[axes.column(path)] = axes.place(path, guess.centre)
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
    tried = np.array([axes.encode(seen.point) for seen in history]).reshape(-1, axes.columns)
    near = len(history) % 2 == 1  # every other one listens to the prior, which may be wrong
    points = [draw(spec, axes, rng) if near else axes.draw(rng) for _ in range(24)]
    points = [point for point in points if possible(spec, point)]
    points = [point for point in points if not any(point == seen.point for seen in history)] or points
    if not points:
        return draw(spec, axes, rng)
    if not len(tried):
        return points[0]
    return max(points, key=lambda point: float(((tried - axes.encode(point)) ** 2).sum(1).min()))


def _improve(spec: StudySpec, axes: Axes, history: Sequence[Seen], rng: random.Random, seed: int) -> Point:
    rows, values, doubt = _evidence(spec, axes, history)
    process = Process(rows, values, doubt, seed)
    running = np.array([axes.encode(s.point) for s in history if s.ending == "running"]).reshape(-1, axes.columns)
    if len(running):  # taken to end as expected, so that nobody tries the same beside them
        process = process.joined(running)
    means, _ = process.at(rows)
    tried = {tuple(axes.encode(seen.point).tolist()) for seen in history}
    candidates, points = _candidates(axes, rows[np.argsort(means)[:5]], tried, rng, seed)
    expected, deviations = process.at(candidates)
    best = _to_beat(spec, axes, history, candidates, points, float(means.min()), float(values.max()), seed)
    score = _improvement(best, expected, deviations) * _chance_to_run(axes, history, candidates, seed)
    finished = sum(seen.ending != "running" for seen in history)
    score = np.log(score + 1e-12) + TRUST / finished * _log_prior(spec, points)
    if spec.trial.budget.unit is Unit.TOKENS:  # else all trials take the same
        score -= THRIFT * np.log([cost(spec, point) for point in points])
    ranked = (points[index] for index in np.argsort(-score).tolist())
    return next((point for point in ranked if possible(spec, point)), axes.draw(rng))


def _evidence(spec: StudySpec, axes: Axes, history: Sequence[Seen]) -> tuple[Array, Array, Array]:
    """Rows, values and their doubt: complete trials as they are, pruned ones as forecast, bad ones as the worst."""
    last = spec.study.milestones
    complete = [seen for seen in history if seen.ending == "complete" and seen.value is not None]
    curves = [(axes.encode(seen.point), seen.curve) for seen in complete]
    found = [(seen.point, float(seen.value or 0.0), 0.0) for seen in complete]
    for seen in history:
        if seen.ending != "pruned":
            continue
        if (end := forecast(seen.curve, axes.encode(seen.point), curves, last)) is not None:
            found.append((seen.point, end.mean, end.deviation**2))
    values = np.array([value for _, value, _ in found])
    # far above the middle nothing is to be learned but that it is bad
    ceiling = float(np.median(values) + 1.5 * (np.median(values) - values.min()) + 1e-3)
    found += [(seen.point, ceiling, 0.0) for seen in history if seen.ending == "bad"]
    if len(found) > REMEMBERED:
        by_value = sorted(range(len(found)), key=lambda k: found[k][1])
        kept = sorted({*by_value[: REMEMBERED // 2], *range(len(found) - REMEMBERED // 2, len(found))})
        found = [found[k] for k in kept]
    rows = np.array([axes.encode(point) for point, _, _ in found])
    return rows, np.minimum([v for _, v, _ in found], ceiling), np.array([d for _, _, d in found])


def _candidates(
    axes: Axes, best: Array, tried: Collection[tuple[float, ...]], rng: random.Random, seed: int
) -> tuple[Array, list[Point]]:
    """Random points, and small and large steps from the best; none that was ``tried``, while there are others.

    The same point once more, with the same seed, would only tell the same loss again.
    """
    noise = np.random.default_rng(seed)
    rows = [axes.encode(axes.draw(rng)) for _ in range(CANDIDATES)]
    for _ in range(CANDIDATES):
        row = best[noise.integers(len(best))].copy()
        moved = noise.random(axes.columns) < max(0.4, 1.5 / axes.columns)
        row[moved] += noise.choice([0.03, 0.1, 0.25]) * noise.standard_normal(int(moved.sum()))
        rows.append(np.clip(row, 0, 1))
    points: dict[tuple[float, ...], Point] = {}
    for row in rows:
        point, place = snapped(axes, row)
        points.setdefault(tuple(place.tolist()), point)
    points = {place: point for place, point in points.items() if place not in tried} or points
    return np.array(list(points)), list(points.values())


def _to_beat(
    spec: StudySpec,
    axes: Axes,
    history: Sequence[Seen],
    candidates: Array,
    points: Sequence[Point],
    best: float,
    worst: float,
    seed: int,
) -> Array:
    """What a candidate is to improve on: the best, or with a second objective the best that costs no more; the worst
    where nothing is as cheap, so that the front grows at its ends too.
    """
    if spec.study.against is None:
        return np.full(len(points), best)
    done = [seen for seen in history if seen.ending == "complete" and seen.value is not None]
    if spec.study.against == "latency_ms":
        done = [seen for seen in done if seen.latency]
        if len(done) < 2:
            return np.full(len(points), best)
        logs = np.log([seen.latency or 1.0 for seen in done])
        rows = np.array([axes.encode(seen.point) for seen in done])
        costs, asked = logs, Process(rows, logs, np.zeros(len(rows)), seed).at(candidates)[0]
    else:
        costs = np.log([cost(spec, seen.point) for seen in done])
        asked = np.log([cost(spec, point) for point in points])
    values = np.array([seen.value for seen in done])
    cheap = costs[None, :] <= asked[:, None] + 0.01
    return np.asarray(np.where(cheap, values[None, :], worst).min(1))


def _improvement(best: Array, means: Array, deviations: Array) -> Array:
    """Expected improvement on ``best`` (Jones et al., 1998), candidate by candidate."""
    z = (best - means) / deviations
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    share = 0.5 * np.array([math.erfc(-one / math.sqrt(2)) for one in z])
    return np.asarray(deviations * (z * share + density))


def _chance_to_run(axes: Axes, history: Sequence[Seen], candidates: Array, seed: int) -> Array:
    """How likely a candidate can run at all: a process on 1 (ran) and 0 (could not), the newest of them."""
    known = [seen for seen in history if seen.ending != "running"][-REMEMBERED:]
    ran = np.array([seen.ending != "impossible" for seen in known], dtype=np.float64)
    if ran.all() or not ran.any():
        return np.ones(len(candidates))
    rows = np.array([axes.encode(seen.point) for seen in known])
    means, deviations = Process(rows, ran, np.zeros(len(rows)), seed).at(candidates)
    z = (means - 0.5) / deviations
    return 0.5 * np.array([math.erfc(-one / math.sqrt(2)) for one in z])


def _log_prior(spec: StudySpec, points: Sequence[Point]) -> Array:
    """Log density of the prior at each point, without its constant."""

    def density(point: Point) -> float:
        total = 0.0
        for path, guess in guesses(spec, point).items():
            value: Value = point[path]
            if isinstance(value, int | float) and not isinstance(value, bool):
                total -= 0.5 * guess.distance(float(value)) ** 2
        return total

    return np.array([density(point) for point in points])
