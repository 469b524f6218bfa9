"""The cursor: each window once an epoch, any batch at any time, each token predicted once."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.parts.data import DataSpec
from tuner.train.text.cursor import WINDOWS, RandomWindows, Windows, evaluation_windows

CONTEXT = st.integers(2, 9)


def line(count: int) -> np.ndarray:
    """Tokens that name their own place."""
    return np.arange(count, dtype="<u2")


@given(CONTEXT, st.data(), st.integers(0, 2**32 - 1))
def test_each_window_comes_once_an_epoch_and_no_token_is_predicted_twice(
    context: int, data: st.DataObject, seed: int
) -> None:
    count = data.draw(st.integers(context + 1, 200))
    windows = Windows(line(count), context, seed)
    n = windows.count
    for epoch in range(3):
        rows = np.concatenate([windows.batch(epoch * n + i, 1) for i in range(n)])
        assert rows.shape == (n, context + 1)
        assert rows.dtype == np.int64
        assert (np.diff(rows) == 1).all(), "a window is a run of neighbours"
        starts = np.sort(rows[:, 0])
        assert (np.diff(starts) == context).all(), "windows touch and do not overlap"
        assert count - 1 - n * context < 2 * context, "an epoch leaves out less than two windows"


@given(CONTEXT, st.integers(10, 300), st.integers(0, 100), st.integers(1, 70), st.integers(0, 60))
def test_a_batch_depends_on_nothing_asked_before(context: int, count: int, seed: int, size: int, step: int) -> None:
    tokens = line(count)
    walked = Windows(tokens, context, seed)
    for earlier in range(step):
        walked.batch(earlier, size)
    jumped = Windows(tokens, context, seed)
    jumped.batch(step + 50, size)
    np.testing.assert_array_equal(walked.batch(step, size), jumped.batch(step, size))


@given(st.integers(1, 30), st.integers(1, 30))
def test_the_batch_size_cuts_one_sequence_of_windows(one: int, other: int) -> None:
    tokens = line(500)
    a, b = Windows(tokens, 7, 3), Windows(tokens, 7, 3)
    whole = one * other
    split_by_one = np.concatenate([a.batch(step, one) for step in range(other)])
    np.testing.assert_array_equal(split_by_one, b.batch(0, whole))


@given(CONTEXT, st.integers(10, 300), st.integers(0, 100), st.integers(1, 70), st.integers(0, 60))
def test_random_windows_are_runs_of_neighbours_that_the_step_decides(
    context: int, count: int, seed: int, size: int, step: int
) -> None:
    rows = RandomWindows(line(count), context, seed).batch(step, size)
    assert rows.shape == (size, context + 1)
    assert (np.diff(rows) == 1).all()
    np.testing.assert_array_equal(rows, RandomWindows(line(count), context, seed).batch(step, size))


def test_random_windows_begin_anywhere_and_differ_by_step_and_seed() -> None:
    windows = RandomWindows(line(20), 4, 1)
    assert set(windows.batch(0, 1000)[:, 0]) == set(range(16))
    assert not np.array_equal(windows.batch(0, 50), windows.batch(1, 50))
    assert not np.array_equal(windows.batch(0, 50), RandomWindows(line(20), 4, 2).batch(0, 50))


def test_every_word_for_windows_has_a_class() -> None:
    assert set(get_args(DataSpec.model_fields["windows"].annotation)) == set(WINDOWS)


def test_seeds_and_epochs_differ_in_order_and_offset() -> None:
    tokens = line(4000)
    windows = Windows(tokens, 8, 1)
    epochs = [windows.batch(epoch, windows.count) for epoch in range(40)]
    assert not any((a[:, 0] == b[:, 0]).all() for a, b in pairwise(epochs))
    assert {int(rows[:, 0].min()) for rows in epochs} == set(range(8)), "every offset comes"
    other = Windows(tokens, 8, 2)
    assert (other.batch(0, 16) != windows.batch(0, 16)).any()


def test_a_part_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 9 tokens for context 8, got 8"):
        Windows(line(8), 8, 1)
    with pytest.raises(ValueError, match="at least 9 tokens"):
        RandomWindows(line(8), 8, 1)


def joined(batches: list[tuple[np.ndarray, np.ndarray]], context: int, size: int) -> np.ndarray:
    for x, y in batches:
        assert x.shape == y.shape
        assert x.dtype == y.dtype == np.int64
        assert x.shape[0] <= size
        assert x.shape[1] <= context
        np.testing.assert_array_equal(x + 1, y)
    return np.concatenate([y.ravel() for _, y in batches]) if batches else np.empty(0, np.int64)


@given(CONTEXT, st.integers(0, 200), st.integers(1, 5))
def test_evaluation_predicts_every_token_but_the_first_once(context: int, count: int, size: int) -> None:
    targets = joined(list(evaluation_windows(line(count), context, size=size)), context, size)
    assert targets.tolist() == list(range(1, count))


@given(CONTEXT, st.integers(2, 300), st.integers(1, 350))
def test_limited_evaluation_is_even_whole_and_within_the_limit(context: int, count: int, limit: int) -> None:
    tokens = line(count)
    targets = joined(list(evaluation_windows(tokens, context, limit, size=4)), context, 4)
    again = joined(list(evaluation_windows(tokens, context, limit, size=4)), context, 4)
    np.testing.assert_array_equal(targets, again)
    assert 0 < len(targets) <= limit
    assert len(set(targets.tolist())) == len(targets)
    if limit >= count - 1:
        assert len(targets) == count - 1
        return
    whole = (count - 1) // context
    wanted = min(limit // context, whole)
    if wanted:
        gaps = np.diff(targets.reshape(wanted, context)[:, 0]) // context
        assert len(targets) == wanted * context
        assert not len(gaps) or (gaps.min() >= whole // wanted and gaps.max() <= whole // wanted + 1)
    else:
        assert len(targets) == limit


def test_the_memmap_of_a_file_is_read_as_an_array_is(tmp_path: object) -> None:
    tokens = np.random.default_rng(0).integers(0, 60_000, 5_000).astype("<u2")
    path = f"{tmp_path}/t.bin"
    tokens.tofile(path)
    mapped = np.memmap(path, "<u2", mode="r")
    np.testing.assert_array_equal(Windows(mapped, 16, 5).batch(7, 9), Windows(tokens, 16, 5).batch(7, 9))
    for (a, _), (b, _) in zip(evaluation_windows(mapped, 16, 640), evaluation_windows(tokens, 16, 640), strict=True):
        np.testing.assert_array_equal(a, b)
