"""What the space says of itself: importance, directions, edges, the space to copy, causes and regions of failure."""

from __future__ import annotations

import random
from typing import Any

import optuna
import pytest
import yaml
from analysis_helpers import YAML, histories, study, trial
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.analysis.study.edges import edges, narrowed
from tuner.analysis.study.failures import causes, region
from tuner.analysis.study.frame import frame
from tuner.analysis.study.importance import disagree, fanova, importance, signs, witnesses
from tuner.analysis.widen import widened
from tuner.search.asktell import Search
from tuner.search.history import REPEAT, StudyRecord
from tuner.search.store.storage import open_storage
from tuner.spec.dimensions.dimension import ChoiceDim, FloatDim, IntDim
from tuner.spec.dimensions.space import Space
from tuner.spec.load import parse
from tuner.spec.records import Outcome, State


def spread(best: dict[str, Any], count: int = 30) -> StudyRecord:
    """``count`` trials anywhere, of which the best 10 have ``best`` in their points."""
    rng, spec = random.Random(5), parse(YAML)
    trials = []
    for number in range(count):
        point = spec.walk(lambda _, dimension: dimension.draw(rng))
        point |= best if number < 10 else {}
        if point["optim.kind"] == "adamw":
            point.pop("optim.muon.lr", None)
        trials.append(trial(number, 1.5 + 0.01 * number, **point))
    return study(*trials)


def with_space(text: str) -> Space:
    """The copied block read back in a whole study."""
    return parse(f"name: next\ntrial: {{budget: 400k tokens}}\n{text}").space


def test_an_edge_is_named_counted_and_widened() -> None:
    record = spread({"model.width": 256})
    found = edges(record, frame(record))
    (edge,) = [edge for edge in found if edge.path == "model.width"]
    assert (edge.side, edge.hits, edge.of) == ("upper", 10, 10)
    assert edge.sentence == "10 of the best 10 at model.width 256, the upper edge: widen"
    assert yaml.safe_load(edge.yaml) == {"model.width": {"int": [64, 352], "step": 32}}
    assert with_space(f"space:\n  {edge.yaml}")["model.width"].holds(352)


def test_choices_of_numbers_and_log_ranges_have_edges_too() -> None:
    record = spread({"batch": 16, "optim.lr": 1.05e-4})
    found = {edge.path: edge for edge in edges(record, frame(record))}
    assert yaml.safe_load(found["batch"].yaml) == {"batch": {"choice": [4, 8, 16, 32]}}
    assert found["optim.lr"].side == "lower"
    assert with_space(f"space:\n  {found['optim.lr'].yaml}")["optim.lr"] == FloatDim(float=(1e-5, 1e-2), log=True)


def test_an_end_that_its_field_cannot_pass_is_no_edge() -> None:
    record = spread({"optim.warmup": 0.0})
    assert "optim.warmup" not in {edge.path for edge in edges(record, frame(record))}


def test_repeats_of_one_setting_are_one_witness() -> None:
    trials = [trial(n, 1.5, model_width=256, seed=n % 3 + 1) for n in range(3)]
    trials += [trial(n, 2.0 + n, model_width=64 + 32 * (n % 5), optim_warmup=0.001 * n) for n in range(3, 10)]
    record = study(*trials)
    assert not [edge for edge in edges(record, frame(record)) if edge.path == "model.width"]


def test_the_narrowed_space_holds_the_best_and_reads_back() -> None:
    record = spread({"model.width": 128, "optim.lr": 1e-3, "optim.kind": "adamw"})
    text = narrowed(record, frame(record))
    space = with_space(text)
    assert space["model.width"] == IntDim(int=(96, 160), step=32)
    assert space["optim.kind"] == ChoiceDim(choice=("adamw",))
    assert "optim.muon.lr" not in space
    assert space["optim.lr"].holds(1e-3)
    assert not space["optim.lr"].holds(3e-3)
    assert narrowed(study(), frame(study())) == ""


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(5, 20))
def test_every_narrowed_space_is_one_the_spec_takes(seed: int, count: int) -> None:
    rng, spec = random.Random(seed), parse(YAML)
    near = spec.walk(lambda _, dimension: dimension.draw(rng))
    trials = []
    for number in range(count):
        fresh = spec.walk(lambda _, dimension: dimension.draw(rng))
        point = {path: near.get(path, value) if rng.random() < 0.7 else value for path, value in fresh.items()}
        trials.append(trial(number, rng.random() + 1, **point))
    record = study(*trials)
    text = narrowed(record, frame(record))
    space = with_space(text)
    best = min(record.trials, key=lambda t: t.value or 9)
    for path, dimension in space.items():
        assert path not in best.point or dimension.holds(best.point[path]), (text, path, best.point)
    for edge in edges(record, frame(record)):
        assert with_space(f"space:\n  optim.kind: {{choice: [muon]}}\n  {edge.yaml}" if "muon" in edge.path
                          else f"space:\n  {edge.yaml}")[edge.path]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "dimension", "side", "expected"),
    [
        ("optim.warmup", FloatDim(float=(0.0, 0.2)), "upper", FloatDim(float=(0.0, 0.3))),
        ("optim.warmup", FloatDim(float=(0.0, 0.2)), "lower", None),
        ("batch", ChoiceDim(choice=(1, 2)), "lower", None),
        ("batch", ChoiceDim(choice=(1, 2, 3)), "upper", ChoiceDim(choice=(1, 2, 3, 4))),
        ("optim.kind", ChoiceDim(choice=("adamw", "muon")), "upper", None),
        ("model.depth", IntDim(int=(2, 8)), "lower", IntDim(int=(1, 8))),
        ("model.depth", IntDim(int=(1, 4)), "upper", IntDim(int=(1, 6))),
    ],
)  # fmt: skip
def test_widening_stays_inside_what_the_field_takes(path: str, dimension: Any, side: Any, expected: Any) -> None:
    assert widened(path, dimension, side) == expected


