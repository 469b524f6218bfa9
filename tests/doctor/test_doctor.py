"""The doctor on a real small study: sound, then its store, folder, spools and checkpoints hurt by hand; what it says
and what it mends.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from commands import TUNER, run
from hurting import RUNS, SMALL, URL, Ask, files, flip, keep, store, told

from tuner.doctor import visit
from tuner.doctor.command import run_doctor
from tuner.run.folder import kept_model, pin
from tuner.search.store.lock import study_lock
from tuner.spec.disk import hold
from tuner.spec.errors import StoreError
from tuner.spec.parts.model import InitSpec


def test_a_sound_study_is_called_so_and_left_alone(small: Path) -> None:
    before = files()
    ended = run(small, *TUNER, "doctor")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "study small: 3 trials ended, 3 checkpoints; sound" in ended.stdout
    assert ended.stdout.endswith("nothing is wrong\n")
    assert files() == before
    ended = run(small, *TUNER, "doctor", "smal")
    assert ended.returncode == 3
    assert "Did you mean 'small'?" in ended.stderr


def test_without_a_store_it_says_so(tmp_path: Path, ask: Ask) -> None:
    code, said = ask()
    assert code == 1
    assert "no trial store at tuner.db; run a study first" in said
    assert not Path("tuner.db").exists()


def test_a_url_that_is_none_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a database URL"):
        run_doctor("nonsense", RUNS, (), fix=False, as_json=False)


def test_a_kept_model_that_no_study_begins_with_is_told(small: Path, ask: Ask) -> None:
    sha256 = "0123456789abcdef" * 4
    kept = kept_model(RUNS, sha256)
    kept.mkdir(parents=True)
    (kept / "model.safetensors").write_bytes(b"x" * 5_000_000)
    code, said = ask()
    assert code == 1
    assert f"{kept}: a model of 5.0 MB, kept for a study to begin with, and no study here does; remove it." in said
    pin(SMALL, InitSpec(source="base", sha256=sha256))
    assert ask()[0] == 0


def test_a_damaged_store_is_found_and_nothing_is_mended_on_its_word(small: Path, ask: Ask) -> None:
    left = SMALL / "0" / "checkpoints" / ".tmp-00000009"
    left.mkdir()
    with sqlite3.connect("tuner.db") as database:
        find = "SELECT rootpage FROM sqlite_master WHERE type = 'index' AND tbl_name = 'trial_heartbeats'"
        (page,), (size,) = database.execute(find).fetchone(), database.execute("PRAGMA page_size").fetchone()
    database.close()
    with Path("tuner.db").open("r+b") as file:  # an index that nothing reads: the rest answers as before
        file.seek((page - 1) * size)
        file.write(b"\0" * size)
    code, said = ask(fix=True)
    assert code == 1
    assert "tuner.db: expected a sound SQLite file, got" in said
    assert "nothing is mended on the word of a damaged store" in said
    assert f"{left}: half a checkpoint" in said
    assert left.exists()
    Path("tuner.db").write_bytes(b"no database at all" * 1000)
    code, said = ask()
    assert code == 1
    assert "file is not a database" in said


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("UPDATE trial_values SET value = NULL, value_type = 'INF_POS' WHERE trial_id = 2",
         "trial 1 of small in the store: expected a finite val_loss of a complete trial, got inf"),
        ("UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE number = 1",
         "trial 1 is running, and no driver runs this study; the study's command goes on with it"),
        ("DELETE FROM study_user_attributes WHERE key = 'identity'", "expected the study's identity, got none"),
        ("DELETE FROM study_user_attributes WHERE key = 'spec'", "was not made by this platform; it has no spec"),
        ("UPDATE trial_intermediate_values SET intermediate_value = 1.25 WHERE trial_id = 2 AND step = 1",
         "runs/small/1/spool.jsonl: milestone 1 is 1.25 in the store and"),
        ("UPDATE trial_user_attributes SET value_json = '\"failed\"' WHERE trial_id = 2 AND key = 'outcome'",
         "the store says that trial 1 is failed, its record ends as complete"),
        ("UPDATE trial_user_attributes SET value_json = '\"0123456789abcdef\"' "
         "WHERE trial_id = 2 AND key = 'checkpoint_sha256'", "the store says 0123456789ab"),
        ("UPDATE trial_values SET value = 1.5 WHERE trial_id = 2", "trial 1 ended at 1.5, its run says"),
    ],
)  # fmt: skip
def test_what_was_changed_in_the_store_is_said_and_stays(small: Path, ask: Ask, statement: str, sentence: str) -> None:
    store(statement)
    code, said = ask("small")
    assert code == 1
    assert sentence in said
    before = files()
    code, said = ask("small", fix=True)
    assert code == 1
    assert sentence in said
    assert files() == before


def test_a_folder_is_held_against_the_store(small: Path, ask: Ask) -> None:
    (SMALL / "7").mkdir()
    shutil.rmtree(SMALL / "1")
    shutil.copytree(SMALL, RUNS / "other")
    (RUNS / "notes").mkdir()
    code, said = ask()
    assert code == 1
    assert "runs/small: expected a folder of trial 1, got none" in said
    assert "runs/small: expected trials that the store has, got trial 7" in said
    assert "runs/other: a study's folder, and the store has no such study; name its store with --storage" in said
    assert "notes" not in said
    (SMALL / "study.json").write_text('{"study": "another", "tracking": null}')
    code, said = ask("small")
    assert code == 1
    assert "runs/small/study.json: expected the study small of this store, got another one" in said
    assert "trial 7" not in said
    (SMALL / "study.json").write_text("{")
    assert "study.json: expected a note whose folder this is, got a damaged one" in ask("small")[1]
    shutil.rmtree(SMALL)
    code, said = ask("small", fix=True)
    assert code == 1
    assert "expected the spools and checkpoints of trials 0, 1 and 2, got no such folder" in said
    assert not SMALL.exists()


def test_a_damaged_spool_is_counted_and_never_rewritten(small: Path, ask: Ask) -> None:
    path = SMALL / "2" / "spool.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"row", b"rov")
    path.write_bytes(b"".join(lines))
    code, said = ask(fix=True)
    assert code == 1
    assert "runs/small/2/spool.jsonl: expected whole lines with their checksums, got 1 damaged line" in said
    assert path.read_bytes() == b"".join(lines)
    path.unlink()
    code, said = ask()
    assert code == 1
    assert "spool.jsonl: expected a trial's spool, got 'No such file or directory'" in said


def test_a_damaged_or_lost_checkpoint_is_named_with_the_way_back(small: Path, ask: Ask) -> None:
    (weights,) = (SMALL / "1").glob("checkpoints/*/model.safetensors")
    flip(weights)
    before = weights.read_bytes()
    code, said = ask(fix=True)
    assert code == 1
    assert f"{weights}: damaged; its sha256 is" in said
    assert "`tuner enqueue small --like 1`" in said
    assert weights.read_bytes() == before
    shutil.rmtree(weights.parent)
    code, said = ask()
    assert code == 1
    assert f"{weights.parent}: the store names it as the trial's checkpoint and study.keep keeps it, but it is" in said


def test_half_a_checkpoint_goes(small: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    left = SMALL / "0" / "checkpoints" / ".tmp-00000009"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    with monkeypatch.context() as patched:  # a worker may outlive its driver by a moment
        patched.setattr(visit.checkpoints, "QUIET", 30.0)
        assert ask(fix=True)[0] == 0
    assert left.exists()
    code, said = ask()
    assert code == 1
    assert f"{left}: half a checkpoint" in said
    assert "1 thing is wrong; `tuner doctor --fix` can mend 1" in said
    assert left.exists()
    code, said = ask(fix=True)
    assert code == 0
    assert f"mended (removed): {left}" in said
    assert not left.exists()


def test_checkpoints_beyond_what_is_kept_go_but_not_a_promoted_one(small: Path, ask: Ask) -> None:
    keep(1)
    with sqlite3.connect("tuner.db") as database:
        ranked = [n for (n,) in database.execute(
            "SELECT number FROM trials JOIN trial_values USING (trial_id) ORDER BY value")]  # fmt: skip
    database.close()
    best, held, extra = ranked
    hold(SMALL / str(held))
    code, said = ask()
    assert code == 1
    assert f"runs/small: checkpoints of trial {extra} (" in said
    assert "are kept beyond study.keep (1)" in said
    path = SMALL / str(extra) / "spool.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    code, said = ask(fix=True)
    assert code == 1
    assert "no checkpoint is deleted while something else is wrong here" in said
    assert (SMALL / str(extra) / "checkpoints").exists()
    path.write_bytes(whole)
    code, said = ask(fix=True)
    assert code == 0, said
    assert "mended (retention was applied)" in said
    there = {number for number in ranked if (SMALL / str(number) / "checkpoints").exists()}
    assert there == {best, held}
    keep(2)  # a rule that was loosened brings nothing back, and what it would keep is not there
    shutil.rmtree(SMALL / str(held) / "checkpoints")
    assert ask()[0] == 1


def test_leftovers_of_a_creation_go_unless_it_is_going_on(small: Path, ask: Ask) -> None:
    from filelock import FileLock

    left = [Path(".tuner.db.new"), Path(".tuner.db.new-journal"), Path(".mlflow.db.draft")]
    for path in left:
        path.write_bytes(b"half")
    with FileLock(".tuner.db.lock"), FileLock(".mlflow.db.lock"):
        assert ask(fix=True)[0] == 0
    code, said = ask()
    assert code == 1
    assert all(f"{path}: half a store" in said for path in left)
    assert all(path.exists() for path in left)
    code, said = ask(fix=True)
    assert code == 0
    assert said.count("mended (removed)") == 3
    assert not any(path.exists() for path in left)


def test_a_running_study_is_examined_but_neither_blamed_nor_mended(small: Path, ask: Ask) -> None:
    left = SMALL / "1" / "checkpoints" / ".tmp-00000009"
    left.mkdir()
    store("UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE number = 1")
    with (SMALL / "1" / "spool.jsonl").open("ab") as spool:
        spool.write(b'{"kind":"row","half')
    (SMALL / "2" / "spool.cursor").unlink()
    with study_lock(URL, "small", SMALL):
        code, said = ask(fix=True)
        assert code == 0, said
        assert "a driver is running it" in said
        assert left.exists()
        (weights,) = (SMALL / "0").glob("checkpoints/*/model.safetensors")
        flip(weights)
        code, said = ask(fix=True)
        assert code == 1
        assert f"{weights}: damaged" in said
    code, said = ask()
    assert code == 1
    assert "trial 1 is running, and no driver runs this study" in said
    assert f"{left}: half a checkpoint" in said
    assert "a torn last line is cut off when the study goes on" in said


def test_what_ends_while_it_looks_is_no_fault(small: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    store("UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE number = 1")
    whole = visit.checkpoints.whole

    def slow(case: Any) -> Any:
        if any(trial.state == "running" for trial in case.record.trials):
            store("UPDATE trials SET state = 'COMPLETE', datetime_complete = datetime_start WHERE number = 1")
        return whole(case)

    monkeypatch.setattr(visit.checkpoints, "whole", slow)
    code, said = ask()
    assert code == 0, said


def test_json_says_the_same(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys)["sound"] is True
    left = SMALL / "0" / "checkpoints" / ".tmp-00000009"
    left.mkdir()
    answer = told(capsys)
    (finding,) = next(one for one in answer["chapters"] if one["subject"] == "study small")["left"]
    assert answer["sound"] is False
    assert (finding["place"], finding["where"], finding["mend"]) == ("leftover", str(left), "removed")
    assert finding["sentence"].startswith(f"{left}: half a checkpoint")
    mended = told(capsys, fix=True)
    assert mended["sound"] is True
    assert next(one for one in mended["chapters"] if one["subject"] == "study small")["mended"] == [finding]
