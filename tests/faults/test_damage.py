"""Every file that is read again, cut short or with bytes changed: found or harmless, never believed, no traceback."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damaging import Dose, damaged
from safetensors.torch import save_file

from tuner.analysis.table import open_study
from tuner.promotion.package.folder import describe
from tuner.run.folder import claim, tracking_of
from tuner.search.asktell import Search
from tuner.search.store.lock import study_lock
from tuner.search.store.storage import open_storage
from tuner.spec.errors import CheckpointError, DataError, StoreError, StudyLockedError
from tuner.spec.load import parse
from tuner.spec.parts.data import DataSpec
from tuner.spec.records import Measurement, Outcome, Spent, State
from tuner.spec.trial import TrialSpec
from tuner.tracking.mirror import sync
from tuner.tracking.mlflow import CURSOR, Cursor, read_cursor, write_cursor
from tuner.tracking.spool import SPOOL, Finish, Record, Resume, Spool, Start, Tags, encode, read_spool
from tuner.tracking.store import create
from tuner.train import checkpoint
from tuner.train.machine.capacity import Capacity
from tuner.train.machine.notes import Note
from tuner.train.model.gpt import GPT
from tuner.train.text.corpus import open_corpus, read_corpus
from tuner.train.text.split import PARTS
from tuner.train.text.tokenizer import ByteTokenizer, load_tokenizer
from tuner.train.use.trained import load_model

Told = Counter[str]
"""What came of each damage: ``found``, or ``harmless`` where what was read is what was written."""

SPEC = TrialSpec.model_validate({"model": {"depth": 1, "width": 16}, "data": {"context": 8}, "batch": 4})
URI = "sqlite:///mlflow.db"


def measurement(step: int, milestone: int | None = None) -> Measurement:
    spent = Spent(step, step * 100, step * 1.5e6, step / 8)
    return Measurement(spent, {"train_loss": 5 - step / 64, "val_loss": 4.5}, milestone, 1_700_000_000_000 + step)


# --- weights


def saved(folder: Path, step: int) -> checkpoint.Saved:
    """A checkpoint whose every number follows from its step."""
    torch.manual_seed(step)
    weights = {"a.weight": torch.randn(16, 8), "b.weight": torch.randn(8)}
    state = {"moments": [torch.randn(16, 8), torch.randn(8)], "rng": torch.get_rng_state(), "rows": step}
    reached = measurement(step, step)
    return checkpoint.save(folder, weights, state, {"trial": {}, "facts": {}}, reached.spent, step, reached)


def same(one: Any, other: Any) -> bool:
    match one:
        case torch.Tensor():
            return torch.equal(one, other)
        case dict():
            return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
        case list():
            return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def checkpoints(folder: Path, dose: Dose) -> Told:
    """The newest checkpoint is damaged: the one before it is used, or the newest as it was written."""
    older, newest = saved(folder, 1), saved(folder, 2)
    originals = {one.folder: checkpoint.load(one) for one in (older, newest)}
    told: Told = Counter()
    for name in (checkpoint.WEIGHTS, checkpoint.STATE, checkpoint.SPEC, checkpoint.MANIFEST):
        path = newest.folder / name
        whole = path.read_bytes()
        for data in damaged(whole, dose):
            path.write_bytes(data)
            heard: list[str] = []
            found = checkpoint.sound(folder, heard.append)
            assert found in ([older], [newest, older]), (name, data)
            assert [str(newest.folder) in sentence for sentence in heard] == [True] * (2 - len(found))
            assert same(list(checkpoint.load(found[0])), list(originals[found[0].folder]))
            assert len(found) == 1 or name == checkpoint.MANIFEST, "only a manifest has bytes that say nothing"
            told["found" if len(found) == 1 else "harmless"] += 1
        path.write_bytes(whole)
    return told


def test_a_manifest_that_tells_of_other_steps_is_no_manifest(tmp_path: Path) -> None:
    """Its files are whole: without a seal a trial would go on with the wrong rest of its budget."""
    one = saved(tmp_path, 2)
    path = one.folder / checkpoint.MANIFEST
    text = path.read_text()
    for written, changed in (('"steps": 2', '"steps": 3'), ('"reached": 2', '"reached": 1'), ('"seal"', '"sell"')):
        path.write_text(text.replace(written, changed))
        with pytest.raises(CheckpointError, match="seal does not hold"):
            checkpoint.verify(one.folder)
    before = {key: value for key, value in json.loads(text).items() if key != "seal"}
    path.write_text(json.dumps(before))
    assert checkpoint.verify(one.folder) == one, "one from before there were seals"


def test_a_corpus_from_before_there_were_checksums_is_held_to_its_sizes(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("the cat sat on a mat. " * 60)
    data = DataSpec.model_validate(
        {"source": "text", "path": str(tmp_path / "t.txt"), "context": 8, "tokenizer": {"kind": "char"}}
    )
    first = open_corpus(data, tmp_path / "c")
    meta = Path(first.info.folder) / "meta.json"
    told = {key: value for key, value in json.loads(meta.read_text()).items() if key not in ("seal", "sha256")}
    meta.write_text(json.dumps(told))
    heard: list[Any] = []
    assert open_corpus(data, tmp_path / "c", heard.append) == first
    assert not heard
    meta.write_text(json.dumps({**told, "sha256": {}}))
    assert open_corpus(data, tmp_path / "c", heard.append) == first
    assert "are damaged: making them again" in heard[0].task


def package(folder: Path, dose: Dose) -> Told:
    """A model that was exported: loaded as it was written, or refused."""
    torch.manual_seed(1)
    model = folder / "model"
    model.mkdir()
    weights = GPT(SPEC.model, 257, 8).state_dict()
    save_file(weights, model / checkpoint.WEIGHTS)
    facts = {"vocab": 257, "tokenizer_fingerprint": ByteTokenizer().fingerprint}
    (model / checkpoint.SPEC).write_text(json.dumps({"trial": SPEC.as_data(), "facts": facts}))
    ByteTokenizer().save(model)
    describe(model, "# card\n", ["to be"], {"why": "a test"})
    told: Told = Counter()
    for path in [*sorted(model.glob("*.json")), model / checkpoint.WEIGHTS]:
        if path.name == "promotion.json":
            continue
        whole = path.read_bytes()
        for data in damaged(whole, dose):
            path.write_bytes(data)
            try:
                loaded = load_model(model)
            except (CheckpointError, DataError):
                told["found"] += 1
                continue
            assert path.name == "manifest.json", "every other byte has a checksum"
            assert same(dict(loaded.gpt.state_dict()), dict(weights))
            assert (loaded.spec, loaded.facts) == (SPEC, facts)
            told["harmless"] += 1
        path.write_bytes(whole)
    return told


# --- tokens


def corpus(folder: Path, dose: Dose) -> Told:
    """What is damaged is made again from the text: whoever opens the corpus gets the tokens that were there."""
    words = random.Random(3).choices(["the", "cat", "größer", "漢字", "home"], k=400)
    (folder / "text.txt").write_text(" ".join(words))
    told: Told = Counter()
    for kind in ("char", "bpe"):
        tokenizer = {"kind": kind, "vocab": 300} if kind == "bpe" else {"kind": kind}
        data = DataSpec.model_validate(
            {"source": "text", "path": str(folder / "text.txt"), "context": 8, "tokenizer": tokenizer}
        )
        root = folder / kind
        first = open_corpus(data, root)
        place = Path(first.info.folder)
        originals = {part: np.array(first.tokens(part)) for part in PARTS}
        for path in sorted(place.iterdir()):
            whole = path.read_bytes()
            small = dose if kind == "char" else Dose(dose.cuts // 4, dose.flips // 8)  # a BPE is trained each time
            for damage in damaged(whole, small):
                path.write_bytes(damage)
                told["harmless" if read_corpus(place, whole=True) else "found"] += 1
                again = open_corpus(data, root)
                assert again == first
                for part in PARTS:
                    assert np.array_equal(again.tokens(part), originals[part]), (path.name, part)
                assert again.tokenizer().fingerprint == first.info.tokenizer_fingerprint
                path.write_bytes(whole)
    assert told["harmless"] <= told["found"] / 10, "blanks between the metadata's words at most"
    return told


def tokenizer(folder: Path, dose: Dose) -> Told:
    """A tokenizer without its corpus's checksums, as a checkpoint in use reads it: known by its fingerprint."""
    told: Told = Counter()
    (folder / "text.txt").write_text("the cat sat on the mat, and a bird flew home. " * 30)
    for kind in ("byte", "char", "bpe"):
        spec = {"kind": kind, "vocab": 270} if kind == "bpe" else {"kind": kind}
        data = DataSpec.model_validate(
            {"source": "text", "path": str(folder / "text.txt"), "context": 8, "tokenizer": spec}
        )
        info = open_corpus(data, folder / "corpora").info
        for path in sorted(Path(info.folder).glob("tokenizer*.json")):
            whole = path.read_bytes()
            for damage in damaged(whole, dose):
                path.write_bytes(damage)
                try:
                    found = load_tokenizer(Path(info.folder)).fingerprint != info.tokenizer_fingerprint
                except DataError:
                    found = True
                told["found" if found else "harmless"] += 1
            path.write_bytes(whole)
    return told