def test_directions_come_from_rank_correlation() -> None:
    rng = random.Random(1)
    trials = []
    for number in range(30):
        lr, width = 10 ** rng.uniform(-4, -2), rng.choice([64, 128, 256])
        value = 2 + lr * 100 - width / 500 + rng.gauss(0, 0.01)
        trials.append(trial(number, value, optim_lr=lr, model_width=width, optim_warmup=rng.random() / 5))
    found = signs(frame(study(*trials)))
    assert found["optim.lr"] == "lower"
    assert found["model.width"] == "higher"
    assert found["batch"] == "mixed"  # does not vary
    assert "optim.kind" not in found
    assert set(signs(frame(study(trial(0, 2.0)))).values()) == {"mixed"}
    again = [trial(100 + n, 1.0, facts={REPEAT: 0}, optim_lr=1e-2) for n in range(9)]
    assert signs(frame(study(*trials, *again))) == found
    assert witnesses(frame(study(*trials, *again))) == len(trials)


def test_two_methods_judge_a_real_store(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path / 'tuner.db'}"
    spec = parse(YAML.replace("trials: 24", "trials: 12, sampler: random"))
    search = Search(spec, open_storage(url, create=True))
    assert importance(url, "hand") == fanova(url, "hand") == {}
    for _ in range(12):
        asked = search.ask()
        search.tell(asked.number, Outcome(State.COMPLETE), 1 + float(asked.point["model.width"] or 0) / 100)
    slow = fanova(url, "hand", sample=10)
    assert sum(slow.values()) == pytest.approx(1)
    assert max(slow, key=lambda path: slow[path]) == "model.width"
    assert fanova(url, "hand", sample=10) == slow
    assert sum(importance(url, "hand").values()) == pytest.approx(1)
    assert optuna.get_all_study_names(f"sqlite:///{tmp_path / 'tuner.db'}") == ["hand"]


def test_a_disagreement_names_both() -> None:
    a, b = {"optim.lr": 0.7, "batch": 0.3}, {"batch": 0.6, "optim.lr": 0.4}
    assert disagree(a, a) == disagree({}, b) == disagree(a, {}) == ""
    assert "PED-ANOVA puts optim.lr first (70%), fANOVA batch (60%)" in disagree(a, b)


def test_equal_causes_are_one_row() -> None:
    record = study(
        trial(0, state="failed", reason="killed at step 120 of 4000"),
        trial(1, 2.0),
        trial(2, state="failed", reason="killed at step 7 of 1_000"),
        trial(3, state="diverged", reason="validation loss nan at milestone 2"),
        trial(4, state="failed"),
        trial(5, state="failed", reason="killed at step 1e3 of 4000"),
    )
    table = causes(frame(record))
    assert list(table.columns) == ["state", "reason", "count", "examples"]
    assert table["count"].to_list() == [3, 1, 1]
    assert table["examples"][0] == [0, 2, 5]
    assert table["reason"].to_list()[0] == "killed at step # of #"
    assert table["reason"].to_list()[2] == "no reason was given"


def test_a_region_of_failure_is_found_where_there_is_one() -> None:
    trials = [trial(n, state="failed", batch=16 if n else 4, reason="out of memory") for n in range(11)]
    trials += [trial(n, 2.0, batch=4 if n % 3 else 8) for n in range(11, 41)]
    record = study(*trials)
    assert region(record, frame(record)) == "10 of 11 failed have batch >= 16 (0 of 30 others do)"
    words = study(*(trial(n, None if n < 4 else 2.0, "failed" if n < 4 else "complete",
                          optim_kind="muon" if n < 4 else "adamw") for n in range(9)))  # fmt: skip
    assert region(words, frame(words)) == "4 of 4 failed have optim.kind muon (0 of 5 others do)"
    forbidden = study(
        *(trial(n, state="infeasible", reason="forbidden by 'x'", batch=16) for n in range(5)), *trials[12:]
    )
    assert region(forbidden, frame(forbidden)) == ""


@settings(max_examples=40)
@given(histories())
def test_every_history_can_be_asked(record: StudyRecord) -> None:
    table = frame(record)
    rows = causes(table)
    assert rows["count"].sum() == table["state"].isin(("failed", "diverged", "infeasible")).sum()
    assert isinstance(region(record, table), str)
    assert set(signs(table).values()) <= {"lower", "higher", "mixed"}
    for edge in edges(record, table):
        assert 0 < edge.hits <= edge.of
    assert narrowed(record, table) == "" or with_space(narrowed(record, table))
