"""fit, for real on a small text: what it reports, how it ends, and that an interruption changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tuner.spec.disk import bytes_in
from tuner.spec.errors import CheckpointError
from tuner.spec.records import Measurement, Outcome, Preparing, Started, State, Verdict
from tuner.spec.trial import TrialSpec
from tuner.train import checkpoint
from tuner.train.fit import Place, fit
from tuner.train.model.memory import checkpoint_bytes
from tuner.train.text.corpus import open_corpus

MILESTONES = 4


class Recorder:
    """A link that keeps what it hears and stops or interrupts where a test says so."""

    def __init__(self, stop_at: int | None = None, interrupt_after: int | None = None) -> None:
        self.stop_at, self.interrupt_after, self.asked = stop_at, interrupt_after, 0
        self.rows: list[Measurement] = []
        self.facts: list[Started] = []

    def preparing(self, work: Preparing) -> None:
        pass

    def started(self, started: Started) -> None:
        self.facts.append(started)

    def report(self, measurement: Measurement) -> Verdict:
        self.rows.append(measurement)
        stop = measurement.milestone is not None and measurement.milestone == self.stop_at
        return Verdict.STOP if stop else Verdict.CONTINUE

    def interrupted(self) -> bool:
        self.asked += 1
        return self.interrupt_after is not None and self.asked > self.interrupt_after

    @property
    def milestones(self) -> dict[int, float]:
        return {row.milestone: row.metrics["val_loss"] for row in self.rows if row.milestone is not None}


@pytest.fixture
def spec(text_file: Path) -> Callable[..., TrialSpec]:
    def build(**changes: Any) -> TrialSpec:
        base: dict[str, Any] = {
            "data": {"source": "text", "path": str(text_file), "tokenizer": {"kind": "char"}, "context": 16},
            "model": {"depth": 1, "width": 16, "dropout": 0.2},
            "batch": 8,
            "budget": "5120 tokens",  # 40 steps
        }
        return TrialSpec.model_validate(base | changes)

    return build


def train(spec: TrialSpec, place: Place, **link: Any) -> tuple[Outcome, Recorder]:
    recorder = Recorder(**link)
    return fit(spec, MILESTONES, place, recorder), recorder


def final_state(place: Place) -> tuple[dict[str, torch.Tensor], Any]:
    newest = checkpoint.sound(place.folder)[0]
    return newest.weights(), newest.state()


def assert_same_state(one: Place, other: Place) -> None:
    (weights, state), (others, other_state) = final_state(one), final_state(other)
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert torch.equal(state["cpu_rng"], other_state["cpu_rng"])
    for mine, theirs in zip(state["optimizers"], other_state["optimizers"], strict=True):
        for key, moments in mine["state"].items():
            assert all(torch.equal(moments[name], theirs["state"][key][name]) for name in moments)


def test_a_trial_reports_every_milestone_and_learns(spec: Any, place: Any) -> None:
    outcome, link = train(spec(), place("a"))
    assert outcome.state is State.COMPLETE
    assert list(link.milestones) == [1, 2, 3, 4]
    assert link.milestones[4] < link.milestones[1] < math.log(30)
    last = link.rows[-1]
    assert (last.spent.steps, last.spent.tokens) == (40, 5120)
    assert last.spent.flops == 5120 * link.facts[0].facts["flops_per_token"]
    assert last.metrics["val_perplexity"] == pytest.approx(math.exp(last.metrics["val_loss"]))
    assert last.metrics["val_bpb"] == pytest.approx(last.metrics["val_loss"] / math.log(2), rel=1e-3)  # ASCII
    wanted = {"train_loss", "lr", "grad_norm", "tokens_per_second", "memory_mb"}
    assert all(wanted <= set(row.metrics) for row in link.rows)
    saved = checkpoint.verify(checkpoint.checkpoints(place("a").folder) / str(outcome.checkpoint))
    assert saved.sha256 == outcome.sha256


@pytest.mark.parametrize(
    "around",
    [
        {
            "SLURM_NTASKS": "4",
            "SLURM_JOB_NAME": "night",
            "SLURM_JOB_ID": "7",
            "SLURM_PROCID": "3",
            "SLURM_LOCALID": "3",
        },
        {"TORCHELASTIC_RUN_ID": "7", "WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "3"},
    ],
)
def test_a_batch_system_around_it_changes_nothing(
    spec: Any, place: Any, monkeypatch: pytest.MonkeyPatch, around: dict[str, str]
) -> None:
    for name, value in around.items():
        monkeypatch.setenv(name, value)
    outcome, _ = train(spec(), place("a"))
    assert outcome.state is State.COMPLETE


def test_the_same_spec_gives_the_same_weights(spec: Any, place: Any) -> None:
    train(spec(), place("a"))
    train(spec(), place("b"))
    assert_same_state(place("a"), place("b"))


def exact(rows: list[Measurement]) -> dict[tuple[int, str], float]:
    """(step, metric) -> value, of every metric that does not measure time or memory."""
    measured = ("tokens_per_second", "memory_mb", "latency_ms")
    return {(r.spent.steps, k): v for r in rows for k, v in r.metrics.items() if k not in measured}


def assert_resumes(trial: TrialSpec, place: Callable[[str], Place], after: int = 17) -> tuple[Recorder, Recorder]:
    """Interrupted and gone on with, a trial ends as it does whole; the whole one's recorder, and that of its rest."""
    _, whole = train(trial, place("whole"))
    _, first = train(trial, place("cut"), interrupt_after=after)
    outcome, rest = train(trial, place("cut"))
    assert outcome.state is State.COMPLETE
    assert_same_state(place("whole"), place("cut"))
    assert exact(first.rows + rest.rows) == exact(whole.rows)
    return whole, rest


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("after", [1, 7, 12, 23, 41])
def test_an_interrupted_trial_ends_bit_identical(spec: Any, place: Any, after: int, optimizer: str) -> None:
    """Cut in mid-epoch, between two rows, and (12, 23) in the middle of an evaluation; dropout is on."""
    trial = spec(optim={"kind": optimizer})
    _, whole = train(trial, place("whole"))
    outcome, first = train(trial, place("cut"), interrupt_after=after)
    assert outcome.state is State.INTERRUPTED
    outcome, second = train(trial, place("cut"))
    assert outcome.state is State.COMPLETE
    assert 0 < (second.facts[0].resumed_from or 0) < 40
    assert_same_state(place("whole"), place("cut"))
    assert exact(first.rows + second.rows) == exact(whole.rows)


