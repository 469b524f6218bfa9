"""What a plan foretells is what a real worker then takes: FLOPs, tokens and peak memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuner.run.hands.link import DataJob, TrialJob
from tuner.run.hands.local import LocalWorkers
from tuner.run.hands.once import call
from tuner.spec.load import parse
from tuner.spec.parts.model import ModelSpec
from tuner.spec.records import Measurement, Outcome, State, Verdict
from tuner.spec.trial import TrialSpec
from tuner.study.plan import make_plan
from tuner.train.model.memory import evaluation_tokens, memory_bytes, saved

pytestmark = pytest.mark.alone

TEXT = "To be, or not to be: that is the question.\n" * 4000

TRIALS: dict[str, dict[str, Any]] = {
    "modern": {"model": {"depth": 4, "width": 128}, "batch": 12},
    "classic, AdamW": {"recipe": "classic", "model": {"depth": 2, "width": 256}, "batch": 32},
    "bf16, grouped heads": {"model": {"depth": 3, "width": 256, "kv_heads": 2}, "batch": 24, "precision": "bf16"},
    "many weights": {"model": {"depth": 2, "width": 512}, "batch": 1, "optim": {"kind": "adamw"}},
}


def run(
    spec: TrialSpec, folder: Path, milestones: int = 2, verdict: Verdict = Verdict.CONTINUE
) -> tuple[Measurement, float]:
    """The last measurement of a trial in a worker of its own, and its peak memory in bytes."""
    call(DataJob(spec.data, folder / "corpora"))
    hands, last, peak = LocalWorkers(["cpu"], 1), None, 0.0
    hands.start(TrialJob(0, spec, milestones, folder / "trial", folder / "corpora", "test"))
    while True:
        for event in hands.wait(60):
            match event.message:
                case Measurement() as last:
                    peak = max(peak, 1e6 * last.metrics.get("memory_mb", 0))
                    if last.milestone is not None:
                        hands.answer(0, verdict)
                case Outcome() as outcome:
                    wanted = State.COMPLETE if verdict is Verdict.CONTINUE else State.PRUNED
                    assert outcome.state is wanted, outcome.reason
                    assert last is not None
                    return last, peak


@pytest.mark.parametrize("name", TRIALS)
def test_a_plan_foretells_flops_tokens_and_memory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    trial = TRIALS[name]
    data = {"source": "text", "path": "text.txt", "tokenizer": {"kind": "char"}, "context": 64, "val_tokens": 4096}
    spec = parse(
        str({"name": "plan", "trial": {**trial, "data": data, "budget": f"{trial['batch'] * 64 * 12} tokens"}})
    )
    foretold = make_plan(spec, Path("runs"), []).base
    last, peak = run(spec.trial, tmp_path)
    assert last.spent.tokens == foretold.tokens
    assert last.spent.steps == foretold.steps
    assert last.spent.flops == pytest.approx(foretold.flops, rel=0.01)
    assert foretold.memory == pytest.approx(peak, rel=0.15)


def test_what_a_probe_tries_is_within_the_memory_foretold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    data = {"source": "text", "path": "text.txt", "tokenizer": {"kind": "char"}, "context": 64, "val_tokens": 4096}
    trial = {"model": {"depth": 3, "width": 256}, "batch": 16, "precision": "auto", "budget": "4M tokens", "data": data}
    spec = parse(str({"name": "plan", "trial": trial}))
    foretold = make_plan(spec, Path("runs"), []).base
    last, peak = run(spec.trial, tmp_path, milestones=400, verdict=Verdict.STOP)
    assert last.spent.steps < 20
    (note,) = (path for path in (tmp_path / ".machine").glob("*.json") if not path.name.startswith("memory-"))
    assert "bf16" in note.read_text()
    assert foretold.memory == pytest.approx(peak, rel=0.15)


def test_an_evaluation_never_takes_much_more_than_a_step_nor_huge_logits() -> None:
    spec = TrialSpec(model=ModelSpec(depth=4), batch=12)
    assert evaluation_tokens(spec, 1, 65) == 12 * 128 * 4
    assert evaluation_tokens(spec, 12, 65) == 2048
    assert evaluation_tokens(spec.model_copy(update={"batch": 512}), 1, 65) == 8192
    assert evaluation_tokens(spec, 1, 100_000) * 100_000 * 4 <= 128 * 2**20


def test_more_micro_batches_take_less_memory() -> None:
    spec = TrialSpec(batch=256)
    sizes = [memory_bytes(spec.model_copy(update={"accumulate": parts}), 1024) for parts in (1, 2, 4, 8)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4


def test_fewer_key_and_value_heads_save_less() -> None:
    assert saved(ModelSpec(heads=4, kv_heads=1), 64) < saved(ModelSpec(heads=4), 64)
