"""A study laid beside what MLflow really holds of it: agreement, deleted and strange runs, changed values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tuner.analysis.mirror import disagreements, lacking, run_link
from tuner.search.history import StudyRecord, TrialRecord
from tuner.spec.records import Measurement, Outcome, Spent, State
from tuner.tracking.store import connect
from tuner.tracking.tracker import StudyTracker

URI = "sqlite:///mlflow.db"


def mirrored(folder: Path) -> StudyRecord:
    """Two complete trials, in the spools and in MLflow."""
    tracker = StudyTracker(folder / "runs" / "seen", "seen", URI, lambda sentence: None, interval=0.05)
    for number in (0, 1):
        tracker.start(number, {}, {}, {})
        tracker.row(number, Measurement(Spent(10, 100, 1000, 1.0), {"val_loss": 2.0 + number}, 1))
        tracker.finish(number, Outcome(State.COMPLETE, ""), {})
    assert tracker.close(30) == 0
    runs = tracker.runs()
    trials = [_trial(number, 2.0 + number, runs[number]) for number in (0, 1)]
    return StudyRecord("seen", {"trial": {}, "study": {"metric": "val_loss"}}, tuple(trials))


def _trial(number: int, value: float, run: str) -> TrialRecord:
    from datetime import datetime

    return TrialRecord(number, "complete", "", {}, value, {1: value}, {"mlflow_run": run}, ended=datetime(2026, 1, 1))


def test_the_two_books_agree_until_somebody_changes_one(tmp_path: Path) -> None:
    record = mirrored(tmp_path)
    assert disagreements(record, URI) == []
    assert lacking(record, tmp_path / "runs", URI) == 0

    changed = replace(record, trials=(replace(record.trials[0], value=1.5), record.trials[1]))
    (sentence,) = disagreements(changed, URI)
    assert "Trial 0 ended at 1.5, its run says 2" in sentence

    strange = replace(record, trials=record.trials[:1])
    (sentence,) = disagreements(strange, URI)
    assert "1 runs are of trials that this store does not have" in sentence

    client = connect(URI)
    run = str(record.trials[1].facts["mlflow_run"])
    client.delete_run(run)
    (sentence,) = disagreements(record, URI)
    assert "trial 1 was deleted in MLflow" in sentence


def test_a_run_names_its_page_in_the_dashboard(tmp_path: Path) -> None:
    record = mirrored(tmp_path)
    run = str(record.trials[1].facts["mlflow_run"])
    tags = connect(URI).get_run(run).data.tags
    assert tags["tuner.dashboard"] == "http://127.0.0.1:8501/trial?study=seen&trial=1"
    assert run_link(URI, run) == f"http://127.0.0.1:5000/#/runs/{run}"
    assert run_link("https://mlflow.example/", run) == f"https://mlflow.example/#/runs/{run}"


def test_a_trial_that_stopped_early_ended_at_its_lowest_and_its_run_at_its_last(tmp_path: Path) -> None:
    record = mirrored(tmp_path)
    trials = tuple(replace(trial, value=float(trial.value or 0) - 0.1) for trial in record.trials)
    early = replace(record, spec={**record.spec, "trial": {"early_stop": 3}}, trials=trials)
    assert disagreements(early, URI) == []
    assert len(disagreements(replace(record, trials=trials), URI)) == 2