def test_a_disturbed_and_smoothed_trial_ends_bit_identical_too(spec: Any, place: Any) -> None:
    data = spec().data.model_dump() | {"augment": {"mask": 0.1, "swap": 0.1, "shuffle": 0.1, "delete": 0.1}}
    trial = spec(data=data, optim={"label_smoothing": 0.1}, accumulate=2)
    _, whole = train(trial, place("whole"))
    train(trial, place("cut"), interrupt_after=17)
    _, rest = train(trial, place("cut"))
    assert 0 < (rest.facts[0].resumed_from or 0) < 40
    assert_same_state(place("whole"), place("cut"))
    assert whole.milestones[4] < whole.milestones[1]
    assert whole.milestones != train(spec(), place("plain"))[1].milestones


def test_pruned_trials_end_at_their_milestone_with_a_checkpoint(spec: Any, place: Any) -> None:
    outcome, link = train(spec(), place("a"), stop_at=2)
    assert outcome.state is State.PRUNED
    assert "milestone 2" in outcome.reason
    assert list(link.milestones) == [1, 2]
    assert checkpoint.sound(place("a").folder)[0].reached == 2


def test_a_verdict_lost_in_a_crash_is_asked_for_again(spec: Any, place: Any) -> None:
    train(spec(), place("a"), stop_at=2)
    outcome, link = train(spec(), place("a"), stop_at=2)
    assert outcome.state is State.PRUNED
    assert [row.milestone for row in link.rows] == [2]


def test_a_finished_trial_run_again_only_reports_its_end(spec: Any, place: Any) -> None:
    first, whole = train(spec(), place("a"))
    again, link = train(spec(), place("a"))
    assert again == first
    assert [row.milestone for row in link.rows] == [4]
    assert link.rows[0] == whole.rows[-1]


def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(spec: Any, place: Any) -> None:
    _, whole = train(spec(), place("whole"))
    train(spec(), place("a"), interrupt_after=30)
    newest, older = checkpoint.sound(place("a").folder)[:2]
    weights = newest.folder / checkpoint.WEIGHTS
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    outcome, link = train(spec(), place("a"))
    assert outcome.state is State.COMPLETE
    assert link.facts[0].resumed_from == older.spent.steps < newest.spent.steps
    assert link.milestones[4] == whole.milestones[4]
    assert_same_state(place("whole"), place("a"))


def test_divergence_is_an_outcome(spec: Any, place: Any) -> None:
    outcome, _ = train(spec(optim={"lr": 1e30, "warmup": 0.0, "clip": None}), place("a"))
    assert outcome.state is State.DIVERGED
    assert "loss" in outcome.reason


def test_more_milestones_than_steps_are_all_reported(spec: Any, place: Any) -> None:
    outcome, link = train(spec(budget="256 tokens"), place("a"))  # 2 steps
    assert outcome.state is State.COMPLETE
    assert list(link.milestones) == [1, 2, 3, 4]


def test_a_budget_in_seconds_stops_by_the_clock(spec: Any, place: Any) -> None:
    outcome, link = train(spec(budget="0.4 s"), place("a"))
    assert outcome.state is State.COMPLETE
    assert list(link.milestones) == [1, 2, 3, 4]
    assert 0.4 <= link.rows[-1].spent.seconds < 1.0


def test_a_folder_of_another_trial_is_refused(spec: Any, place: Any) -> None:
    train(spec(), place("a"), stop_at=1)
    with pytest.raises(CheckpointError, match="another trial"):
        train(spec(batch=4), place("a"))


def test_last_and_best_are_kept_and_nothing_else(spec: Any, place: Any) -> None:
    # a rate that ruins the model late: the best checkpoint is not the last
    trial = spec(optim={"lr": 3e-2, "schedule": "constant", "warmup": 0.9, "clip": None, "weight_decay": 0})
    outcome, link = train(trial, place("a"))
    best = min(link.milestones, key=lambda k: link.milestones[k])
    kept = [saved.folder.name for saved in checkpoint.sound(place("a").folder)]
    assert outcome.checkpoint == f"step-{best * 10:08d}"
    assert kept == sorted({"step-00000040", outcome.checkpoint}, reverse=True)


@pytest.mark.parametrize("kind", ["muon", "adamw", "adafactor"])
def test_checkpoints_take_at_most_what_is_foretold(spec: Any, place: Any, kind: str) -> None:
    model = {"depth": 3, "width": 96, "kv_heads": 1, "conv": 3, "smear": True}
    given = spec(model=model, optim={"kind": kind}, budget="640 tokens")
    assert train(given, place("a"))[0].state is State.COMPLETE
    vocab = open_corpus(given.data, place("a").corpora).info.vocab
    sizes = [bytes_in(folder) for folder in checkpoint.checkpoints(place("a").folder).glob("step-*")]
    assert max(sizes) <= checkpoint_bytes(given, vocab) <= 1.2 * max(sizes)
