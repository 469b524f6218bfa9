"""Reading a store: studies and their trials as frozen records, for tables, summaries and pages.
Read only; whatever writes lives in asktell.py.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from tuner.spec.errors import StoreError, nearest
from tuner.spec.records import Point, Value

RUNNING, QUEUED = "running", "queued"

_WORDS = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: RUNNING,
    TrialState.WAITING: QUEUED,
}


@dataclass(frozen=True)
class TrialRecord:
    """One trial as stored. ``value`` is the metric at the end of the budget, None for all but complete ones."""

    number: int
    state: str
    reason: str
    point: Point
    value: float | None
    milestones: Mapping[int, float]
    facts: Mapping[str, Value] = field(default_factory=dict)
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def last(self) -> tuple[int, float] | None:
        """The last milestone and its value."""
        return max(self.milestones.items()) if self.milestones else None

    @property
    def order(self) -> tuple[int, float, int]:
        """Sorts best first: complete ones by value, then others by how far they came, then by value there."""
        if self.value is not None:
            return (-1_000_000, self.value, self.number)
        milestone, value = self.last or (0, float("inf"))
        return (-milestone, value, self.number)


@dataclass(frozen=True)
class StudyRecord:
    """A study as stored: its name, its spec as JSON-ready data, its trials by number."""

    name: str
    spec: Mapping[str, Any]
    trials: tuple[TrialRecord, ...]

    @property
    def metric(self) -> str:
        return str(self.spec["study"]["metric"])

    def find(self, number: int) -> TrialRecord:
        """One trial by number.

        Raises:
            StoreError: the study has no such trial.
        """
        for trial in self.trials:
            if trial.number == number:
                return trial
        last = f"0 to {len(self.trials) - 1}" if self.trials else "none yet"
        raise StoreError(f"study '{self.name}' has no trial {number}; it has {last}.")

    def ranked(self) -> list[TrialRecord]:
        """Complete and pruned trials, best first; a pruned trial never outranks a finished one."""
        return sorted((t for t in self.trials if t.state in ("complete", "pruned") and t.last), key=lambda t: t.order)


def study_names(storage: BaseStorage) -> list[str]:
    """The studies in the store, by name."""
    return sorted(optuna.get_all_study_names(storage))


def read_study(storage: BaseStorage, name: str) -> StudyRecord:
    """One study with all its trials.

    Raises:
        StoreError: there is no such study, or it was not made by this platform.
    """
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        hint = nearest(name, study_names(storage)) or " The store is empty."
        raise StoreError(f"no study '{name}' in the store.{hint}") from None
    if "spec" not in study.user_attrs:
        raise StoreError(
            f"study '{name}' was not made by this platform; it has no spec. Use Optuna's own tools for it."
        )
    trials = study.get_trials(deepcopy=False)
    late = {key: value for key, value in study.user_attrs.items() if key.startswith("mlflow_run:")}
    records = (_record(trial, late.get(f"mlflow_run:{trial.number}")) for trial in trials)
    return StudyRecord(name, study.user_attrs["spec"], tuple(records))


def _record(trial: FrozenTrial, run: str | None) -> TrialRecord:
    """``run`` is an MLflow run id that became known after the trial was closed."""
    facts = {**({"mlflow_run": run} if run else {}), **trial.user_attrs}
    word = _WORDS[trial.state]
    if trial.state.is_finished():
        word = str(facts.get("outcome", word))
    return TrialRecord(
        number=trial.number,
        state=word,
        reason=str(facts.get("reason", "")),
        point=dict(trial.params),
        value=trial.value if trial.state is TrialState.COMPLETE else None,
        milestones=dict(trial.intermediate_values),
        facts=facts,
        started=trial.datetime_start,
        ended=trial.datetime_complete,
    )


def parameter_importance(storage: BaseStorage, name: str) -> dict[str, float]:
    """PED-ANOVA importance (arXiv 2304.10255) of each parameter, most important first; empty below 4 finished trials.

    Only parameters that every finished trial has can be judged.
    """
    study = optuna.load_study(study_name=name, storage=storage)
    complete = [t for t in study.get_trials(deepcopy=False) if t.state is TrialState.COMPLETE]
    if len(complete) < 4 or len({t.value for t in complete}) < 2:
        return {}
    try:
        return dict(optuna.importance.get_param_importances(study))
    except (ValueError, RuntimeError):
        return {}


def fanova_importance(storage: BaseStorage, name: str, sample: int) -> dict[str, float]:
    """fANOVA importance (Hutter et al., 2014) of each parameter, most important first; empty below 4 finished trials.

    It takes about 2 s for 300 trials and minutes for thousands, so of more than ``sample`` complete trials that many
    are taken at random, the same ones every time.
    """
    study = optuna.load_study(study_name=name, storage=storage)
    complete = [t for t in study.get_trials(deepcopy=False) if t.state is TrialState.COMPLETE]
    chosen = complete if len(complete) <= sample else random.Random(0).sample(complete, sample)
    if len(chosen) < 4 or len({t.value for t in chosen}) < 2:
        return {}
    part = optuna.create_study(direction="minimize")
    part.add_trials(chosen)
    try:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares = optuna.importance.get_param_importances(part, evaluator=evaluator)
    except (ValueError, RuntimeError):
        return {}
    return {path: float(share) for path, share in shares.items()}
