"""The commands as a person runs them: a whole small study, its stores, its second call, its refusals."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from commands import STUDY, TUNER, ready, run


def yaml(text: Path, budget: str = "12k tokens") -> str:
    return f"""
name: small
trial:
  data: {{source: text, path: "{text}", tokenizer: {{kind: char}}, context: 32, val_tokens: 2048}}
  model: {{depth: 1, width: 32}}
  batch: 8
  budget: {budget}
space:
  optim.lr: {{float: [1e-3, 1e-2], log: true}}
  optim.warmup: {{float: [0, 0.2]}}
study: {{trials: 6, milestones: 3, seed: 3, sampler: random}}
"""


class Done:
    """A folder in which a study ran through, with what its two calls printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first = run(folder, *STUDY)
        began = time.monotonic()
        self.second = run(folder, *STUDY)
        self.second_seconds = time.monotonic() - began
        self.trials = json.loads(run(folder, *TUNER, "trials", "small", "--json").stdout)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Done:
    folder = tmp_path_factory.mktemp("done")
    (folder / "small.yaml").write_text(yaml(text_file))
    return Done(folder)


def test_the_first_call_finishes_and_prints_what_to_do_next(done: Done) -> None:
    assert done.first.returncode == 0, done.first.stdout + done.first.stderr
    assert done.first.stderr == ""
    for words in ("the best 5", "6 complete" if "6 complete" in done.first.stdout else "pruned", "tuner show small"):
        assert words in done.first.stdout
    assert "mlflow ui" in done.first.stdout


def test_plain_output_has_no_terminal_codes_and_fits_eighty_columns_where_it_can(done: Done) -> None:
    assert "\x1b" not in done.first.stdout
    tables = [line for line in done.first.stdout.splitlines() if not line.startswith("[")]
    assert max(len(line) for line in tables if "error" not in line) <= 110


def test_the_second_call_says_complete(done: Done) -> None:
    assert done.second.returncode == 0
    assert "is complete: 6 of 6 trials" in done.second.stdout
    assert done.second_seconds < 10


def test_points_that_wait_in_a_complete_study_are_said(done: Done, tmp_path: Path) -> None:
    folder = copy_of(done, tmp_path)
    assert run(folder, *TUNER, "enqueue", "small", "--like", "0").returncode == 0
    said = " ".join(run(folder, *STUDY).stdout.split())
    assert "1 point that was queued waits: --set study.trials=7" in said


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--from", "small"], 2, "it is the same study; give it a name of its own"),
        (["--set", "name=new", "--from", "smal"], 3, "no study 'smal'"),
        (["--set", "name=new", "--from", "nobody", "--dry-run"], 3, "no study 'nobody'"),
    ],
)
def test_where_it_begins_is_looked_at_before_anything_is_made(
    done: Done, tmp_path: Path, words: list[str], code: int, sentence: str
) -> None:
    folder = copy_of(done, tmp_path)
    ended = run(folder, *STUDY, *words)
    assert ended.returncode == code
    assert sentence in " ".join(ended.stderr.split())
    assert not (folder / "runs" / "new").exists()


def test_optuna_and_mlflow_hold_equal_values(done: Done) -> None:
    assert len(done.trials) == 6
    with contextlib.closing(sqlite3.connect(done.folder / "mlflow.db")) as store:
        status = dict(store.execute("SELECT run_uuid, status FROM runs"))
        tags = store.execute("SELECT run_uuid, value FROM tags WHERE key = 'tuner.number'").fetchall()
        runs = {int(number): run for run, number in tags}
        assert len(runs) == len(status) == 6
        for trial in done.trials:
            run_id = runs[trial["number"]]
            assert trial["facts"]["mlflow_run"] == run_id
            assert status[run_id] == {"complete": "FINISHED", "pruned": "KILLED"}[trial["state"]]
            curve = store.execute(
                "SELECT m.value FROM metrics m JOIN metrics k ON m.run_uuid = k.run_uuid AND m.step = k.step "
                "WHERE m.run_uuid = ? AND m.key = 'val_loss' AND k.key = 'milestone' ORDER BY k.value",
                (run_id,),
            ).fetchall()
            assert [value for (value,) in curve] == list(trial["milestones"].values())
            params = dict(store.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run_id,)))
            assert float(params["optim.lr"]) == trial["point"]["optim.lr"]


