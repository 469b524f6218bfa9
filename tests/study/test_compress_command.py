"""``tuner compress`` as a person types it: a study is written, run and gone on with; the table tells of both ends."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import small_study
from commands import TUNER, run

from tuner.spec.load import parse
from tuner.spec.trial import TrialSpec
from tuner.study.compress.space import compress_yaml

FEW = ["--set", "study.trials=4", "--set", "study.milestones=2", "--set", "study.samples=0"]


@pytest.mark.long
def test_a_model_is_made_smaller(tmp_path: Path, text_file: Path) -> None:
    folder = small_study.finished(tmp_path, text_file)
    ended = run(folder, *TUNER, "compress", "small/1", *FEW)
    said = " ".join(ended.stdout.split())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "the study is written to compress-small-1.yaml" in said
    assert "before and after" in said
    assert "gap test file share params zeros tokens/s" in said
    (row,) = [line.split() for line in ended.stdout.splitlines() if re.match(r"before +\d", line)]
    assert len(row) == 10
    samples = [line for line in ended.stdout.splitlines() if re.match(r"(before|trial \d+): .", line)]
    assert len(samples) >= 2
    assert "without a checkpoint" not in said
    assert "tuner promote compress-small-1 TRIAL" in said
    trials = json.loads(run(folder, *TUNER, "trials", "compress-small-1", "--json").stdout)
    assert len(trials) == 4
    whole = json.loads(run(folder, *TUNER, "show", "small", "1", "--json").stdout)
    assert all(trial["facts"]["bytes"] < whole["facts"]["bytes"] for trial in trials if small(trial["point"]))
    again = run(folder, *TUNER, "compress", "small/1", *FEW)
    assert again.returncode == 0
    assert "is complete" in again.stdout
    assert "before and after" in again.stdout
    best = trials[0]["number"]
    ended = run(folder, *TUNER, "export", f"compress-small-1/{best}", tmp_path / "out")
    assert ended.returncode == 0, ended.stderr
    ended = run(folder, *TUNER, "generate", tmp_path / "out", "--max-tokens", "5")
    assert ended.returncode == 0, ended.stderr


def small(point: dict[str, object]) -> bool:
    return point["compress.bits"] != 32


@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("model", [{"depth": 1, "width": 16, "heads": 1}, {"depth": 5, "width": 64, "kv_heads": 1}, {}])
def test_what_is_written_is_a_study(kind: str, model: dict[str, object]) -> None:
    trial = TrialSpec.model_validate({"model": model, "optim": {"kind": kind}, "budget": "1M tokens", "batch": 4})
    text = compress_yaml("compress-x", "models:/x@champion", trial)
    spec = parse(text)
    assert spec.study.against == "bytes"
    assert (spec.trial.init.source, spec.trial.init.take) == ("models:/x@champion", "part")
    assert spec.trial.budget.amount == 200_000
    paths = dict(spec.space.items())
    assert ("model.depth" in paths) == (trial.model.depth > 1)
    assert ("model.heads" in paths) == (trial.model.kv_head_count == trial.model.head_count > 1)
    assert ("optim.muon.lr" in paths) == (kind == "muon")


def test_a_classifier_stays_one() -> None:
    data = {"source": "csv", "path": "a.csv", "column": "text", "label": "kind"}
    trial = TrialSpec.model_validate({"task": "classify", "data": data, "classify": {"pool": "mean"}})
    spec = parse(compress_yaml("compress-x", "models:/x@champion", trial)).trial
    assert (spec.task, spec.classify, spec.data.label) == ("classify", trial.classify, "kind")
    assert not spec.optim.distil.weight
