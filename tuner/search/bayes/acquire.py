"""What is weighed when a point is chosen: the evidence of the trials, candidates, and what each may gain.
Arrays in, arrays out; the choice itself is made in propose.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set

import numpy as np

from tuner.search.bayes.beliefs.size import cost
from tuner.search.bayes.forecast import Forecasts
from tuner.search.bayes.past import Seen
from tuner.search.bayes.places.axes import Axes, Places, keys
from tuner.search.bayes.places.axis import Array
from tuner.search.bayes.process import Process
from tuner.spec.study import StudySpec

CANDIDATES = 500
"""Random points that are weighed each time; as many again lie near the best."""

REMEMBERED = 150
"""Trials that the model is fitted to: the best half and the newest, where there are more."""


def evidence(history: Sequence[Seen], last: int) -> tuple[Array, Array, Array]:
    """Rows, values and their doubt: complete trials as they are, pruned ones as forecast, bad ones as the worst."""
    complete = [seen for seen in history if seen.ending == "complete" and seen.value is not None]
    forecasts = Forecasts([(seen.row, seen.curve) for seen in complete], last)
    told = [seen for seen in history if seen.ending in ("complete", "pruned", "bad")]
    newest, kept = told, complete
    if len(told) > REMEMBERED:
        newest = told[-REMEMBERED // 2 :]
        best = sorted(complete, key=lambda seen: seen.value or 0.0)[: REMEMBERED // 2]
        chosen = {id(seen) for seen in (*best, *newest)}
        kept = [seen for seen in complete if id(seen) in chosen]
    found = [(seen.row, float(seen.value or 0.0), 0.0) for seen in kept]
    for seen in newest:
        if seen.ending == "pruned" and (end := forecasts.of(seen.curve, seen.row)) is not None:
            found.append((seen.row, end.mean, end.deviation**2))
    values = np.array([seen.value for seen in complete] + [value for _, value, _ in found[len(kept) :]])
    # far above the middle nothing is to be learned but that it is bad
    ceiling = float(np.median(values) + 1.5 * (np.median(values) - values.min()) + 1e-3)
    found += [(seen.row, ceiling, 0.0) for seen in newest if seen.ending == "bad"]
    rows = np.array([row for row, _, _ in found])
    return rows, np.minimum([v for _, v, _ in found], ceiling), np.array([d for _, _, d in found])


def candidates(axes: Axes, best: Array, tried: Set[bytes], seed: int) -> Places:
    """Random points, and small and large steps from the ``best``; each once, none that was ``tried`` (by its key) while
    there are others.

    The same point once more, with the same seed, would only tell the same loss again.
    """
    rng = np.random.default_rng(seed)
    shape = (CANDIDATES, axes.columns)
    moved = rng.random(shape) < max(0.4, 1.5 / axes.columns)
    steps = rng.choice([0.03, 0.1, 0.25], (CANDIDATES, 1)) * rng.standard_normal(shape)
    near = np.clip(best[rng.integers(len(best), size=CANDIDATES)] + moved * steps, 0, 1)
    places = axes.snap(np.vstack([axes.scatter(CANDIDATES, rng), near]))
    once = {key: index for index, key in reversed(list(enumerate(keys(places.rows))))}
    new = [index for key, index in once.items() if key not in tried]
    return places.only(sorted(new or once.values()))


def to_beat(
    spec: StudySpec,
    history: Sequence[Seen],
    places: Places,
    numbers: Mapping[str, Array],
    ends: tuple[float, float],
    seed: int,
) -> Array:
    """What a candidate is to improve on: the best, or with a second objective the best that costs no more; the worst
    where nothing is as cheap, so that the front grows at its ends too. ``ends``: the best and the worst expected.
    """
    best, worst = ends
    if spec.study.against is None:
        return np.full(len(places.rows), best)
    done = [seen for seen in history if seen.ending == "complete" and seen.value is not None]
    if spec.study.against in ("latency_ms", "bytes"):
        done = [seen for seen in done if seen.cost]
        if len(done) < 2:
            return np.full(len(places.rows), best)
        costs = np.log([seen.cost or 1.0 for seen in done])
        rows, newest = np.array([seen.row for seen in done[-REMEMBERED:]]), costs[-REMEMBERED:]
        asked = Process(rows, newest, np.zeros(len(rows)), seed).at(places.rows)[0]
    else:
        costs = np.log([cost(spec, seen.point) for seen in done])
        asked = np.log(cost(spec, numbers))
    values = np.array([seen.value for seen in done])
    cheap = costs[None, :] <= np.broadcast_to(asked, len(places.rows))[:, None] + 0.01
    return np.asarray(np.where(cheap, values[None, :], worst).min(1))


def improvement(best: Array, means: Array, deviations: Array) -> Array:
    """Expected improvement on ``best`` (Jones et al., 1998), candidate by candidate."""
    z = (best - means) / deviations
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return np.asarray(deviations * (z * _share_below(z) + density))


def chance_to_run(history: Sequence[Seen], rows: Array, seed: int) -> Array:
    """How likely a candidate can run at all: a process on 1 (ran) and 0 (could not), the newest of them."""
    known = [seen for seen in history if seen.ending != "running"][-REMEMBERED:]
    ran = np.array([seen.ending != "impossible" for seen in known], dtype=np.float64)
    if ran.all() or not ran.any():
        return np.ones(len(rows))
    means, deviations = Process(np.array([seen.row for seen in known]), ran, np.zeros(len(known)), seed).at(rows)
    return _share_below((means - 0.5) / deviations)


def _share_below(z: Array) -> Array:
    """Of the standard normal."""
    return 0.5 * np.array([math.erfc(-one / math.sqrt(2)) for one in z])