def test_a_trial_carries_the_facts_the_dashboard_stands_on(done: Done) -> None:
    facts = done.trials[0]["facts"]
    for name in [
        "seed",
        "tokens",
        "flops",
        "seconds",
        "parameters",
        "data_fingerprint",
        "tokenizer_fingerprint",
        "spec_hash",
        "checkpoint",
        "checkpoint_sha256",
        "mlflow_run",
        "device",
        "code_version",
        "outcome",
        "reason",
    ]:
        assert facts[name] not in (None, ""), name


def test_the_best_checkpoint_is_on_disk_with_its_spec(done: Done) -> None:
    best = done.trials[0]
    folder = done.folder / best["facts"]["checkpoint"]
    record = json.loads((folder / "spec.json").read_text())
    assert record["trial"]["optim"]["lr"] == best["point"]["optim.lr"]
    assert (
        json.loads((folder / "manifest.json").read_text())["files"]["model.safetensors"]
        == best["facts"]["checkpoint_sha256"]
    )


def test_show_tells_one_trial_whole(done: Done) -> None:
    shown = run(done.folder, *TUNER, "show", "small", "0")
    assert shown.returncode == 0
    for words in (
        "trial 0 of small",
        "optim.lr",
        "data_fingerprint",
        "3 of 3" if "complete" in shown.stdout else "1 of 3",
    ):
        assert words in shown.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["trials", "smal"], 3, "Did you mean 'small'"),
        (["show", "small", "99"], 3, "has no trial 99; it has 0 to 5"),
        (["trials", "small", "--storage", "sqlite:///other.db"], 3, "no trial store at other.db"),
        (["trials", "small", "--storage", "nonsense"], 3, "not a database URL"),
        (["trials", "small", "--storage", "mysql://me:secret@host/db"], 3, "sqlite or postgresql alone"),
        (["study", "nowhere.yaml"], 2, "nowhere.yaml"),
    ],
)
def test_mistakes_are_sentences(done: Done, words: list[str], code: int, message: str) -> None:
    result = run(done.folder, *TUNER, *words)
    assert result.returncode == code
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not (done.folder / "other.db").exists()


def test_a_changed_space_is_refused_before_anything_runs(done: Done) -> None:
    result = run(done.folder, *STUDY, "--set", "trial.batch=4")
    assert result.returncode == 3
    assert "trial.batch" in result.stderr


def copy_of(done: Done, folder: Path) -> Path:
    """The finished study in a folder of the test's own, to be spoilt."""
    shutil.copytree(done.folder, folder / "copy")
    return folder / "copy"


def test_a_folder_of_a_deleted_store_is_refused(done: Done, tmp_path: Path) -> None:
    folder = copy_of(done, tmp_path)
    for path in folder.glob("tuner.db*"):
        path.unlink()
    result = run(folder, *STUDY)
    assert result.returncode == 3
    assert "holds the trials of a study in another store" in " ".join(result.stderr.split())


def test_a_changed_text_is_refused(done: Done, tmp_path: Path, text_file: Path) -> None:
    folder = copy_of(done, tmp_path)
    original = text_file.read_text()
    try:
        text_file.write_text(original + "One more sentence.")
        result = run(folder, *STUDY, "--set", "study.trials=7")
    finally:
        text_file.write_text(original)
    assert result.returncode == 3
    assert "the text has changed" in " ".join(result.stderr.split())


