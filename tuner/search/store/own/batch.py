"""Changes of trials that are written together: all of them in one transaction, or none.
Rows of Optuna's tables, by its own models; what is known of a trial in memory is kept in held.py.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

_INSERT: Mapping[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class Batch:
    """What is to be written, in the order in which it was set. ``known`` says that a row is there and changes."""

    def __init__(self) -> None:
        self._rows: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        self._changes: list[tuple[Any, dict[str, Any], dict[str, Any]]] = []
        self._ends: list[tuple[int, TrialState, datetime]] = []
        self._study: dict[tuple[Any, int, str], Any] = {}

    def parameter(self, trial: int, name: str, value: float, distribution: BaseDistribution) -> None:
        key = {"trial_id": trial, "param_name": name}
        row = {"param_value": value, "distribution_json": distribution_to_json(distribution)}
        self._set(models.TrialParamModel, key, row, known=False)

    def report(self, trial: int, step: int, value: float, known: bool) -> None:
        model = models.TrialIntermediateValueModel
        stored, kind = model.intermediate_value_to_stored_repr(value)
        row = {"intermediate_value": stored, "intermediate_value_type": kind}
        self._set(model, {"trial_id": trial, "step": step}, row, known)

    def fact(self, trial: int, key: str, value: Any, known: bool) -> None:
        """A user attribute."""
        row = {"value_json": json.dumps(value)}
        self._set(models.TrialUserAttributeModel, {"trial_id": trial, "key": key}, row, known)

    def mark(self, trial: int, key: str, value: Any, known: bool) -> None:
        """A system attribute."""
        row = {"value_json": json.dumps(value)}
        self._set(models.TrialSystemAttributeModel, {"trial_id": trial, "key": key}, row, known)

    def end(self, trial: int, state: TrialState, values: Sequence[float], moment: datetime) -> None:
        """The trial's end, which is written after all else."""
        for objective, value in enumerate(values):
            stored, kind = models.TrialValueModel.value_to_stored_repr(value)
            row = {"value": stored, "value_type": kind}
            self._set(models.TrialValueModel, {"trial_id": trial, "objective": objective}, row, known=False)
        self._ends.append((trial, state, moment))

    def study_fact(self, study: int, key: str, value: Any) -> None:
        """A user attribute of the study."""
        self._study[models.StudyUserAttributeModel, study, key] = value

    def study_mark(self, study: int, key: str, value: Any) -> None:
        """A system attribute of the study."""
        self._study[models.StudySystemAttributeModel, study, key] = value

    def marks_of(self, study: int) -> dict[str, Any]:
        """The system attributes of a study that are to be written."""
        mine = (models.StudySystemAttributeModel, study)
        return {key: value for (model, of, key), value in self._study.items() if (model, of) == mine}

    def _set(self, model: Any, key: Mapping[str, Any], row: Mapping[str, Any], known: bool) -> None:
        if known:
            self._changes.append((model, dict(key), dict(row)))
        else:
            self._rows[model].append({**key, **row})

    def __bool__(self) -> bool:
        return bool(self._rows or self._changes or self._ends or self._study)

    def write(self, session: Session) -> None:
        """All of it, in the caller's transaction.

        Raises:
            UpdateFinishedTrialError: a trial that is to end has ended.
            SQLAlchemyError: the database refuses.
        """
        for model, rows in self._rows.items():
            session.execute(sqlalchemy.insert(model), rows)
        for model, key, row in self._changes:
            session.execute(sqlalchemy.update(model).filter_by(**key).values(**row))
        for (model, study, name), value in self._study.items():
            # others may set it at this moment: in one statement the later one counts, in two it would be refused
            insert = _INSERT[session.get_bind().dialect.name](model)
            row = insert.values(study_id=study, key=name, value_json=json.dumps(value))
            changed = {"value_json": row.excluded.value_json}
            session.execute(row.on_conflict_do_update(index_elements=["study_id", "key"], set_=changed))
        for number, state, moment in self._ends:
            trial = models.TrialModel.find_or_raise_by_id(number, session, for_update=True)
            if trial.state.is_finished():
                raise UpdateFinishedTrialError(f"Trial#{trial.number} has already finished.")
            trial.state, trial.datetime_complete = state, moment
