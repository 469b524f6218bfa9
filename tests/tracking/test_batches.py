"""The pure step from records to MLflow's calls: nothing lost, nothing beyond MLflow's limits."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracking_helpers import SPEC, points_of, row

from tuner.spec.records import Outcome, State
from tuner.spec.trial import TrialSpec
from tuner.tracking.batches import Gap, cut, flatten, name, plan
from tuner.tracking.spool import Finish, Record, Resume, Start

nan, inf = float("nan"), float("inf")


@given(st.integers(0, 700), st.integers(0, 260), st.integers(0, 230), st.integers(0, 9000))
def test_batches_hold_everything_within_the_limits(rows: int, params: int, tags: int, length: int) -> None:
    spec = {f"p{i}": "é" * length if i % 50 == 0 else i for i in range(params)}
    history: list[Record] = [Start(1, {}, {f"t{i}": "v" for i in range(tags)}, spec)]
    history += [row(step) for step in range(1, rows + 1)]
    done = plan(history, {})
    assert len([p for b in done.batches for p in b.params]) == params
    assert len({k for b in done.batches for k, _ in b.tags}) == tags + 1  # and tuner.state
    assert {(m.key, m.step): m.value for b in done.batches for m in b.metrics} == points_of(
        [record for record in history if not isinstance(record, Start)]  # type: ignore[misc]
    )
    for batch in done.batches:
        assert len(batch.params) <= 100
        assert len(batch.tags) <= 100
        assert len(batch.metrics) + len(batch.params) + len(batch.tags) <= 1000
        assert len(json.dumps([batch.metrics, batch.params, batch.tags])) < 950_000


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (State.COMPLETE, "FINISHED"),
        (State.PRUNED, "KILLED"),
        (State.INFEASIBLE, "KILLED"),
        (State.DIVERGED, "FAILED"),
        (State.FAILED, "FAILED"),
        (State.INTERRUPTED, "KILLED"),
    ],
)
def test_every_state_has_its_status_and_its_tag(state: State, word: str) -> None:
    done = plan([Start(1, {}, {}, {}), Finish(7, Outcome(state, "because"), {"k": "v"})], {})
    assert done.status is not None
    assert (done.status.word, done.status.end_ms) == (word, 7)
    assert dict(done.batches[0].tags) == {"tuner.state": state.value, "tuner.reason": "because", "k": "v"}


def test_a_resumed_trial_runs_again_and_its_old_reason_is_gone() -> None:
    done = plan([Finish(7, Outcome(State.INTERRUPTED, "Ctrl-C"), {}), Resume(9, 2, {})], {})
    assert done.status is not None
    assert (done.status.word, done.status.end_ms) == ("RUNNING", None)
    assert dict(done.batches[0].tags) == {"tuner.state": "running", "tuner.reason": "", "tuner.resumed": "2"}


def test_what_is_not_finite_is_named_not_logged() -> None:
    first = plan([row(1, loss=1.0, norm=inf), row(2, loss=nan, norm=inf)], {})
    assert {m.key for b in first.batches for m in b.metrics if m.step == 2} == {"tokens", "flops", "seconds"}
    assert first.gaps == {"norm": Gap("inf", 1, 2), "loss": Gap("nan", 2, 1)}
    second = plan([row(3, loss=nan)], first.gaps)
    assert dict(second.batches[0].tags) == {
        "tuner.nonfinite": "norm inf at step 1 (and 1 later), loss nan at step 2 (and 1 later)"
    }
    assert not plan([row(4)], second.gaps).batches[0].tags


def test_every_leaf_of_a_trial_spec_is_a_param() -> None:
    leaves = flatten(TrialSpec().as_data())
    params = dict(
        p for b in plan([Start(1, {"optim.lr": 3e-3}, {}, TrialSpec().as_data())], {}).batches for p in b.params
    )
    assert params.keys() == leaves.keys()
    assert (params["optim.lr"], params["budget"], params["data.split"]) == (
        "0.003",
        "1M tokens",
        "[0.8, 0.1, 0.1]",
    )
    assert flatten(SPEC)["model.width"] == 64


@settings(deadline=None)  # the first example imports MLflow
@given(st.text(max_size=300))
def test_names_and_values_are_such_that_mlflow_takes_them(text: str) -> None:
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name

    if text:
        _validate_metric_name(name(text))
        _validate_param_name(name(text))
    short = cut(text * 50, 6000)
    assert len(short) <= 6000
    assert "\0" not in short
    if len(text) * 50 > 6000:
        assert short.endswith(f"(cut, {len(text) * 50} characters)")
