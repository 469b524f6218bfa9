"""A study resolves its points, knows what may not change, and comes back whole from its own YAML."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.spec.budget import Budget, Unit
from tuner.spec.errors import InfeasibleError, SpecError
from tuner.spec.load import dump, load, parse
from tuner.spec.study import StudySpec, differences
from tuner.spec.trial import TrialSpec

SPACES = Path(__file__).parents[2] / "search_spaces"
SHIPPED = sorted(SPACES.glob("*.yaml"))


def study(**changes: Any) -> StudySpec:
    data: dict[str, Any] = {
        "name": "base",
        "trial": {"model": {"heads": 4}},
        "space": {
            "optim.lr": {"float": [1e-4, 1e-2], "log": True},
            "model.width": {"int": [60, 128], "step": 2},
            "model.depth": {"int": [2, 8]},
            "batch": {"choice": [8, 64]},
        },
        "forbid": ["model.depth > 6 and batch > 32"],
    }
    return StudySpec.model_validate(data | changes)


def test_a_point_becomes_a_trial() -> None:
    spec = study()
    trial = spec.resolve({"optim.lr": 3e-3, "model.width": 64, "model.depth": 7, "batch": 8})
    assert (trial.optim.lr, trial.model.width, trial.model.depth, trial.batch) == (3e-3, 64, 7, 8)
    assert trial.optim.kind == spec.trial.optim.kind
    assert spec.resolve({}) == spec.trial
    assert TrialSpec.model_validate(trial.as_data()) == trial


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        (
            {"model.depth": 7, "batch": 64},
            "forbidden by 'model.depth > 6 and batch > 32': model.depth = 7, batch = 64",
        ),
        ({"model.width": 66}, "model: width 66 does not divide into 4 heads"),
        ({"model.width": 60}, "model: rotary positions need an even head width, got 15"),
    ],
)
def test_an_infeasible_point_says_why(point: dict[str, Any], reason: str) -> None:
    with pytest.raises(InfeasibleError) as caught:
        study().resolve(point)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("point", "words"),
    [({"optim.lrr": 1}, "Did you mean 'optim.lr'?"), ({"optim.lr": -1}, "a number above 0, got -1")],
)
def test_a_point_that_is_wrong_is_not_infeasible(point: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        study().resolve(point)
    assert words in str(caught.value)


def test_a_choice_that_no_trial_can_have_is_found_before_the_search() -> None:
    text = (
        "name: a\n"
        "trial: {data: {tokenizer: {kind: bpe, vocab: 1024}}}\n"
        "space:\n"
        "  data.tokenizer.kind: {choice: [bpe, byte]}\n"
        "study: {metric: val_bpb}\n"
    )
    with pytest.raises(SpecError, match=r"^a:4:39: space.data.tokenizer.kind.choice.1.: no trial can have it: .*vocab"):
        parse(text, "a")
    parse(text.replace(", vocab: 1024", ""))


def test_a_space_without_any_possible_point() -> None:
    with pytest.raises(SpecError, match=r"^a:2:8: space: no trial of this study is possible: forbidden by 'batch > 1'"):
        parse("name: a\nspace: {model.depth: {int: [2, 4]}}\nforbid: [batch > 1]", "a")


@pytest.mark.parametrize(
    ("space", "sampler", "words"),
    [
        ("{optim.lr: {float: [1e-4, 1e-2]}}", "grid", "space.optim.lr: the grid sampler needs a step"),
        ("{seed: {int: [0, 1000000]}}", "grid", "study.sampler: the grid has 1,000,001 points"),
        ("{}", "grid", "study.sampler: the grid sampler needs a space"),
        ("{batch: {choice: [8, 16]}}", "cmaes", "study.sampler: cmaes needs a float or int dimension"),
        ("{batch: {choice: [8, 16]}, seed: {int: [0, 9], when: {batch: 8}}}", "cmaes", "without 'when'"),
    ],
)
def test_a_sampler_that_cannot_do_it(space: str, sampler: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(f"name: a\nspace: {space}\nstudy: {{sampler: {sampler}}}", "a")
    assert words in str(caught.value)


def test_a_sampler_that_can() -> None:
    for step, sampler in ((", step: 0.05", "grid"), ("", "cmaes")):
        warmup = f"optim.warmup: {{float: [0, 0.2]{step}}}"
        parse(f"name: a\nspace: {{{warmup}, batch: {{choice: [8, 16]}}}}\nstudy: {{sampler: {sampler}}}")


def test_identity_is_what_may_not_change() -> None:
    spec = study()
    more = study(study={"trials": 99, "sampler": "random", "workers": 2, "keep": 1}, name="other")
    assert json.loads(json.dumps(spec.identity())) == spec.identity() == more.identity()
    assert differences(spec.identity(), more.identity()) == []


def test_differences_name_path_and_both_values() -> None:
    old, new = study(), study(
        trial={"model": {"heads": 4}, "batch": 8},
        space={"batch": {"choice": [8, 16]}, "model.width": {"int": [64, 128], "step": 8}},
        study={"milestones": 5, "metric": "val_bpb"},
    )  # fmt: skip
    found = differences(old.identity(), new.identity())
    assert "trial.batch: 16 before, 8 now" in found
    assert "space.batch.choice: [8, 64] before, [8, 16] now" in found
    assert "space.model.width.step: 2 before, 8 now" in found
    assert "space.optim.lr.float: [0.0001, 0.01] before, absent now" in found
    assert 'metric: "val_loss" before, "val_bpb" now' in found
    assert "milestones: 10 before, 5 now" in found
    assert not [line for line in found if "heads" in line]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_study(path: Path) -> None:
    spec = load(path)
    assert spec.name == path.stem
    assert parse(dump(spec)) == spec
    rng = random.Random(0)
    feasible = 0
    for _ in range(200):
        point = spec.walk(lambda _, dimension: dimension.draw(rng))
        try:
            trial = spec.resolve(point)
        except InfeasibleError:
            continue
        feasible += 1
        assert trial.budget == spec.trial.budget
        if "optim.muon.lr" in spec.space:
            assert ("optim.muon.lr" in point) == (trial.optim.kind == "muon")
    assert feasible > 150


def test_the_shipped_studies_are_those_of_the_plan() -> None:
    assert [path.stem for path in SHIPPED] == [
        "base", "compress", "gpu", "mine", "modern_cpu", "nanogpt_cpu", "scaling", "shakespeare", "smoke"
    ]  # fmt: skip
    base, compress, gpu, mine, modern, nanogpt, scaling, shakespeare, smoke = (load(path) for path in SHIPPED)
    assert (compress.trial.init.source, compress.trial.init.take) == ("base@champion", "part")
    assert compress.study.against == "bytes"
    assert set(base.space) == {"optim.lr", "optim.warmup", "batch", "model.depth", "model.width"}
    assert base.trial.budget.unit is Unit.TOKENS
    assert (gpu.trial.precision, gpu.study.trials) == ("bf16", 20)
    assert shakespeare.trial.data.split == (0.9, 0.1, 0.0)
    assert shakespeare.trial.budget.amount == 2000 * shakespeare.trial.tokens_per_step
    assert set(shakespeare.space) == {
        "recipe", "optim.lr", "optim.muon.lr", "optim.warmup", "optim.weight_decay", "batch"
    }  # fmt: skip
    assert smoke.study.trials == 6
    assert mine.trial.data.split[2] > 0  # what it finds can be promoted
    assert mine.study.repeats is not None
    assert not len(nanogpt.space)
    assert (nanogpt.study.trials, nanogpt.trial.recipe) == (1, "classic")
    assert (nanogpt.trial.tokens_per_step, nanogpt.trial.budget) == (768, shakespeare.trial.budget)
    assert nanogpt.trial.model == TrialSpec.model_validate({"recipe": "classic", "model": {"heads": 4}}).model
    assert modern.trial == TrialSpec.model_validate(
        {
            "data": shakespeare.trial.data,
            "model": {"heads": 4},
            "batch": 12,
            "budget": "1536k tokens",
            "precision": "fp32",
        }
    )
    assert scaling.trial.budget.unit is Unit.FLOPS
    assert set(scaling.space) == {"model.depth", "model.width"}
    elsewhere = load(SPACES / "shakespeare.yaml", ["trial.data.path=/data/books/*.txt"])
    assert elsewhere.trial.data.path == "/data/books/*.txt"


@settings(max_examples=150, deadline=None)
@given(
    lr=st.floats(1e-300, 1e300, allow_subnormal=False),
    tokens=st.integers(1, 10**15),
    path=st.text(
        st.characters(exclude_categories=("Cc", "Cs", "Cn"), exclude_characters="\ufeff\u2028\u2029"),
        min_size=1,
    ),
    clip=st.none() | st.floats(1e-3, 10),
    words=st.lists(
        st.sampled_from(["null", "~", "no", "1e-4", "", "a: b", "# x", "é", "x  y"]), unique=True, min_size=1
    ),
    disk=st.none() | st.integers(1, 2**53),
)
def test_dump_reads_back_equal(
    lr: float, tokens: int, path: str, clip: float | None, words: list[str], disk: int | None
) -> None:
    data = {
        "name": "no",
        "trial": {
            "data": {"source": "text", "path": path},
            "optim": {"lr": lr, "clip": clip},
            "budget": f"{tokens} tokens",
        },
        "space": {
            "data.tokenizer.path": {"choice": words, "when": {"data.tokenizer.kind": ["file"]}},
            "data.tokenizer.kind": {"choice": ["file", "byte"]},
            "optim.clip": {"choice": [None, lr]},
        },
        "study": {"disk": f"{disk} B" if disk else None, "metric": "val_bpb"},
    }
    spec = StudySpec.model_validate(data)
    assert parse(dump(spec)) == spec


@given(st.floats(1, 1e30), st.sampled_from(list(Unit)))
def test_a_budget_reads_back_equal(amount: float, unit: Unit) -> None:
    budget = Budget(amount, unit)
    assert Budget.parse(str(budget)) == budget


def test_the_spec_stands_on_pydantic_and_yaml_alone() -> None:
    code = "import sys, tuner.spec.load; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    heavy = {
        "torch",
        "numpy",
        "optuna",
        "mlflow",
        "lightning",
        "streamlit",
        "sqlalchemy",
        "datasets",
        "typer",
        "rich",
    }
    assert not loaded & heavy
