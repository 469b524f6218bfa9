"""What fits into memory, and when a loss has left its past: foretold, held against one real step, remembered."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.records import Measurement, Preparing, Started, State, Verdict
from tuner.spec.trial import TrialSpec
from tuner.train import checkpoint
from tuner.train.fit import Place, fit
from tuner.train.machine.capacity import Capacity, TooLargeError, available_bytes, divisions, finer, limit_of
from tuner.train.model.memory import memory_bytes
from tuner.train.past import EARLY, MARGIN, Past

VOCAB, GB = 40, 10**9
WIDE = TrialSpec.model_validate({"batch": 64, "model": {"depth": 6, "width": 512}, "data": {"context": 256}})


class Deaf:
    """A link that goes on whatever it hears, until it wants the worker back."""

    def __init__(self, leave_after: int = 10**9) -> None:
        self.left = leave_after
        self.facts: dict[str, Any] = {}
        self.rows: list[Measurement] = []

    def preparing(self, work: Preparing) -> None: ...

    def started(self, started: Started) -> None:
        self.facts = dict(started.facts)

    def report(self, measurement: Measurement) -> Verdict:
        self.rows.append(measurement)
        return Verdict.CONTINUE

    def interrupted(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture
def small(text_file: Path) -> TrialSpec:
    return TrialSpec.model_validate(
        {
            "data": {"source": "text", "path": str(text_file), "tokenizer": {"kind": "char"}, "context": 16},
            "model": {"depth": 1, "width": 16},
            "batch": 8,
            "budget": "5120 tokens",
        }
    )


@pytest.fixture
def place(tmp_path: Path, text_file: Path) -> Place:
    return Place(tmp_path / "trial", text_file.parent / "corpora", threads=1, notes=tmp_path / "notes")


def test_a_trial_first_gets_smaller_micro_batches_and_only_then_does_not_fit(tmp_path: Path) -> None:
    whole, finest = (memory_bytes(WIDE.model_copy(update={"accumulate": parts}), VOCAB) for parts in (1, 64))
    assert Capacity(whole, "cpu", tmp_path).parts(WIDE, VOCAB) == 1
    parts = Capacity((whole + finest) // 2, "cpu", tmp_path).parts(WIDE, VOCAB)
    assert parts is not None
    assert 1 < parts < 64
    assert Capacity(finest - 1, "cpu", tmp_path).parts(WIDE, VOCAB) is None


def test_written_accumulation_is_left_alone(tmp_path: Path) -> None:
    written = WIDE.model_copy(update={"accumulate": 4})
    assert divisions(written) == [4]
    assert (
        Capacity(memory_bytes(WIDE.model_copy(update={"accumulate": 16}), VOCAB), "cpu", tmp_path).parts(written, VOCAB)
        is None
    )


def test_what_a_real_trial_took_counts_more_than_the_estimate(tmp_path: Path) -> None:
    capacity = Capacity(4 * GB, "cpu", tmp_path / "notes")
    estimate = capacity.needed(WIDE, VOCAB, 8)
    capacity.learn(WIDE, VOCAB, 8, 7 * GB)
    assert capacity.needed(WIDE, VOCAB, 8) == 7 * GB != estimate
    assert capacity.needed(WIDE, VOCAB, 16) < 7 * GB  # another shape
    assert replace(capacity, kind="another device").needed(WIDE, VOCAB, 8) == estimate
    for damaged in ("", "{", '{"bytes": null}', "[]"):
        next((tmp_path / "notes").glob("memory-*.json")).write_text(damaged)
        assert capacity.needed(WIDE, VOCAB, 8) == estimate


@given(batch=st.integers(1, 4096), parts=st.integers(1, 4096))
def test_finer_parts_are_at_most_half_as_large(batch: int, parts: int) -> None:
    spec = WIDE.model_copy(update={"batch": batch})
    found = finer(spec, parts)
    if found is None:
        assert not [d for d in divisions(spec) if d >= 2 * parts]
    else:
        assert batch % found == 0
        assert batch / found <= batch / parts / 2


def test_the_limit_is_as_said_else_a_share_of_what_is_free() -> None:
    assert limit_of(6 * GB, 4, accelerated=True) == 6 * GB
    assert limit_of("auto", 2, accelerated=True) is None
    half = limit_of("auto", 2, accelerated=False)
    assert half is not None
    assert 0 < half < available_bytes()


def test_one_real_step_is_held_against_the_limit_and_remembered(small: TrialSpec, place: Place) -> None:
    link = Deaf()
    with pytest.raises(TooLargeError, match="may take 50 MB"):
        fit(small, 4, replace(place, memory=50 * 10**6), link)
    assert not link.rows  # after the first step, before the first row
    capacity = Capacity(50 * 10**6, str(link.facts["device_kind"]), place.machine)
    taken = capacity.needed(small, int(link.facts["vocab"]), 1)
    assert taken > 50 * 10**6
    assert taken != memory_bytes(small, int(link.facts["vocab"]))
    assert capacity.parts(small.model_copy(update={"accumulate": 1}), int(link.facts["vocab"])) is None


def test_a_trial_goes_on_in_the_smaller_micro_batches_that_it_is_given(small: TrialSpec, place: Place) -> None:
    first = fit(small, 4, place, Deaf(leave_after=25))
    assert first.state is State.INTERRUPTED
    link = Deaf()
    assert fit(small, 4, replace(place, parts=4), link).state is State.COMPLETE
    assert link.facts["accumulate"] == 4


@pytest.mark.parametrize("vocab", [2, 65, 1024, 50_000])
def test_a_loss_leaves_its_past_by_the_stated_rule(vocab: int) -> None:
    nothing, low = math.log(vocab), math.log(vocab) / 2
    past = Past(vocab)
    assert past.departure(1.5 * nothing) is None  # a beginning worse than knowing nothing
    for _ in range(EARLY):
        assert past.departure(low) is None
    margin = max(MARGIN, (nothing - low) / 2)
    assert past.departure(low + margin - 0.01) is None
    assert past.lowest == low
    assert "left its own past" in str(past.departure(low + margin + 0.01))


def test_early_rows_may_overshoot_what_is_known_but_not_by_any_amount() -> None:
    """Small batches do: 2 x 512, one sequence a step, had 2.92, then 4.05, where knowing nothing is 3.0."""
    past = Past(20)
    assert past.departure(2.923) is None
    assert past.departure(4.05) is None
    assert past.departure(6.1) is not None


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_has_diverged(loss: float) -> None:
    assert Past(65).departure(loss) is not None


@given(st.lists(st.floats(1.0, 4.17), min_size=1))
def test_a_trial_that_never_loses_half_of_its_gain_never_diverged(rows: list[float]) -> None:
    past = Past(65)
    lowest = math.log(65)
    for row in rows:
        if row > lowest + max(1.0, (math.log(65) - lowest) / 2):
            break
        assert past.departure(row) is None
        lowest = min(lowest, row)


def test_a_blow_up_ends_the_trial_within_one_log_interval(small: TrialSpec, place: Place) -> None:
    """A rate that no model survives, finite all the while: the next row ends it, and its past outlives a checkpoint."""
    wild = small.model_copy(
        update={"optim": small.optim.model_copy(update={"kind": "adamw", "lr": 30.0, "warmup": 0.0, "clip": None})}
    )
    link = Deaf()
    outcome = fit(wild, 4, place, link)
    assert outcome.state is State.DIVERGED
    assert len(link.rows) <= 3  # of 40
    newest = checkpoint.sound(place.folder)
    assert not newest or newest[0].reached <= 1


def test_the_past_is_in_the_checkpoint(small: TrialSpec, place: Place) -> None:
    fit(small, 4, place, Deaf(leave_after=25))
    assert checkpoint.sound(place.folder)[0].state()["lowest_row"] < math.inf
