"""The doctor where two books disagree: the store, MLflow, the ledger and the registry."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest
from commands import TUNER, run
from filelock import FileLock
from hurting import RUNS, SMALL, URI, URL, Ask, entry, mlflow_store, store, unname
from optuna.study import StudyDirection

from tuner.promotion.ledger import Ledger, Stage
from tuner.promotion.truth import CHAMPION
from tuner.run.control.demo import NAME
from tuner.search.asktell import Search
from tuner.search.fork import fork
from tuner.search.history import read_study
from tuner.search.store.lock import store_lock, study_lock
from tuner.search.store.storage import open_storage
from tuner.spec.errors import StoreError
from tuner.spec.load import parse
from tuner.study.mirror import sync_studies
from tuner.tracking.audit import runs_of
from tuner.tracking.store import connect


@pytest.mark.long
def test_what_mlflow_lacks_is_mirrored(small: Path, ask: Ask) -> None:
    for path in SMALL.glob("*/spool.cursor"):
        path.unlink()
    points = {one.id: one.metrics for one in runs_of("small", URI)}
    code, said = ask()
    assert code == 1
    assert "records of the spools in runs/small are not mirrored; `tuner sync small`" in said
    code, said = ask(fix=True)
    assert code == 0, said
    assert "mended (what was missing is mirrored)" in said
    assert {one.id: one.metrics for one in runs_of("small", URI)} == points


@pytest.mark.long
def test_a_lost_mlflow_is_filled_again(small: Path, ask: Ask) -> None:
    Path("mlflow.db").unlink()
    code, said = ask()
    assert code == 1
    assert "sqlite:///mlflow.db: expected the runs of 3 trials, got no such file" in said
    assert not Path("mlflow.db").exists()
    code, said = ask(fix=True)
    assert "mended (what was missing is mirrored): sqlite:///mlflow.db: expected the runs of 3 trials" in said
    assert "the store names the MLflow runs of" in said  # the new ones have other ids
    assert code == 0, said
    made = {one.trial: one.id for one in runs_of("small", URI)}
    assert len(made) == 3
    facts = json.loads(run(small, *TUNER, "show", "small", "1", "--json").stdout)["facts"]
    assert facts["mlflow_run"] == made["small/1"], "it can be promoted"


@pytest.mark.long
def test_sync_without_a_name_does_what_it_can_and_says_what_is_left(
    small: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(SMALL, SMALL.with_name("also"))
    connect(URI).delete_run(next(one.id for one in runs_of("small", URI) if one.trial == "small/1"))
    with FileLock(SMALL.with_name("also") / ".mirror.lock"), pytest.raises(StoreError) as refused:
        sync_studies(None, None, URL)
    assert "also: expected to mirror it alone" in str(refused.value)
    assert "small: 1 trial is left out: run" in str(refused.value)
    assert "mlflow runs restore" in str(refused.value)
    assert "small: 0 points of 3 trials mirrored" in " ".join(capfd.readouterr().out.split())


@pytest.mark.long
def test_a_study_mirrored_later_has_its_runs_named(small: Path, ask: Ask) -> None:
    unname()
    code, said = ask()
    assert code == 1
    assert "expected the MLflow run of trial 1, got none, though there is one" in said
    code, said = ask(fix=True)
    assert code == 0, said
    assert "mended (the store names the run now)" in said
    named = json.loads(run(small, *TUNER, "show", "small", "1", "--json").stdout)["facts"]["mlflow_run"]
    assert next(one.trial for one in runs_of("small", URI) if one.id == named) == "small/1"


@pytest.mark.long
def test_sync_has_the_runs_named_too_in_the_study_whose_folder_it_is(small: Path, ask: Ask) -> None:
    unname()
    store("UPDATE study_user_attributes SET value_json = ? WHERE key = 'id'", '"another"')
    sync_studies(None, None, URL)
    note = json.loads((SMALL / "study.json").read_text())["study"]
    store("UPDATE study_user_attributes SET value_json = ? WHERE key = 'id'", json.dumps(note))
    assert ask()[0] == 1
    sync_studies(None, None, URL)
    assert ask()[0] == 0
    sync_studies(None, None, "sqlite:///nowhere.db")
    assert not Path("nowhere.db").exists()


@pytest.mark.long
def test_trials_of_another_study_are_that_ones_matter(small: Path, ask: Ask) -> None:
    text = (small / "small.yaml").read_text().replace("name: small", "name: again")
    spec, storage = parse(text.replace("sampler: grid", "sampler: random")), open_storage(URL)
    fingerprint = str(read_study(storage, "small").trials[0].facts["data_fingerprint"])
    Search(spec, storage)
    assert len(fork(storage, spec, "small", fingerprint).imported) == 3
    code, said = ask()
    assert code == 0, said
    assert "study again: 3 trials ended, 0 checkpoints; sound" in said


@pytest.mark.long
def test_a_study_whose_driver_died_at_once_is_told_how_to_go_on(small: Path, ask: Ask) -> None:
    open_storage(URL).create_new_study([StudyDirection.MINIMIZE], "early")
    code, said = ask("early")
    assert code == 1
    assert "its driver died before it had noted what the study is; its command goes on" in said


@pytest.mark.long
def test_runs_that_tell_another_story_are_named_and_left(small: Path, ask: Ask) -> None:
    chosen = {one.trial: one for one in runs_of("small", URI)}
    client = connect(URI)
    double = client.create_run(
        client.get_experiment_by_name("small").experiment_id,
        start_time=chosen["small/0"].started, tags={"tuner.trial": "small/0"},
    )  # fmt: skip
    client.set_terminated(double.info.run_id)
    mlflow_store(f"UPDATE latest_metrics SET value = 9 WHERE key = 'val_loss' AND run_uuid = '{chosen['small/1'].id}'")
    client.set_tag(chosen["small/2"].id, "tuner.state", "diverged")
    code, said = ask()
    assert code == 1
    assert f"trial 0 has 2 runs: {chosen['small/0'].id}, which the store names, and {double.info.run_id}" in said
    assert "its run says 9: one of them was changed" in said
    assert "trial 2 is complete, its run says diverged" in said
    assert ask(fix=True)[0] == 1
    assert len([one for one in runs_of("small", URI) if not one.deleted]) == 4


@pytest.mark.long
def test_a_store_that_is_away_is_one_sentence(small: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for path in SMALL.glob("*/spool.cursor"):
        path.unlink()
    code, said = ask(fix=True)
    assert code == 1
    assert said.count("MLflow at http://127.0.0.1:9") == 1
    assert "secret" not in said
    assert "Traceback" not in said
    assert "not mirrored" in said


@pytest.mark.long
def test_the_ledger_is_held_against_the_registry_and_its_seals(small: Path, ask: Ask) -> None:
    ledger, client = Ledger(URL), connect(URI)
    ledger.write(entry(Stage.BEGUN, None))
    with store_lock(URL, "promotion.tiny") as taken:  # under way: no fault
        assert taken
        assert ask()[0] == 0
    code, said = ask()
    assert code == 1
    assert "model tiny: the promotion that ann began at" in said
    assert "`tuner promote tiny --resume` goes on, `--undo` takes it back" in said
    ledger.write(entry(Stage.INTENT, 1))
    ledger.write(entry(Stage.DONE, 1))
    client.create_registered_model("tiny")
    for number in (1, 2):
        client.create_model_version("tiny", f"runs:/{runs_of('small', URI)[0].id}/x")
        client.set_registered_model_alias("tiny", "challenger", "1")
        client.set_registered_model_alias("tiny", CHAMPION, str(number))
        code, said = ask(fix=True)
        assert code == number - 1, said
    assert "the alias champion points to version 2, the ledger says version 1: it was moved outside tuner" in said
    client.set_registered_model_alias("tiny", CHAMPION, "1")
    with sqlite3.connect("tuner.db") as database:
        database.execute("DROP TRIGGER tuner_ledger_fixed")
        database.execute("UPDATE tuner_ledger SET reason = 'a better one' WHERE id = 2")
    database.close()
    code, said = ask("small", fix=True)
    assert code == 1
    assert "the ledger was changed by other means: row 2 does not match its seal" in said


@pytest.mark.long
def test_a_simulated_study_in_postgresql_needs_no_mlflow(postgres: str, tmp_path: Path) -> None:
    code = f"from pathlib import Path; from tuner.run.control.demo import *; make_demo({postgres!r}, Path('runs'))"
    assert run(tmp_path, sys.executable, "-c", code).returncode == 0
    ended = run(tmp_path, *TUNER, "doctor", "--storage", postgres, "--fix")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "trials ended, 0 checkpoints; sound" in ended.stdout
    assert not Path("mlflow.db").exists()
    (RUNS / NAME / "99").mkdir()
    with study_lock(postgres, NAME, RUNS / NAME):
        ended = run(tmp_path, *TUNER, "doctor", NAME, "--storage", postgres, "--fix")
    assert ended.returncode == 1
    assert "a driver is running it" in ended.stdout
    assert "got trial 99" in ended.stdout
