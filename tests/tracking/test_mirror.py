"""What the spools hold is what MLflow holds: once, in one run a trial, whatever dies in between."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tracking_helpers import SPEC, points_of, row, spooled, stored

from tuner.spec.errors import StoreError
from tuner.spec.records import Measurement, Outcome, State
from tuner.tracking.mirror import SyncReport, sync
from tuner.tracking.mlflow import CURSOR, Writer
from tuner.tracking.spool import SPOOL, Start, encode, read_spool
from tuner.tracking.store import connect
from tuner.tracking.tracker import StudyTracker

URI = "sqlite:///mlflow.db"
DONE = Outcome(State.COMPLETE, "the budget is spent")


def tracker(study: str = "base", uri: str = URI, said: list[str] | None = None) -> StudyTracker:
    return StudyTracker(Path("runs") / study, study, uri, ([] if said is None else said).append, interval=0.02)


def run_trial(tracker: StudyTracker, trial: int, steps: int = 20) -> None:
    tracker.start(trial, {"optim.lr": 1e-3}, {"data": "abc"}, SPEC)
    for step in range(1, steps + 1):
        tracker.row(trial, row(step, step // 5 if step % 5 == 0 else None))
    tracker.finish(trial, DONE, {"tokens": "2000"})


def test_a_study_is_in_mlflow_as_it_was(database: Path) -> None:
    said: list[str] = []
    memory = tracker(said=said)
    for trial in range(3):
        run_trial(memory, trial)
    memory.start(3, {"optim.lr": 1e-3}, {}, SPEC)
    memory.row(3, row(1))
    memory.tag(3, {"note": "still running"})
    assert memory.close() == 0
    assert said == []
    runs = stored(database, "base")
    assert {trial: run["run"] for trial, run in runs.items()} == memory.runs()
    for trial in range(4):
        assert runs[trial]["points"] == spooled(Path("runs/base"), trial)
    assert len(runs[0]["points"]) == 20 * 4 + 4
    assert runs[0]["params"] == {
        "model.depth": "2",
        "model.width": "64",
        "optim.lr": "0.001",
        "optim.betas": "[0.9, 0.99]",
        "budget": "1M tokens",
    }
    finish = read_spool(Path("runs/base/0") / SPOOL).finish
    assert finish is not None
    assert (runs[0]["status"], runs[0]["end"], runs[0]["name"]) == ("FINISHED", finish.time_ms, "base-0000")
    expected = {
        "tuner.trial": "base/0",
        "tuner.study": "base",
        "tuner.number": "0",
        "tuner.state": "complete",
        "tuner.dashboard": "http://127.0.0.1:8501/trial?study=base&trial=0",
    }
    expected |= {
        "tuner.reason": "the budget is spent",
        "data": "abc",
        "tokens": "2000",
        "mlflow.runName": "base-0000",
    }
    assert runs[0]["tags"] == expected
    assert (runs[3]["status"], runs[3]["tags"]["tuner.state"]) == ("RUNNING", "running")
    assert runs[3]["tags"]["note"] == "still running"
    client = connect(URI)
    artifact = client.download_artifacts(runs[0]["run"], "spec.json")
    assert json.loads(Path(artifact).read_text()) == SPEC
    history = client.get_metric_history(runs[0]["run"], "train_loss")
    rows = read_spool(Path("runs/base/0") / SPOOL).rows
    assert [(m.step, m.value, m.timestamp) for m in history] == [
        (r.spent.steps, r.metrics["train_loss"], r.time_ms) for r in rows
    ]


def test_mirrored_twice_is_once(database: Path) -> None:
    memory = tracker()
    for trial in range(2):
        run_trial(memory, trial)
    assert memory.close() == 0
    before = stored(database, "base")
    folder = Path("runs/base")
    assert sync(folder, URI) == SyncReport(2, 0, 40, 0, 0)
    for trial in range(2):
        (folder / str(trial) / CURSOR).unlink()  # a crash before the note
    assert sync(folder, URI) == SyncReport(2, 0, 40, 0, 0)
    assert stored(database, "base") == before


def test_an_interrupted_trial_goes_on_in_its_run_and_repeated_steps_are_dropped(database: Path) -> None:
    first = tracker()
    first.start(0, {}, {}, SPEC)
    assert [first.row(0, row(step)) for step in (1, 2, 3, 4)] == [True] * 4
    first.finish(0, Outcome(State.INTERRUPTED, "Ctrl-C"), {})
    assert first.close() == 0
    run = stored(database, "base")[0]
    assert (run["status"], run["tags"]["tuner.state"]) == ("KILLED", "interrupted")

    second = tracker()
    second.start(0, {}, {"device": "cpu"}, SPEC)
    assert [second.row(0, row(step)) for step in (3, 4)] == [False, False]
    assert second.row(0, row(4, 1, val_loss=2.0))
    deadline = time.monotonic() + 3
    while stored(database, "base")[0]["status"] != "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert second.row(0, row(5))
    second.finish(0, DONE, {})
    assert second.close() == 0
    again = stored(database, "base")[0]
    assert (again["run"], again["status"], again["tags"]["tuner.state"]) == (
        run["run"],
        "FINISHED",
        "complete",
    )
    assert (again["tags"]["tuner.resumed"], again["tags"]["device"]) == ("1", "cpu")
    assert again["points"] == spooled(Path("runs/base"), 0)
    assert again["points"][("val_loss", 4)] == 2.0
    content = read_spool(Path("runs/base/0") / SPOOL)
    assert [r.spent.steps for r in content.rows] == [1, 2, 3, 4, 5]
    assert (content.resumes, content.finish and content.finish.outcome) == (1, DONE)


def write_samples(memory: StudyTracker) -> None:
    memory.start(0, {}, {}, SPEC)
    for step in range(1, 7):
        texts = (f"written at {step}\n", "çà \udc80 und so") if step % 2 == 0 else ()
        memory.row(0, replace(row(step, step // 2 if texts else None), samples=texts))
    memory.finish(0, DONE, {})


def test_a_milestone_at_an_earlier_step_than_before_the_kill_is_mirrored(database: Path) -> None:
    """A budget in seconds: the resumed trial is slower, and reaches the milestone at step 95, where it was at 100."""
    folder = Path("runs") / "early"
    for rows in ([row(90), row(100)], [row(95, 1, val_loss=2.0), row(110)]):
        memory = StudyTracker(folder, "early", URI, lambda _: None)
        memory.start(0, {}, {}, SPEC)
        assert [memory.row(0, one) for one in rows] == [True, True]
        assert memory.close() == 0  # and with it the driver ends
    assert [one.spent.steps for one in read_spool(folder / "0" / SPOOL).rows] == [90, 95, 100, 110]
    points = stored(database, "early")[0]["points"]
    assert (points["val_loss", 95], points["milestone", 95]) == (2.0, 1)
    assert points == spooled(folder, 0)


def test_samples_are_files_of_the_run_and_sent_again_are_the_same(database: Path) -> None:
    memory = tracker()
    write_samples(memory)
    assert memory.close() == 0
    run = stored(database, "base")[0]["run"]
    client = connect(URI)
    for again in (False, True):
        if again:
            (Path("runs/base/0") / CURSOR).unlink()
            assert sync(Path("runs/base"), URI).deleted == 0
        files = [info.path for info in client.list_artifacts(run, "samples")]
        assert files == [f"samples/milestone-0{milestone}.txt" for milestone in (1, 2, 3)]
        text = Path(client.download_artifacts(run, files[1])).read_text(encoding="utf-8")
        assert text == "--- sample 1\nwritten at 4\n\n\n--- sample 2\nçà ? und so\n"
    assert stored(database, "base")[0]["points"] == spooled(Path("runs/base"), 0)


def test_refused_samples_cost_one_note_and_no_point(database: Path) -> None:
    experiment = connect(URI).create_experiment("base", artifact_location=str(Path("file").absolute()))
    assert experiment
    Path("file").write_text("a file where a folder must be")
    said: list[str] = []
    memory = StudyTracker(Path("runs/base"), "base", URI, said.append, interval=3600)
    write_samples(memory)
    assert memory.close() == 0
    run = stored(database, "base")[0]
    assert run["points"] == spooled(Path("runs/base"), 0)
    assert (run["status"], run["tags"]["tuner.samples"][:12]) == ("FINISHED", "not stored: ")
    assert len(said) == 1
    assert "milestone-01.txt could not be stored" in said[0]


def test_times_of_the_worker_are_kept(database: Path) -> None:
    memory = tracker()
    memory.start(0, {}, {}, SPEC)
    memory.row(0, replace(row(1), time_ms=4_000_000_000_123))
    memory.close()
    run = stored(database, "base")[0]["run"]
    assert {m.timestamp for m in connect(URI).get_metric_history(run, "train_loss")} == {4_000_000_000_123}


def test_a_torn_and_a_flipped_line_cost_those_lines_and_are_told(database: Path) -> None:
    said: list[str] = []
    path = Path("runs/base/0") / SPOOL
    lines = [encode(Start(1, {}, {}, SPEC))] + [encode(replace(row(step), time_ms=step)) for step in range(1, 9)]
    lines[3] = lines[3].replace(b"train_loss", b"train_lost")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:30])

    second = tracker(said=said)
    second.start(0, {}, {}, SPEC)
    assert [second.row(0, row(step)) for step in (7, 8)] == [False, True]
    second.finish(0, DONE, {})
    assert second.close() == 0
    assert said == [
        "trial 0: a torn last line (30 bytes) was cut from its record",
        "trial 0: 1 damaged line(s) of its record were skipped",
    ]
    content = read_spool(path)
    assert ([r.spent.steps for r in content.rows], content.damaged) == ([1, 2, 4, 5, 6, 7, 8], 1)
    assert stored(database, "base")[0]["tags"]["tuner.damaged_lines"] == "1"


def test_a_deleted_store_is_made_anew_and_a_deleted_run_is_not(database: Path, made_store: Path) -> None:
    said: list[str] = []
    memory = tracker(said=said)
    run_trial(memory, 0)
    run_trial(memory, 1)
    memory.close()
    before = stored(database, "base")
    other = Path("other.db")
    shutil.copy(made_store, other)  # as a mlflow.db that was deleted: it knows no run
    assert sync(Path("runs/base"), "sqlite:///other.db") == SyncReport(2, 40, 0, 0, 0)
    anew = stored(other, "base")
    assert {t: run["points"] for t, run in anew.items()} == {t: run["points"] for t, run in before.items()}
    connect(URI).delete_run(before[1]["run"])
    assert sync(Path("runs/base"), URI).deleted == 1
    third = tracker(said=said)
    third.start(1, {}, {}, SPEC)
    third.row(1, row(21))
    third.start(0, {}, {}, SPEC)
    third.finish(0, DONE, {})
    assert third.close() == 0
    assert len(said) == 1
    assert "was deleted in MLflow" in said[0]
    assert stored(database, "base").keys() == {0}


def test_a_study_keeps_its_name_where_its_folder_lies_elsewhere(database: Path, tmp_path: Path) -> None:
    memory = tracker()
    run_trial(memory, 0)
    memory.close()
    elsewhere = shutil.move("runs/base", str(tmp_path / "base-2024"))
    Path("runs/base").symlink_to(elsewhere)
    run_trial(other := tracker("other"), 0)
    other.close()
    assert sync(Path("runs/base"), URI).points == 0
    assert stored(database, "base").keys() == {0}
    assert not stored(database, "base-2024")


def test_a_second_mirror_waits_and_sync_says_so(database: Path) -> None:
    memory = tracker()
    memory.start(0, {}, {}, SPEC)
    deadline = time.monotonic() + 3
    while not memory.runs():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(StoreError, match="a running study mirrors by itself"):
        sync(Path("runs/base"), URI)
    memory.close()
    with pytest.raises(StoreError, match="expected the folder of a study"):
        sync(Path("runs/none"), URI)


def test_two_runs_of_one_trial_become_one(database: Path) -> None:
    """As after a create that timed out over HTTP and was sent again: both arrived."""
    client = connect(URI)
    experiment = client.create_experiment("base")
    memory = StudyTracker(Path("runs/base"), "base", URI, print, interval=3600)  # sends only at close
    run_trial(memory, 0)
    start = read_spool(Path("runs/base/0") / SPOOL).start
    assert start is not None
    for _ in range(2):
        client.create_run(experiment, start_time=start.time_ms, tags={"tuner.trial": "base/0"})
    assert memory.close() == 0
    assert stored(database, "base")[0]["points"] == spooled(Path("runs/base"), 0)


def test_a_new_study_of_an_old_name_gets_runs_of_its_own(database: Path) -> None:
    for _ in range(2):
        memory = tracker()
        run_trial(memory, 0)
        assert memory.close() == 0
        shutil.rmtree("runs")
    experiment = connect(URI).get_experiment_by_name("base").experiment_id
    runs = connect(URI).search_runs([experiment])
    assert [len(connect(URI).get_metric_history(run.info.run_id, "tokens")) for run in runs] == [20, 20]


def test_a_killed_driver_loses_nothing_and_doubles_nothing(database: Path) -> None:
    """kill -9 of the writing and mirroring process at random instants, each time taken up where it was."""
    rng = random.Random(11)
    folder = Path("runs/base")
    for _ in range(6):
        child = os.fork()  # a copy of this process: MLflow is loaded already
        if child == 0:
            try:
                memory = tracker()
                for step in count(1):
                    for trial in range(3):
                        if step == 1:
                            memory.start(trial, {}, {}, SPEC)
                        memory.row(trial, row(step, step // 10 if step % 10 == 0 else None))
                    time.sleep(0.002)
            finally:
                os._exit(1)
        time.sleep(rng.uniform(0.05, 0.5))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    report = sync(folder, URI)
    assert (report.trials, report.damaged, report.deleted) == (3, 0, 0)
    runs = stored(database, "base")
    assert runs.keys() == {0, 1, 2}
    for trial, run in runs.items():
        content = read_spool(folder / str(trial) / SPOOL)
        steps = [r.spent.steps for r in content.rows]
        assert steps == list(range(1, len(steps) + 1))
        assert run["points"] == spooled(folder, trial)
        assert (run["status"], run["tags"]["tuner.resumed"]) == ("RUNNING", str(content.resumes))
    assert sync(folder, URI).points == 0


events = st.lists(
    st.one_of(
        st.tuples(st.just("row"), st.integers(0, 1), st.integers(1, 12), st.booleans()),
        st.tuples(st.just("start"), st.integers(0, 1)),
        st.tuples(st.just("finish"), st.integers(0, 1), st.sampled_from(State)),
        st.tuples(st.just("mirror"), st.integers(0, 1)),
        st.tuples(st.just("crash"), st.integers(0, 1)),
    ),
    min_size=5,
    max_size=40,
)
studies = count()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events)
def test_any_history_is_mirrored_as_its_deduplicated_self(database: Path, history: list[tuple]) -> None:  # type: ignore[type-arg]
    """Against a model of a few lines: a step is kept once, the first value of a metric at a step stands, and a
    milestone is never lost.
    """
    study = f"s{next(studies)}"
    folder = Path("runs") / study
    memory = StudyTracker(folder, study, URI, lambda _: None, interval=3600)  # its thread sends only at close
    writer = Writer(study, URI)
    model: dict[int, list[Measurement]] = {}
    state: dict[int, str] = {}
    for kind, trial, *rest in [("start", 0), *history]:
        if kind != "start" and trial not in model:
            continue
        match kind:
            case "start":
                memory.start(trial, {}, {}, SPEC)
                model.setdefault(trial, [])
                state[trial] = "running"
            case "row":
                step, marked = rest
                fresh = row(step, 1, val_loss=1.0 / step) if marked else row(step)
                rows = model[trial]
                steps, reached = [one.spent.steps for one in rows], any(one.milestone for one in rows)
                joins = bool(rows) and rows[-1].spent.steps == step and rows[-1].milestone is None
                if marked and not reached and step in steps and not joins:
                    continue  # an earlier step that has a row already: both are kept, and the store has both times
                new = step > max(steps, default=0) or (marked and not reached)
                assert memory.row(trial, fresh) == new
                if new and joins:
                    rows[-1] = replace(fresh, metrics={**fresh.metrics, **rows[-1].metrics})
                elif new:
                    rows.append(fresh)
            case "finish":
                memory.finish(trial, Outcome(rest[0]), {})
                state[trial] = rest[0].value
            case "mirror":
                writer.mirror(folder / str(trial), trial)
            case "crash":  # between the store's answer and the note in the cursor
                cursor = folder / str(trial) / CURSOR
                before = cursor.read_bytes() if cursor.exists() else None
                writer.mirror(folder / str(trial), trial)
                cursor.unlink(missing_ok=True) if before is None else cursor.write_bytes(before)
                writer = Writer(study, URI)
    assert memory.close() == 0
    runs = stored(database, study)
    assert {trial: run["points"] for trial, run in runs.items()} == {
        trial: points_of(rows) for trial, rows in model.items()
    }
    assert {trial: run["tags"]["tuner.state"] for trial, run in runs.items()} == state
