"""A study beside its mirror in MLflow: the link to a run, what is not mirrored yet, where the two disagree.
Sentences and counts out; nothing is mended here, `tuner sync` does that.
"""

from __future__ import annotations

import os
from pathlib import Path

from tuner.search.history import IMPORTED, StudyRecord, TrialRecord
from tuner.tracking.audit import Run, runs_of
from tuner.tracking.mirror import unmirrored
from tuner.tracking.store import location

LOCAL = "http://127.0.0.1:5000"
"""Where `mlflow ui` listens when it is started without an address."""

EARLY = "early_stop"
_NEAR = 1e-9


def run_link(uri: str, run: str) -> str:
    """The page of a run: where TUNER_MLFLOW says that browsers find MLflow, else on its server, else where `mlflow ui`
    shows the file of this folder.
    """
    base = os.environ.get("TUNER_MLFLOW") or (uri if uri.startswith(("http://", "https://")) else LOCAL)
    return f"{base.rstrip('/')}/#/runs/{run}"


def lacking(record: StudyRecord, runs: Path, uri: str) -> int:
    """How many records in the study's spools MLflow has not got yet; ``runs`` holds the studies' folders."""
    return unmirrored(runs / record.name, location(uri))


def disagreements(record: StudyRecord, uri: str) -> list[str]:
    """Where trial store and MLflow tell different stories, in sentences; empty where they agree.

    Raises:
        TunerError: MLflow cannot be reached.
    """
    runs = {run.id: run for run in runs_of(record.name, uri)}
    ours = {f"{record.name}/{trial.number}": trial for trial in record.trials}
    alive: dict[str, list[Run]] = {}  # by the trial that they say they are
    for run in runs.values():
        if not run.deleted:
            alive.setdefault(run.trial, []).append(run)
    said = []
    for trial in record.trials:
        known = trial.facts.get("mlflow_run")
        if not isinstance(known, str) or IMPORTED in trial.facts:  # another study's run is in that one's experiment
            continue
        chosen = runs.get(known)
        if chosen is None:
            others = [run.id for run in alive.get(f"{record.name}/{trial.number}", [])]
            instead = f"; it has {', '.join(others)} of that trial" if others else ""
            said.append(f"Trial {trial.number} names the run {known}, which MLflow does not have{instead}.")
        elif chosen.deleted:
            said.append(f"The run of trial {trial.number} was deleted in MLflow ({known}).")
        else:
            said += _differences(record, trial, chosen)
            said += _doubled(trial.number, chosen, alive[chosen.trial])
    strangers = [run.id for run in runs.values() if not run.deleted and run.trial and run.trial not in ours]
    if strangers:
        some = ", ".join(strangers[:3]) + (" and others" if len(strangers) > 3 else "")
        said.append(f"{len(strangers)} runs are of trials that this store does not have: {some}.")
    return said


def _doubled(number: int, chosen: Run, runs: list[Run]) -> list[str]:
    """``runs`` say they are the same trial; one that began at another time is of an earlier study of this name."""
    others = [run.id for run in runs if run.started == chosen.started and run.id != chosen.id]
    if not others:
        return []
    return [f"Trial {number} has {len(others) + 1} runs: {chosen.id}, which the store names, and {', '.join(others)}."]


def _differences(record: StudyRecord, trial: TrialRecord, run: Run) -> list[str]:
    number, theirs = trial.number, run.metrics.get(record.metric)
    value = trial.value
    if value is not None and trial.last and trial.point.get(EARLY, record.spec["trial"].get(EARLY)) is not None:
        value = trial.last[1]  # the run has what came last, which was not the lowest
    ended = trial.ended is not None
    if ended and not run.finished:
        return [f"Trial {number} has ended, its run still says RUNNING; `tuner sync {record.name}` closes it."]
    if ended and run.state not in ("", trial.state):
        return [f"Trial {number} is {trial.state}, its run says {run.state}: one of them was changed."]
    if value is not None and theirs is None:
        return [f"Trial {number} ended at {value:.6g}, its run has no {record.metric}; `tuner sync {record.name}`."]
    if value is not None and theirs is not None and abs(value - theirs) > _NEAR * max(1.0, abs(value)):
        return [f"Trial {number} ended at {value:.6g}, its run says {theirs:.6g}: one of them was changed."]
    return []
