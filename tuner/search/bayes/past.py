"""The trials of a study as the model sees them. A finished trial never changes: it is looked at once.
Optuna's trials in, what the model learns from out; nothing is chosen here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from optuna.trial import FrozenTrial, TrialState

from tuner.search.bayes.forecast import Curve
from tuner.search.bayes.places.axes import Axes, keys
from tuner.search.bayes.places.axis import Array
from tuner.search.history import IMPORTED
from tuner.spec.records import Point, State
from tuner.spec.study import StudySpec

Ending = Literal["complete", "pruned", "bad", "impossible", "running"]


@dataclass(frozen=True)
class Seen:
    """A trial of the history: ``curve`` milestone -> value, ``value`` at the full budget for complete ones. ``bad``
    ran and came to nothing, ``impossible`` could not run. ``row`` is where its point lies in the space; ``cost`` what
    was measured of the study's second objective, where that is measured; ``seconds`` how long the whole trial takes to
    train, judged by what it did here.
    """

    point: Point
    row: Array = field(compare=False)
    ending: Ending
    curve: Curve
    value: float | None = None
    cost: float | None = None
    seconds: float | None = None

    @cached_property
    def key(self) -> bytes:
        """Equal where points are."""
        return keys(self.row[None])[0]


class Past:
    """What has been seen of a study."""

    def __init__(self, spec: StudySpec) -> None:
        self.axes, self._cost = Axes(spec), str(spec.study.against)
        self._milestones = spec.study.milestones
        self._lowest = self._milestones if spec.trial.early_stop or "early_stop" in dict(spec.space.items()) else 0
        self._known: dict[int, Seen | None] = {}
        self._open: dict[int, tuple[FrozenTrial, Seen | None]] = {}

    def seen(self, trials: Iterable[FrozenTrial]) -> list[Seen]:
        """The trials as the model sees them, without those that tell nothing (failed, or with no point yet)."""
        return [seen for trial in trials if (seen := self._look(trial)) is not None]

    def curve(self, values: Mapping[int, float], whole: bool = False) -> dict[int, float]:
        """What is compared at each milestone: the value there, or where trials stop early, and are judged by their
        lowest, the lowest so far; of a ``whole`` one up to the last milestone.
        """
        if not self._lowest or not values:
            return dict(values)
        least, found = math.inf, {}
        for milestone in range(min(values), (self._lowest if whole else max(values)) + 1):
            least = found[milestone] = min(least, values.get(milestone, math.inf))
        return found

    def _look(self, trial: FrozenTrial) -> Seen | None:
        """One that goes on is looked at again once it has changed, which is when it is another object."""
        number = trial.number
        if number in self._known:
            return self._known[number]
        before, seen = self._open.get(number, (None, None))
        if before is not trial:
            seen = _seen(self.axes, trial, self._cost, self._milestones)
            if seen is not None and self._lowest:
                seen = replace(seen, curve=self.curve(seen.curve, seen.value is not None))
        if trial.state.is_finished():
            self._known[number] = seen
            self._open.pop(number, None)
        else:
            self._open[number] = (trial, seen)
        return seen


def _seen(axes: Axes, trial: FrozenTrial, cost: str, milestones: int) -> Seen | None:
    finite = {k: v for k, v in trial.intermediate_values.items() if math.isfinite(v)}
    ending: Ending
    match trial.state:
        case TrialState.COMPLETE if trial.value is not None and math.isfinite(trial.value):
            ending = "complete"
        case TrialState.RUNNING if trial.params:
            ending = "running"
        case TrialState.PRUNED | TrialState.COMPLETE if trial.user_attrs.get("outcome") == State.INFEASIBLE:
            ending = "impossible"
        case TrialState.PRUNED | TrialState.COMPLETE if trial.user_attrs.get("outcome") == State.DIVERGED:
            ending = "bad"
        case TrialState.PRUNED if finite:
            ending = "pruned"
        case _:
            return None
    value = trial.value if ending == "complete" else None
    took = trial.user_attrs.get("seconds") if finite and IMPORTED not in trial.user_attrs else None
    seconds = took * milestones / max(finite) if took else None
    return Seen(trial.params, axes.encode(trial.params), ending, finite, value, trial.user_attrs.get(cost), seconds)
