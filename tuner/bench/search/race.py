"""Which search needs least to come near the best loss? Rivals on the simulator, seed by seed.
On fake hands whose losses without luck are known; the first line says so. What a rival is stands in RIVALS.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple

from tuner.bench.search.simulated import best_loss, expected_loss, simulate, simulated_spec
from tuner.run.hands.landscape import expected_at, fits, loss_at, seconds_of
from tuner.spec.study import StudySpec
from tuner.spec.trial import TrialSpec

NEAR = 0.01
"""Nats above the best loss that count as reached."""

RIVALS: Mapping[str, tuple[str, ...]] = {
    "ours": (),
    "random search": ("sampler=random", "pruner=none", "prior=none"),
    "Optuna TPE": ("sampler=tpe", "pruner=none", "prior=none"),
    "Optuna TPE + median": ("sampler=tpe", "pruner=median", "prior=none"),
    "Optuna TPE + Hyperband": ("sampler=tpe", "pruner=hyperband", "prior=none"),
}
"""Name -> settings of the study; ours are the defaults."""

KEPT = 5
WIDTHS = (30, 60, 120, 240)
"""Keep-top-K: so many random trials run to the first milestone, and the best KEPT of them to the end."""


class Reached(NamedTuple):
    """What a study had spent when a trial within NEAR of the best ended; infinite where none did."""

    tokens: float
    seconds: float


def race(seeds: int, trials: int) -> None:
    """Print for each rival the median tokens and seconds until it is near, and how many times ours that is."""
    best = best_loss()
    print(
        f"simulated: {seeds} seeds of at most {trials} trials on a formula, its best loss without luck {best:.4f}; "
        f"what is spent until a complete trial's own lies within {NEAR} of it, medians over seeds",
        flush=True,
    )
    found: dict[str, list[Reached]] = {}
    with ProcessPoolExecutor() as pool:
        for name in RIVALS:
            found[name] = list(pool.map(partial(_study, name, trials, best), range(seeds)))
            _say(name, found)
        for width in WIDTHS:
            name = f"keep {KEPT} of {width}"
            found[name] = list(pool.map(partial(_keep_top, width, best), range(seeds)))
            _say(name, found)


def _say(name: str, found: Mapping[str, list[Reached]]) -> None:
    tokens, seconds = (statistics.median(values) for values in zip(*found[name], strict=True))
    ours = [statistics.median(values) for values in zip(*found["ours"], strict=True)]
    missed = sum(math.isinf(one.tokens) for one in found[name])
    if math.isinf(tokens):
        said = "in most seeds never"
    else:
        said = f"{tokens / 1e6:.1f}M tokens, {seconds / 3600:.1f} h of device"
        if name != "ours":
            said += f"; ours takes {ours[0] / tokens:.2f} x of the tokens, {ours[1] / seconds:.2f} x of the time"
    print(f"{name:<23} {said}; {missed} of {len(found[name])} never", flush=True)


def _study(name: str, trials: int, best: float, seed: int) -> Reached:
    settings = [f"study.{setting}" for setting in RIVALS[name]]
    spec = simulated_spec([*settings, f"study.trials={trials}", f"study.seed={seed}"])
    record = simulate(spec, until=best + NEAR)
    if not any(t.value is not None and expected_loss(spec, t) <= best + NEAR for t in record.trials):
        return Reached(math.inf, math.inf)
    spent = [(t.facts.get("tokens", 0), t.facts.get("seconds", 0)) for t in record.trials]
    tokens, seconds = (sum(float(value or 0) for value in values) for values in zip(*spent, strict=True))
    return Reached(tokens, seconds)


def _keep_top(width: int, best: float, seed: int) -> Reached:
    """Random trials to the first milestone, then the best of them one after the other (arXiv 2307.15422)."""
    spec = simulated_spec([f"study.seed={seed}"])
    share, budget = 1 / spec.study.milestones, spec.trial.budget.amount
    drawn = list(itertools.islice(_random(spec, seed), width))
    first = sorted((loss_at(trial, share), index) for index, trial in enumerate(drawn))
    tokens = width * budget * share
    seconds = sum(seconds_of(trial) for trial in drawn) * share
    for loss, index in first[:KEPT]:
        trial = drawn[index]
        tokens += budget * (1 - share)
        seconds += seconds_of(trial) * (1 - share)
        ended = math.isfinite(loss) and math.isfinite(loss_at(trial, 1.0))
        if ended and expected_at(trial, 1.0) <= best + NEAR:
            return Reached(tokens, seconds)
    return Reached(math.inf, math.inf)


def _random(spec: StudySpec, seed: int) -> Iterator[TrialSpec]:
    rng = random.Random(seed)
    while True:
        trial = spec.resolve(spec.draw(rng))
        if fits(trial):
            yield trial
