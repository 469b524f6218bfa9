"""What MLflow holds of a study, asked once for all its runs: to be laid beside the trial store.
Reading only; what a difference means is said in analysis/.
"""

from __future__ import annotations

from dataclasses import dataclass

from tuner.spec.errors import TunerError
from tuner.tracking.mlflow import TRIAL_TAG, reason
from tuner.tracking.store import connect, shown


@dataclass(frozen=True)
class Run:
    """One MLflow run: which trial it says it is (``study/number``), whether it was deleted, its last metrics.

    ``started`` is in ms, as the trial's spool has it: an earlier study of the same name began at another time.
    ``state`` is the word of the trial's end, empty where the run does not say it.
    """

    id: str
    trial: str
    deleted: bool
    finished: bool
    metrics: dict[str, float]
    started: int = 0
    state: str = ""


def runs_of(study: str, uri: str) -> list[Run]:
    """Every run in the experiment of ``study``, deleted ones too; empty where MLflow has no such experiment.

    Raises:
        StoreError: MLflow's file belongs to something else.
        TunerError: MLflow cannot be reached, or refuses.
    """
    from mlflow.entities import ViewType
    from mlflow.exceptions import MlflowException

    found: list[Run] = []
    try:
        client = connect(uri)
        experiment = client.get_experiment_by_name(study)
        token = "" if experiment else None
        while token is not None:
            page = client.search_runs([experiment.experiment_id], "", ViewType.ALL, 1000, page_token=token or None)
            found += [
                Run(
                    id=str(run.info.run_id),
                    trial=str(run.data.tags.get(TRIAL_TAG, "")),
                    deleted=run.info.lifecycle_stage == "deleted",
                    finished=run.info.status != "RUNNING",
                    metrics=dict(run.data.metrics),
                    started=int(run.info.start_time or 0),
                    state=str(run.data.tags.get("tuner.state", "")),
                )
                for run in page
            ]
            token = page.token or None
    except (MlflowException, OSError) as error:
        raise TunerError(
            f"MLflow at {shown(uri)} could not be read: {reason(error).replace(uri, shown(uri))}"
        ) from error
    return found
