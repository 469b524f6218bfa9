"""The trials of a study as the model sees them. A finished trial never changes: it is looked at once.
Optuna's trials in, what the model learns from out; nothing is chosen here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from optuna.trial import FrozenTrial, TrialState

from tuner.search.bayes.forecast import Curve
from tuner.search.bayes.places.axes import Axes
from tuner.search.bayes.places.axis import Array
from tuner.spec.records import Point, State
from tuner.spec.study import StudySpec

Ending = Literal["complete", "pruned", "bad", "impossible", "running"]


@dataclass(frozen=True)
class Seen:
    """A trial of the history: ``curve`` milestone -> value, ``value`` at the full budget for complete ones. ``bad``
    ran and came to nothing, ``impossible`` could not run. ``row`` is where its point lies in the space; ``cost`` what
    was measured of the study's second objective, where that is measured.
    """

    point: Point
    row: Array = field(compare=False)
    ending: Ending
    curve: Curve
    value: float | None = None
    cost: float | None = None


class Past:
    """What has been seen of a study."""

    def __init__(self, spec: StudySpec) -> None:
        self.axes, self._cost = Axes(spec), str(spec.study.against)
        self._known: dict[int, Seen | None] = {}
        self._rows: dict[int, tuple[Point, Array]] = {}

    def seen(self, trials: Iterable[FrozenTrial]) -> list[Seen]:
        """The trials as the model sees them, without those that tell nothing (failed, or with no point yet)."""
        found = []
        for trial in trials:
            if trial.number in self._known:
                seen = self._known[trial.number]
            else:
                seen = _seen(trial, self._row, self._cost)
                if trial.state.is_finished():
                    self._known[trial.number] = seen
                    self._rows.pop(trial.number, None)
            if seen is not None:
                found.append(seen)
        return found

    def _row(self, trial: FrozenTrial) -> Array:
        """Where a trial's point lies. With hundreds running it is most of a choice's time to work that out anew."""
        point, row = self._rows.get(trial.number, ({}, None))
        if row is None or point != trial.params:
            row = self.axes.encode(trial.params)
            self._rows[trial.number] = (trial.params, row)
        return row


def _seen(trial: FrozenTrial, row_of: Callable[[FrozenTrial], Array], cost: str) -> Seen | None:
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
    return Seen(trial.params, row_of(trial), ending, finite, value, trial.user_attrs.get(cost))
