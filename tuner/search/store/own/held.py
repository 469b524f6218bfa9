"""The store of a study that one driver holds: read once and then known, for nobody else changes its trials; what
belongs together is written in one transaction.
Optuna's own store behind it; who may hold a study is settled in lock.py.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Container, Iterator, Sequence
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage, _StudyInfo
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState

from tuner.search.store.own.batch import Batch
from tuner.search.store.reader import read_trials


class Held(_CachedStorage):
    """A store whose trials only this process changes; others may add to them, and those are found.

    After an error nothing is taken for known: what was written, and what not, is read again.
    """

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._batch: Batch | None = None
        self._newest: dict[int, int] = {}

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is set within is written at its end, whole or not at all. One within another belongs to that."""
        if self._batch is not None:
            yield
            return
        self._batch = Batch()
        try:
            yield
            if self._batch:
                with self._backend.scoped_session() as session, session.begin():
                    self._batch.write(session)
        except BaseException:
            self._newest.clear()
            raise
        finally:
            self._batch = None

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        """Those that are new; all of them after an error, and the first time."""
        with self._lock:
            newest = self._newest.get(study_id)
            with self._backend.engine.connect() as connection:
                trials = read_trials(connection, study_id, newest, marks=True)
            if newest is None or study_id not in self._studies:
                self._studies[study_id] = _StudyInfo()
                for trial in trials:
                    self._studies[study_id].param_distribution |= trial.distributions
            self._add_trials_to_cache(study_id, trials)
            known = self._studies[study_id].trials
            if trials and trials[-1].number != next(reversed(known)):  # others' came in between
                self._studies[study_id].trials = dict(sorted(known.items()))
            self._newest[study_id] = max((trial._trial_id for trial in trials), default=newest or 0)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Those of the ``states``, by number, as they are kept."""
        self._read_trials_from_remote_storage(study_id)
        known = self._studies[study_id].trials.values()
        trials = [trial for trial in known if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """One try, where Optuna makes five: of an answer that was lost it would make another trial."""
        backend = self._backend
        try:
            with backend.scoped_session() as session, session.begin():
                models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
                trial_id = int(backend._get_prepared_new_trial(study_id, template_trial, session).trial_id)
            self._read_trials_from_remote_storage(study_id)
        except BaseException:
            self._newest.clear()
            raise
        return trial_id

    def _of(self, trial_id: int) -> tuple[_StudyInfo, FrozenTrial]:
        """A trial as it is known, for a change or to look at."""
        if trial_id not in self._trial_id_to_study_id_and_number:
            raise KeyError(trial_id)
        study_id, number = self._trial_id_to_study_id_and_number[trial_id]
        if study_id not in self._newest:
            self._read_trials_from_remote_storage(study_id)
        return self._studies[study_id], self._studies[study_id].trials[number]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        with contextlib.suppress(KeyError):
            return self._of(trial_id)[1]
        return self._backend.get_trial(trial_id)

    @contextlib.contextmanager
    def _changed(self, trial_id: int) -> Iterator[tuple[Batch, _StudyInfo, FrozenTrial]]:
        """A copy of the trial, known in its place once it is changed, and where to note the change."""
        with self.together():
            study, trial = self._of(trial_id)
            self.check_trial_is_updatable(trial_id, trial.state)
            changed = copy.copy(trial)
            assert self._batch is not None
            yield self._batch, study, changed
            study.trials[trial.number] = changed

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        with self._changed(trial_id) as (batch, study, trial):
            check_distribution_compatibility(study.param_distribution.get(param_name, distribution), distribution)
            study.param_distribution.setdefault(param_name, distribution)
            trial.distributions = {**trial.distributions, param_name: distribution}
            trial.params = {**trial.params, param_name: distribution.to_external_repr(param_value_internal)}
            batch.parameter(trial_id, param_name, param_value_internal, distribution)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        with self._changed(trial_id) as (batch, _, trial):
            batch.report(trial_id, step, intermediate_value, step in trial.intermediate_values)
            trial.intermediate_values = {**trial.intermediate_values, step: intermediate_value}

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        with self._changed(trial_id) as (batch, _, trial):
            batch.fact(trial_id, key, value, key in trial.user_attrs)
            trial.user_attrs = {**trial.user_attrs, key: value}

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        with self._changed(trial_id) as (batch, _, trial):
            batch.mark(trial_id, key, value, key in trial.system_attrs)
            trial.system_attrs = {**trial.system_attrs, key: value}

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        if not state.is_finished():
            return self._claimed(trial_id, state)
        with self._changed(trial_id) as (batch, _, trial):
            moment = max(datetime.now(), trial.datetime_start or datetime.min)  # clocks are set back
            batch.end(trial_id, state, values or (), moment)
            trial.state, trial.datetime_complete = state, moment
            if values is not None:
                trial.values = list(values)
        return True

    def _claimed(self, trial_id: int, state: TrialState) -> bool:
        """A waiting trial made running, unless somebody was faster."""
        try:
            done = self._backend.set_trial_state_values(trial_id, state)
            study_id, _ = self._trial_id_to_study_id_and_number[trial_id]
            with self._lock, self._backend.engine.connect() as connection:
                newest = self._newest.get(study_id, trial_id)
                self._add_trials_to_cache(study_id, read_trials(connection, study_id, newest, [trial_id], marks=True))
        except BaseException:
            self._newest.clear()
            raise
        return done

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        if self._batch is None:
            super().set_study_user_attr(study_id, key, value)
        else:
            self._batch.study_fact(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        if self._batch is None:
            super().set_study_system_attr(study_id, key, value)
        else:
            self._batch.study_mark(study_id, key, value)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        pending = {} if self._batch is None else self._batch.marks_of(study_id)
        return {**super().get_study_system_attrs(study_id), **pending}


def held(storage: BaseStorage) -> BaseStorage:
    """The store for its study's driver; one in memory is as good already."""
    backend = getattr(storage, "_backend", storage)
    return Held(backend) if isinstance(backend, RDBStorage) else storage


def together(storage: BaseStorage) -> contextlib.AbstractContextManager[None]:
    """``Held.together``, of any store: one in memory has no transactions."""
    return storage.together() if isinstance(storage, Held) else contextlib.nullcontext()
