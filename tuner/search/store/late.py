"""MLflow runs that were made when their trial had ended already: the study names them, as the driver would have.
Written with the study, because an ended trial can be changed no more.
"""

from __future__ import annotations

from collections.abc import Mapping

from optuna.storages import BaseStorage

from tuner.search.store.address import store_errors

LATE_RUN = "mlflow_run:"
"""Begins the study attribute that has a trial's MLflow run, by number, where that was known too late for the trial."""


def name_runs(
    storage: BaseStorage, url: str, study: str, owner: str | None, runs: Mapping[int, str], anew: bool = False
) -> dict[int, str]:
    """Have ended trials that name no run name theirs, of ``runs`` (trial -> run); which ones that were. With ``anew``
    those too that name another: their MLflow was lost, and the runs were made once more.

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
        named = {t.number: attributes.get(f"{LATE_RUN}{t.number}", t.user_attrs.get("mlflow_run")) for t in ended}
        found = {n: run for n, run in runs.items() if n in named and named[n] != run and (anew or named[n] is None)}
        for number, run in found.items():
            storage.set_study_user_attr(key, f"{LATE_RUN}{number}", run)
    return found
