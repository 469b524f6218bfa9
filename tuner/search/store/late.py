"""MLflow runs that were made when their trial had ended already: the study names them, as the driver would have.
Written with the study, because an ended trial can be changed no more.
"""

from __future__ import annotations

from collections.abc import Mapping

from optuna.storages import BaseStorage

from tuner.search.store.address import store_errors

LATE_RUN = "mlflow_run:"
"""Begins the study attribute that has a trial's MLflow run, by number, where that was known too late for the trial."""


def name_runs(storage: BaseStorage, url: str, study: str, owner: str | None, runs: Mapping[int, str]) -> dict[int, str]:
    """Have ended trials that name no run name theirs, of ``runs`` (trial -> run); which ones that were.

    None of a study whose id is not ``owner``, that of the study the runs were made for (None: not known, so any).

    Raises:
        StoreError: the store at ``url`` refuses.
    """
    with store_errors(url):
        try:
            key = storage.get_study_id_from_name(study)
        except KeyError:  # Optuna's, for want of the study: nothing to name
            return {}
        attributes = storage.get_study_user_attrs(key)
        if owner not in (None, attributes.get("id")):
            return {}
        ended = [trial for trial in storage.get_all_trials(key, deepcopy=False) if trial.state.is_finished()]
        nameless = {trial.number for trial in ended if "mlflow_run" not in trial.user_attrs}
        found = {n: run for n, run in runs.items() if n in nameless and f"{LATE_RUN}{n}" not in attributes}
        for number, run in found.items():
            storage.set_study_user_attr(key, f"{LATE_RUN}{number}", run)
    return found
