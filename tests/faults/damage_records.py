"""What damage to spools, cursors, notes and the trial store comes to: found or harmless."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from damaging import Dose, Told, damaged, measurement

from tuner.analysis.table import open_study
from tuner.run.folder import claim, tracking_of
from tuner.search.asktell import Search
from tuner.search.store.lock import study_lock
from tuner.search.store.storage import open_storage
from tuner.spec.errors import StoreError, StudyLockedError
from tuner.spec.load import parse
from tuner.spec.records import Measurement, Origin, Outcome, State
from tuner.spec.trial import TrialSpec
from tuner.tracking.mlflow import CURSOR, Cursor, read_cursor, write_cursor
from tuner.tracking.spool import SPOOL, Finish, Record, Resume, Spool, Start, Tags, encode, read_spool
from tuner.train.machine.capacity import Capacity
from tuner.train.machine.notes import Note

URI = "sqlite:///mlflow.db"
SPEC = TrialSpec.model_validate({"model": {"depth": 1, "width": 16}, "data": {"context": 8}, "batch": 4})


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
    claim(folder, Origin("1234-abcd"), URI)
    whole = (folder / "study.json").read_bytes()
    for data in damaged(whole, dose):
        (folder / "study.json").write_bytes(data)
        assert tracking_of(folder) in (None, URI)
        claim(folder, Origin("1234-abcd"), URI)
        assert (folder / "study.json").read_bytes() == whole
        told["found"] += 1
    return told


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
