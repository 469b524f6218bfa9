"""The spool keeps every row whole or says that it did not."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tracking_helpers import SPEC, row

from tuner.spec.errors import StoreError
from tuner.spec.records import Measurement, Outcome, Spent, State
from tuner.tracking import spool as spool_module
from tuner.tracking.base import Kept, NullTracker, merge
from tuner.tracking.spool import (
    Finish,
    Record,
    Resume,
    Spool,
    Start,
    Tags,
    decode,
    decode_lines,
    encode,
    read_spool,
)

words = st.text(max_size=30)
tags = st.dictionaries(words, words, max_size=3)
times = st.integers(0, 2**45)
values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), words)
records: st.SearchStrategy[Record] = st.one_of(
    st.builds(Start, times, st.dictionaries(words, values), tags, st.dictionaries(words, values)),
    st.builds(Resume, times, st.integers(1, 99), tags),
    st.builds(Tags, times, tags),
    st.builds(Finish, times, st.builds(Outcome, st.sampled_from(State), words), tags),
    st.builds(
        Measurement,
        st.builds(Spent, st.integers(0), st.integers(0), st.floats(0, 1e30), st.floats(0, 1e9)),
        st.dictionaries(words, st.floats(allow_nan=False)),
        st.one_of(st.none(), st.integers(1, 50)),
        times,
        st.lists(words, max_size=3).map(tuple),
    ),
)


@given(st.lists(records, max_size=5))
def test_records_come_back_equal_and_every_line_is_plain_json(history: list[Record]) -> None:
    data = b"".join(encode(record) for record in history)
    assert decode_lines(data) == (history, 0)
    for line in data.splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_undecodable_bytes_in_a_reason_survive() -> None:
    reason = b"killed by \xff".decode(errors="surrogateescape")
    record = Finish(1, Outcome(State.FAILED, reason), {})
    assert decode(encode(record)[:-1]) == record


@given(st.lists(records, min_size=1, max_size=4), st.data())
def test_a_flipped_bit_is_never_read_as_another_value(history: list[Record], data: st.DataObject) -> None:
    lines = [encode(record) for record in history]
    whole = bytearray(b"".join(lines))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= 1 << data.draw(st.integers(0, 7))
    read, damaged = decode_lines(bytes(whole))
    assert damaged >= 1
    rest = iter(history)
    assert all(record in rest for record in read), "what is read is a part of what was written, in its order"
    assert len(read) >= len(history) - 2  # a flipped newline costs the two lines it joined


@pytest.mark.parametrize("kept", range(1, 40, 3))
def test_a_torn_last_line_is_cut_and_the_next_append_stands_alone(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "spool.jsonl"
    first, second = encode(Start(1, {}, {}, SPEC)), encode(row(1))
    path.write_bytes(first + second[:kept])
    assert read_spool(path).damaged == 1
    spool = Spool(path)
    assert (spool.cut, spool.started, spool.kept) == (kept, True, Kept())
    spool.append(row(2), durable=False)
    spool.close()
    content = read_spool(path)
    assert ([r.spent.steps for r in content.rows], content.damaged) == ([2], 0)


def test_a_full_disk_leaves_whole_lines_and_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file here can fill up on demand, so the system call is made to write half and then refuse."""
    spool = Spool(tmp_path / "spool.jsonl")
    spool.append(row(1), durable=True)
    write = os.write

    def half(file: int, data: bytes) -> int:
        write(file, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool_module.os, "write", half)
    with pytest.raises(StoreError, match=r"No space left on device.*run the same command again"):
        spool.append(row(2), durable=False)
    monkeypatch.undo()
    spool.append(row(3), durable=False)
    spool.close()
    content = read_spool(tmp_path / "spool.jsonl")
    assert ([r.spent.steps for r in content.rows], content.damaged) == ([1, 3], 0)


def test_a_missing_spool_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected a trial's spool"):
        read_spool(tmp_path / "spool.jsonl")


def test_a_row_that_only_brings_the_milestone_adds_to_its_step() -> None:
    first = Measurement(Spent(8, 800, 8e6, 1.0), {"train_loss": 2.0}, None, 111)
    again = Measurement(Spent(8, 800, 8e6, 1.5), {"train_loss": 2.0, "val_loss": 2.1}, 4, 222)
    known = Kept().after(first)
    kept = known.admit(again)
    assert kept == Measurement(first.spent, {"val_loss": 2.1}, 4, 111)
    whole = merge(first, kept)
    assert whole == Measurement(first.spent, {"train_loss": 2.0, "val_loss": 2.1}, 4, 111)
    assert known.after(kept).last == whole
    assert known.after(kept).admit(again) is None


def test_several_milestones_of_one_step_are_all_kept(tmp_path: Path) -> None:
    """Fewer steps than milestones: each has its row, at the time of the first."""
    spool, kept = Spool(tmp_path / "spool.jsonl"), Kept()
    for mark in (1, 2, 2, 3, 1):
        if (new := kept.admit(replace(row(4, mark, val_loss=2.0), time_ms=100 + mark))) is not None:
            spool.append(new, durable=True)
            kept = kept.after(new)
    spool.close()
    rows = read_spool(tmp_path / "spool.jsonl").rows
    assert [(one.spent.steps, one.milestone, one.metrics, one.time_ms) for one in rows] == [
        (4, mark, {"val_loss": 2.0}, 101) for mark in (1, 2, 3)
    ]
    again = Spool(tmp_path / "spool.jsonl")
    assert again.kept == kept
    again.close()


def test_the_forgetful_tracker_keeps_the_rule() -> None:
    tracker = NullTracker()
    kept = [
        tracker.row(0, row(step, mark)) for step, mark in ((1, None), (2, None), (2, 1), (2, 1), (1, None), (3, None))
    ]
    assert kept == [True, True, True, False, False, True]
    assert tracker.row(1, row(1))
    assert (tracker.runs(), tracker.close()) == ({}, 0)


def test_a_row_from_before_there_were_samples_has_none() -> None:
    line = encode(row(3, 1))
    assert b"samples" not in line
    assert decode(line[:-1]) == row(3, 1)


def test_samples_come_with_the_milestone_and_stay_with_its_step() -> None:
    first = row(8)
    kept = Kept().after(first).admit(replace(row(8, 4, val_loss=2.0), samples=("once", "upon")))
    assert kept is not None
    assert kept.samples == ("once", "upon")
    assert merge(first, kept).samples == ("once", "upon")