# --- the record of a trial


def history() -> list[Record]:
    rows = [measurement(step, step // 10 if step % 10 == 0 else None) for step in range(1, 31)]
    start = Start(1, {"optim.lr": 1e-3}, {"study": "s", "größer": "漢字"}, {"model": {"depth": 2}})
    ended = Finish(3, Outcome(State.COMPLETE, "all of it"), {"state": "complete"})
    return [start, *rows[:15], Resume(2, 1, {}), Tags(2, {"a": "b"}), *rows[15:], ended]


def spool(folder: Path, dose: Dose) -> Told:
    """Lines that survive are those that were written, in their order; and the next line is whole."""
    records = history()
    whole = b"".join(map(encode, records))
    wanted = {measurement.spent.steps: measurement for measurement in records if isinstance(measurement, Measurement)}
    told: Told = Counter()
    path = folder / SPOOL
    for data in damaged(whole, dose):
        path.write_bytes(data)
        before = read_spool(path)
        assert all(wanted[row.spent.steps] == row for row in before.rows)
        assert [row.spent.steps for row in before.rows] == sorted(row.spent.steps for row in before.rows)
        assert before.start in (None, records[0])
        assert before.finish in (None, records[-1])
        if cut := len(whole) - len(data):
            assert len(before.rows) >= whole[: len(whole) - cut].count(b'"kind":"row"') - 1
        else:
            assert before.damaged
            assert len(before.rows) >= len(wanted) - 8  # four bytes, two lines each
        writer = Spool(path)
        writer.append(measurement(99), durable=False)
        writer.close()
        after = read_spool(path)
        assert after.rows == (*before.rows, measurement(99))
        told["found" if before.damaged else "harmless"] += 1  # cut between two lines
    return told


def cursor(folder: Path, dose: Dose) -> Told:
    """Believed as it was written, or mirroring begins again, which doubles nothing."""
    (folder / SPOOL).write_bytes(b"".join(map(encode, history())))
    written = Cursor(URI, "ab" * 16, 1234, 12)
    write_cursor(folder, written)
    whole, told = (folder / CURSOR).read_bytes(), Counter[str]()
    for data in damaged(whole, dose):
        (folder / CURSOR).write_bytes(data)
        found = read_cursor(folder, URI)
        assert found in (written, Cursor(URI))
        told["harmless" if found == written else "found"] += 1
    return told


# --- notes


def notes(folder: Path, dose: Dose) -> Told:
    """What was learnt of this machine: as it was learnt, or forgotten."""
    capacity = Capacity(10**12, "cpu", folder)
    estimate, learnt = capacity.needed(SPEC, 257, 1), 123_456_789
    capacity.learn(SPEC, 257, 1, learnt)
    (path,) = folder.glob("memory-*.json")
    whole, told = path.read_bytes(), Counter[str]()
    for data in damaged(whole, dose):
        path.write_bytes(data)
        found = capacity.needed(SPEC, 257, 1)
        assert found in (learnt, estimate)
        told["harmless" if found == learnt else "found"] += 1
    times = {"fp32": 0.0123, "bf16 compiled": 0.0045}
    note = Note(folder, SPEC, 257, 1, torch.device("cpu"))
    note.write(times)
    whole = note.path.read_bytes()
    for data in damaged(whole, dose):
        note.path.write_bytes(data)
        read = note.read()
        assert read in (times, {})
        told["harmless" if read else "found"] += 1
    return told


def driver(folder: Path, dose: Dose) -> Told:
    """The note of who runs a study is for a sentence: the lock is what counts."""
    told: Told = Counter()
    url, runs = f"sqlite:///{folder}/tuner.db", folder / "runs"
    with study_lock(url, "s", runs):
        whole = (runs / "driver.json").read_bytes()
        for data in [*damaged(whole, dose), b"5", b"[]", b'"x"']:
            (runs / "driver.json").write_bytes(data)
            with pytest.raises(StudyLockedError, match="is being run by another driver"), study_lock(url, "s", runs):
                pass
            told["harmless"] += 1
    return told


def owner(folder: Path, dose: Dose) -> Told:
    """Whose folder it is: a damaged note says nothing, and its study writes it anew."""
    told: Told = Counter()
    claim(folder, "1234-abcd", URI)
    whole = (folder / "study.json").read_bytes()
    for data in damaged(whole, dose):
        (folder / "study.json").write_bytes(data)
        assert tracking_of(folder) in (None, URI)
        claim(folder, "1234-abcd", URI)
        assert (folder / "study.json").read_bytes() == whole
        told["found"] += 1
    return told


# --- the trial store


def database(folder: Path, dose: Dose) -> Told:
    """Read or refused in a sentence, by who looks and by who goes on. SQLite has no checksums: a changed value in
    a sound page is not found (``unknown``).
    """
    spec = parse("name: s\nspace: {optim.lr: {float: [1e-3, 1e-2]}}\nstudy: {sampler: random, pruner: none}")
    path = folder / "whole.db"
    storage: Any = open_storage(f"sqlite:///{path}", create=True)
    search = Search(spec, storage)
    for number in range(6):
        asked = search.ask()
        search.note(asked.number, {"seed": 1, "checkpoint": f"runs/s/{number}/x", "reason": "none"})
        search.report(asked.number, measurement(1, 1))
        search.tell(asked.number, Outcome(State.COMPLETE), 3.0 + number)
    record = search.record()
    storage.remove_session()
    storage._backend.engine.dispose()
    with contextlib.closing(sqlite3.connect(path)) as store:
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole, told = path.read_bytes(), Counter[str]()
    for number, data in enumerate(damaged(whole, dose)):
        copy = folder / f"{number}.db"
        copy.write_bytes(data)
        url = f"sqlite:///{copy}"
        try:
            seen = open_study(url, "s")
            told["harmless" if seen == record else "unknown"] += 1
        except StoreError:
            told["found"] += 1
        try:
            going_on = Search(spec, open_storage(url, create=True))
            assert data or not going_on.begun, "an empty file is a new store; the study's folder tells"
        except StoreError:
            pass
        for path in folder.glob(f"{number}.db*"):
            path.unlink()
    return told


KINDS: dict[str, Callable[[Path, Dose], Told]] = {
    "checkpoints": checkpoints,
    "package": package,
    "corpus": corpus,
    "tokenizer": tokenizer,
    "spool": spool,
    "cursor": cursor,
    "notes": notes,
    "driver": driver,
    "owner": owner,
    "database": database,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_damages_are_found_or_harmless(kind: str, tmp_path: Path) -> None:
    assert KINDS[kind](tmp_path, Dose(4, 8)).total() >= 12


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_every_damage_is_found_or_harmless(kind: str, tmp_path: Path, figures: Callable[[str], None]) -> None:
    told = KINDS[kind](tmp_path, Dose(20, 200))
    figures(f"{kind}: {told.total()} damages, " + ", ".join(f"{count} {word}" for word, count in told.items()))


def in_mlflow(path: Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as store:
        return store.execute("SELECT key, step, value FROM metrics ORDER BY key, step, value").fetchall()


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_damaged_cursor_costs_mlflow_no_point_and_doubles_none(
    tmp_path: Path, figures: Callable[[str], None]
) -> None:
    create(tmp_path / "mlflow.db")
    folder = tmp_path / "runs" / "s" / "0"
    folder.mkdir(parents=True)
    lines = [encode(record) for record in history()]
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    (folder / SPOOL).write_bytes(b"".join(lines[:-8]))
    sync(folder.parent, uri)
    half = (folder / CURSOR).read_bytes()
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "half.db")
    (folder / SPOOL).write_bytes(b"".join(lines))
    sync(folder.parent, uri)
    expected = in_mlflow(tmp_path / "mlflow.db")
    damages = [*damaged(half, Dose(4, 20)), half.replace(b'"offset": ', b'"offset": 1')]
    for data in damages:
        shutil.copy(tmp_path / "half.db", tmp_path / "mlflow.db")
        (folder / CURSOR).write_bytes(data)
        sync(folder.parent, uri)
        assert in_mlflow(tmp_path / "mlflow.db") == expected
    figures(f"{len(damages)} damaged cursors: MLflow had every point once, each time")