def test_a_finished_study_mirrors_what_mlflow_lacks(done: Done, tmp_path: Path) -> None:
    folder = copy_of(done, tmp_path)
    (folder / "mlflow.db").unlink()
    for cursor in folder.glob("runs/small/*/spool.cursor"):
        cursor.unlink()
    assert run(folder, *STUDY).returncode == 0
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store:
        assert store.execute("SELECT count(*) FROM runs").fetchone() == (6,)


@pytest.mark.long
def test_a_study_begins_with_anothers_trials_and_goes_on_with_the_same_command(done: Done, tmp_path: Path) -> None:
    folder = copy_of(done, tmp_path)
    text = (folder / "small.yaml").read_text()
    (folder / "new.yaml").write_text(text.replace("name: small", "name: new").replace("trials: 6", "trials: 1"))
    first = run(folder, *TUNER, "study", "new.yaml", "--from", "small")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "6 trials of small are trials of new too: taken over" in first.stdout
    trials = json.loads(run(folder, *TUNER, "trials", "new", "--json").stdout)
    assert len(trials) == 7
    again = run(folder, *TUNER, "study", "new.yaml", "--from", "small")
    assert (again.returncode, "is complete" in again.stdout) == (0, True)
    (folder / "deep.yaml").write_text(text.replace("name: small", "name: deep").replace("depth: 1", "depth: 2"))
    forked = run(folder, *TUNER, "fork", "small", "deep.yaml")
    assert forked.returncode == 0, forked.stderr
    said = " ".join(forked.stdout.split())
    assert "its best points are tried first" in said
    assert "model.depth: 1 there, 2 here" in said
    assert "next: tuner study deep.yaml" in said
    named = run(folder, *TUNER, "fork", "small", "deep.yaml", "--set", "name=deeper")
    assert "next: tuner study deep.yaml --set name=deeper" in " ".join(named.stdout.split())
    assert run(folder, *TUNER, "fork", "small", "deep.yaml").returncode == 0  # once more changes nothing
    assert len(json.loads(run(folder, *TUNER, "trials", "deep", "--json").stdout)) == 3
    assert run(folder, *TUNER, "fork", "small", "new.yaml").returncode == 3  # it has trials of its own


@pytest.mark.long
def test_a_study_moved_to_postgresql_goes_on_there_and_nowhere_else(done: Done, tmp_path: Path, postgres: str) -> None:
    folder = copy_of(done, tmp_path)
    moved = run(folder, *TUNER, "copy", "sqlite:///tuner.db", postgres)
    assert moved.returncode == 0, moved.stderr
    assert "study small: 6 trials copied" in moved.stdout
    ended = run(folder, *STUDY, "--set", "study.trials=7", TUNER_STORAGE=postgres)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    trials = json.loads(run(folder, *TUNER, "trials", "small", "--json", TUNER_STORAGE=postgres).stdout)
    assert [one for one in trials if one["number"] < 6] == done.trials
    assert {one["number"] for one in trials} == set(range(7))
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store:
        assert store.execute("SELECT count(*) FROM runs").fetchone() == (7,)
    behind = run(folder, *STUDY, "--set", "study.trials=7")
    assert behind.returncode == 3
    assert "the study went on in another store" in " ".join(behind.stderr.split())


@pytest.mark.long
def test_a_space_that_cannot_fit_says_so_before_and_ends_with_a_sentence(tmp_path: Path, text_file: Path) -> None:
    (tmp_path / "small.yaml").write_text(yaml(text_file))
    memory = ["--set", "study.memory=100 MB"]
    plan = run(tmp_path, *STUDY, "--dry-run", *memory)
    assert "100% of the space does not fit" in " ".join(plan.stdout.split())
    result = run(tmp_path, *STUDY, *memory)
    assert result.returncode not in (0, 130)
    assert "study.memory" in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


@pytest.mark.long
def test_a_total_in_seconds_ends_the_study_and_the_same_command_finds_it_complete(
    tmp_path: Path, text_file: Path
) -> None:
    (tmp_path / "small.yaml").write_text(yaml(text_file, budget="60 s").replace("trials: 6", "trials: 50"))
    first = run(tmp_path, *STUDY, "--set", "study.totals={seconds: 6}")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "total of 6 seconds is spent" in " ".join(first.stdout.split())
    again = run(tmp_path, *STUDY, "--set", "study.totals={seconds: 6}")
    assert again.returncode == 0
    assert "is complete" in again.stdout


