"""The benches at their smallest: the bare loop really learns, the commands print the ratios they promise."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tuner.bench import lab, shapes
from tuner.bench.bare import evaluate
from tuner.bench.lab import Case
from tuner.cli.main import app
from tuner.spec.errors import TunerError
from tuner.spec.parts.data import DataSpec
from tuner.spec.parts.model import ModelSpec
from tuner.spec.trial import TrialSpec
from tuner.tracking.base import NullTracker
from tuner.train.model.gpt import GPT
from tuner.train.text.corpus import open_corpus
from tuner.train.text.cursor import evaluation_windows

TINY = Case(depth=1, width=16, batch=4, context=16, steps=20)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_the_bare_loop_learns_and_tells_its_times(kind: str, text_file: Path, tmp_path: Path) -> None:
    data = DataSpec.model_validate(
        {"source": "text", "path": str(text_file), "tokenizer": {"kind": "char"}, "context": 32, "val_tokens": 1024}
    )
    info = open_corpus(data, tmp_path).info
    trial = TrialSpec.model_validate(
        {"data": data, "model": {"depth": 1, "width": 32}, "optim": {"kind": kind, "lr": 1e-2}, "batch": 8}
    )
    job = {
        "trial": trial.as_data(), "corpus": info.folder, "vocab": info.vocab,
        "steps": 60, "evaluations": 4, "threads": 1,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "tuner.bench.bare", json.dumps(job)], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    assert set(told) == {"seconds", "training", "val_loss"}
    assert 0 < told["training"] < told["seconds"]
    assert len(told["val_loss"]) == 4
    assert told["val_loss"][-1] < told["val_loss"][0] - 0.3


@pytest.mark.parametrize(("limit", "count"), [(None, 5000), (1000, 5000), (1000, 700)])
def test_both_sides_evaluate_the_same_tokens(limit: int | None, count: int) -> None:
    context, ids = 32, np.random.default_rng(1).integers(50, size=count, dtype=np.uint16)
    gpt = GPT(ModelSpec(depth=1, width=16, zero_init=False), 50, context)
    total, seen = 0.0, 0
    for x, y in evaluation_windows(ids, context, limit):
        if x.shape[1] == context:  # the bare loop leaves out what is shorter at the end
            total += gpt.loss(torch.from_numpy(x), torch.from_numpy(y), reduction="sum").item()
            seen += y.size
    bare_loss = evaluate(gpt, torch.from_numpy(ids.astype(np.int64)), context, limit)
    assert bare_loss == pytest.approx(total / seen, rel=1e-5)


def test_ways_use_no_more_cores_than_there_are() -> None:
    assert shapes.ways(1) == [(1, 1)]
    assert shapes.ways(2) == [(1, 1), (1, 2), (2, 1)]
    assert shapes.ways(6) == [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1)]


@pytest.mark.long
def test_shapes_print_a_line_of_ratios_for_each_case(capsys: pytest.CaptureFixture[str]) -> None:
    shapes.compare_precisions(1, [TINY], threads=1)
    shapes.compare_ways(1, [TINY], [(1, 1), (2, 1)])
    precision_title, precision, ways_title, *ways = capsys.readouterr().out.splitlines()
    assert precision_title.split()[-6:] == ["fp32", "bf16", "auto/fp32", "auto/bf16", "auto", "chose"]
    assert re.fullmatch(r"1 x 16, batch 4 x 16( +[\d,]+){3}( +\d+\.\d\d){2} +\w+", precision)
    assert ways_title.endswith("against 1x1")
    assert re.fullmatch(r"1 x 16, batch 4 x 16 +1x1 +[\d,]+ +1\.00", ways[0])
    assert re.fullmatch(r"1 x 16, batch 4 x 16 +2x1 +[\d,]+ +\d+\.\d\d", ways[1])
    assert len(ways) == 2


def test_a_trial_that_does_not_complete_is_no_measurement() -> None:
    with lab.workplace():
        spec = lab.small_study(TINY)
        wild = spec.trial.optim.model_copy(update={"lr": 1e30})
        spec = spec.model_copy(update={"trial": spec.trial.model_copy(update={"optim": wild})})
        lab.prepare(spec)
        with pytest.raises(TunerError, match="was to complete and is diverged"):
            lab.run_study(spec, 1, 1, NullTracker(), lab.fresh())


@pytest.mark.slow
def test_a_trial_is_compared_with_the_bare_loop() -> None:
    small = ["--steps", "20", "--depth", "1", "--width", "16", "--context", "16", "--batch", "4"]
    before = Path.cwd()
    result = CliRunner().invoke(app, ["bench", "trial", "--pairs", "1", "--threads", "1", *small])
    assert result.exit_code == 0, result.output
    title, pair, median = result.output.splitlines()
    assert re.match(r"1 x 16, batch 4 x 16, vocabulary \d+, adamw: 20 steps and 10 evaluations", title)
    assert title.endswith("threads 1")
    both = r"[\d.]+ s, (bare loop )?[\d.]+ s, ratio \d+\.\d{3}"
    assert re.fullmatch(rf"pair 1: platform {both}; training alone {both}", pair)
    assert re.match(r"median of 1: the platform takes \d+\.\d{3} x the bare loop's time", median)
    assert Path.cwd() == before
    assert list(before.iterdir()) == []


def test_a_bench_that_cannot_run_says_why() -> None:
    result = CliRunner().invoke(app, ["bench", "trial", "--optim", "adafactor"])
    assert result.exit_code == 2
    assert "expected adamw or muon" in result.output