def test_a_dry_run_creates_nothing(tmp_path: Path, text_file: Path) -> None:
    (tmp_path / "small.yaml").write_text(yaml(text_file))
    result = run(tmp_path, *STUDY, "--dry-run")
    assert result.returncode == 0, result.stderr
    for words in ("6 trials", "optim.lr", "parameters", "FLOP", "memory", "disk", "time"):
        assert words in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_a_mistake_in_the_data_ends_the_command_before_a_trial_exists(tmp_path: Path) -> None:
    (tmp_path / "tiny.txt").write_text("too short")
    (tmp_path / "small.yaml").write_text(yaml(tmp_path / "tiny.txt"))
    result = run(tmp_path, *STUDY)
    assert result.returncode == 2
    assert "too short" in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


class Cut:
    """A study of which the driver is killed, or asked to stop, while trials run; then the same command again."""

    def __init__(self, folder: Path, text: Path, signal_number: int) -> None:
        (folder / "small.yaml").write_text(yaml(text, "60k tokens"))
        ready()
        with subprocess.Popen(STUDY, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
            self.stop(process, folder, signal_number)
        self.unfinished = json.loads(run(folder, *TUNER, "trials", "small", "--json").stdout)
        self.again = run(folder, *STUDY)
        self.trials = json.loads(run(folder, *TUNER, "trials", "small", "--json").stdout)
        with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store:
            self.statuses = [status for (status,) in store.execute("SELECT status FROM runs")]

    def stop(self, process: subprocess.Popen[str], folder: Path, signal_number: int) -> None:
        """Wait for the first trial to end, try a second driver, then send the signal."""
        assert process.stdout is not None
        for line in process.stdout:
            if re.search(r"trial \d+ (complete|pruned)", line):
                break
        self.other = run(folder, *STUDY)
        began = time.monotonic()
        process.send_signal(signal_number)
        self.output = ""
        if signal_number == signal.SIGHUP:
            process.stdout.close()  # the terminal is gone: from now on writing raises
        else:
            self.output = process.stdout.read()
        self.code, self.seconds = process.wait(), time.monotonic() - began


SIGNALS = [
    pytest.param(signal.SIGINT, marks=pytest.mark.long),
    *(pytest.param(number, marks=pytest.mark.faults) for number in (signal.SIGKILL, signal.SIGHUP)),
]


@pytest.fixture(scope="module", params=SIGNALS)
def cut(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Cut:
    return Cut(tmp_path_factory.mktemp("cut"), text_file, request.param)


def test_a_stopped_driver_goes_on_with_the_same_numbers_and_runs(cut: Cut) -> None:
    assert cut.again.returncode == 0, cut.again.stderr
    assert sorted(trial["number"] for trial in cut.trials) == list(range(6))
    assert {trial["state"] for trial in cut.trials} <= {"complete", "pruned"}
    kept = {t["number"]: t["value"] for t in cut.unfinished if t["state"] in ("complete", "pruned")}
    assert kept
    assert all(t["value"] == kept[t["number"]] for t in cut.trials if t["number"] in kept)
    assert len(cut.statuses) == 6
    assert "RUNNING" not in cut.statuses


def test_ctrl_c_leaves_within_ten_seconds_and_says_how_to_go_on(cut: Cut) -> None:
    assert cut.seconds < 10
    assert cut.code in (-signal.SIGKILL, 130)
    if cut.output and cut.code == 130:
        assert "the same command goes on" in cut.output
        assert "python -m tuner.study small.yaml" in cut.output


def test_a_second_driver_gets_a_clear_error(cut: Cut) -> None:
    assert cut.other.returncode == 3
    assert "is being run by another driver (process" in " ".join(cut.other.stderr.split())
