"""One trial on two devices: the result of one device, one report, one verdict for all, and no process left behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tuner.run.hands.link import Exhausted, TrialJob
from tuner.run.hands.local import LocalWorkers, plan_slots
from tuner.run.hands.workers import Died
from tuner.spec.errors import InfeasibleError, SpecError, TunerError
from tuner.spec.load import parse
from tuner.spec.records import Measurement, Outcome, Started, State, Verdict
from tuner.spec.trial import TrialSpec

STEPS = 100


def trial(text: Path, devices: int, val_tokens: int = 2016, **changes: Any) -> TrialSpec:
    source = {"source": "text", "path": str(text), "tokenizer": {"kind": "char"}}
    data = {
        "data": {**source, "context": 32, "val_tokens": val_tokens},
        "model": {"depth": 2, "width": 32},
        "batch": 8,
        "budget": f"{STEPS * 8 * 32} tokens",
        "devices": devices,
    }
    return TrialSpec.model_validate({**data, **changes})


class Run:
    """A trial on real worker processes, heard to its end; ``act(measurement)`` returns the verdict at a milestone."""

    def __init__(
        self, spec: TrialSpec, folder: Path, act: Any = lambda hands, row: Verdict.CONTINUE, samples: int = 0
    ) -> None:
        hands = LocalWorkers(*plan_slots(1, [], 1, spec.devices), spec.devices)
        hands.start(TrialJob(0, spec, 4, folder / "0", folder / ".corpora", "test", samples))
        self.rows: list[Measurement] = []
        self.started: list[Started] = []
        self.end: Outcome | Exhausted | Died | None = None
        self.processes = [member.process.pid for member in hands._running[0].members]
        deadline = time.monotonic() + 100
        while self.end is None and time.monotonic() < deadline:
            for event in hands.wait(0.2):
                match event.message:
                    case Started() as started:
                        self.started.append(started)
                    case Measurement() as row:
                        self.rows.append(row)
                        if row.milestone is not None:
                            hands.answer(0, act(hands, row))
                    case Outcome() | Exhausted() | Died() as end:
                        self.end = end
        assert hands.idle == 1
        assert not any(psutil.pid_exists(pid) for pid in self.processes)

    @property
    def outcome(self) -> Outcome:
        assert isinstance(self.end, Outcome), self.end
        return self.end

    @property
    def losses(self) -> list[float]:
        return [row.metrics["val_loss"] for row in self.rows if row.milestone is not None]


@pytest.fixture(scope="module")
def two(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(trial(text_file, 2, recipe="classic"), tmp_path_factory.mktemp("two"))


def test_the_loss_is_that_of_one_device(two: Run, text_file: Path, tmp_path: Path) -> None:
    one = Run(trial(text_file, 1, recipe="classic"), tmp_path)
    assert two.outcome.state is one.outcome.state is State.COMPLETE
    assert two.rows[-1].spent.steps == one.rows[-1].spent.steps == STEPS
    assert two.rows[-1].spent.tokens == one.rows[-1].spent.tokens
    assert two.losses == pytest.approx(one.losses, rel=1e-5)
    rows = [[row.metrics["train_loss"] for row in run.rows] for run in (two, one)]
    assert rows[0] == pytest.approx(rows[1], rel=1e-5)
    print("largest difference", max(abs(a / b - 1) for a, b in zip(two.losses, one.losses, strict=True)))


@pytest.mark.long
def test_with_muon_it_is_that_of_one_device_in_as_many_micro_batches(text_file: Path, tmp_path: Path) -> None:
    """Muon makes as much of a gradient's rounding as of its rest: a batch in two parts is another run on one device."""
    runs = [Run(trial(text_file, devices, accumulate=2 // devices), tmp_path / str(devices)) for devices in (1, 2)]
    assert runs[1].losses == pytest.approx(runs[0].losses, rel=1e-5)


def test_micro_batches_are_added_up_on_each(two: Run, text_file: Path, tmp_path: Path) -> None:
    run = Run(trial(text_file, 2, recipe="classic", accumulate=2), tmp_path)
    assert run.losses == pytest.approx(two.losses, rel=1e-5)


def test_one_process_reports(two: Run) -> None:
    assert len(two.started) == 1
    assert two.started[0].facts["devices"] == 2
    assert [row.milestone for row in two.rows if row.milestone is not None] == [1, 2, 3, 4]
    assert len(two.rows) == 40


@pytest.mark.long
def test_a_budget_of_seconds_ends_for_both(text_file: Path, tmp_path: Path) -> None:
    run = Run(trial(text_file, 2, budget="1 s"), tmp_path)
    assert run.outcome.state is State.COMPLETE
    assert len(run.losses) == 4
    assert run.rows[-1].spent.seconds >= 1


def test_a_pruned_trial_ends_in_both_processes(text_file: Path, tmp_path: Path) -> None:
    run = Run(trial(text_file, 2), tmp_path, lambda hands, row: Verdict.STOP)
    assert run.outcome.state is State.PRUNED
    assert len(run.losses) == 1


@pytest.mark.long
def test_an_interrupted_trial_goes_on_to_the_same_bits(text_file: Path, tmp_path: Path) -> None:
    spec = trial(text_file, 2, model={"depth": 1, "width": 32, "dropout": 0.1})
    whole = Run(spec, tmp_path / "whole")

    def act(hands: LocalWorkers, row: Measurement) -> Verdict:
        if row.milestone == 2:
            hands.interrupt(0)
        return Verdict.CONTINUE

    first = Run(spec, tmp_path / "cut", act)
    assert first.outcome.state is State.INTERRUPTED
    rest = Run(spec, tmp_path / "cut")
    assert rest.started[0].resumed_from is not None
    assert rest.outcome.sha256 == whole.outcome.sha256
    assert rest.losses[-1] == whole.losses[-1]


@pytest.mark.long
@pytest.mark.parametrize("rank", [1, 0])
def test_one_process_killed_ends_the_trial_as_killed(text_file: Path, tmp_path: Path, rank: int) -> None:
    def act(hands: LocalWorkers, row: Measurement) -> Verdict:
        os.kill(hands._running[0].members[rank].process.pid or 0, signal.SIGKILL)
        return Verdict.CONTINUE

    run = Run(trial(text_file, 2), tmp_path, act)
    assert isinstance(run.end, Died)
    assert run.end.killed
    assert Run(trial(text_file, 2), tmp_path).outcome.state is State.COMPLETE


@pytest.mark.long
def test_what_one_process_cannot_hold_neither_can_the_trial(text_file: Path, tmp_path: Path) -> None:
    hands = LocalWorkers(["cpu", "cpu"], 1, 2)
    hands.start(TrialJob(0, trial(text_file, 2), 4, tmp_path / "0", tmp_path / ".corpora", "test", memory=10**8))
    ends = []
    while not ends:
        ends = [event.message for event in hands.wait(0.2) if isinstance(event.message, Exhausted | Outcome | Died)]
    assert isinstance(ends[0], Exhausted)
    assert hands.idle == 1


def test_slots_of_several_devices() -> None:
    gpus = [f"cuda:{index}" for index in range(5)]
    assert plan_slots(None, gpus, 9, 2)[0] == gpus[:4]
    assert plan_slots(1, gpus, 9, 2)[0] == gpus[:2]
    assert plan_slots(None, [], 9, 2)[0][:2] == ["cpu", "cpu"]
    with pytest.raises(TunerError, match=r"trial\.devices is 2, and this machine has 1: cuda:0"):
        plan_slots(None, gpus[:1], 9, 2)


def test_the_batch_divides_and_the_field_is_not_searched() -> None:
    with pytest.raises(SpecError, match="batch 9 does not divide into 2"):
        parse("name: a\ntrial: {batch: 9, devices: 2}")
    with pytest.raises(InfeasibleError, match="batch 3 does not divide"):
        parse("name: a\ntrial: {devices: 2}\nspace: {batch: {int: [3, 4]}}").resolve({"batch": 3})
    with pytest.raises(SpecError, match="it changes no result"):
        parse("name: a\nspace: {devices: {choice: [1, 2]}}")
    assert "devices" not in TrialSpec().as_data()  # trials from before there was the field keep their identity
    assert TrialSpec.model_validate(TrialSpec(devices=2).as_data()).devices == 2


def sharded(text: Path, **changes: Any) -> TrialSpec:
    return trial(text, 2, recipe="classic", strategy="fsdp", **changes)


@pytest.mark.long
def test_a_model_shared_out_comes_to_what_one_device_comes_to(text_file: Path, tmp_path: Path, two: Run) -> None:
    run = Run(sharded(text_file), tmp_path)
    assert run.outcome.state is State.COMPLETE, run.outcome.reason
    assert run.losses == pytest.approx(two.losses, rel=1e-5)
    rows = [[row.metrics["train_loss"] for row in one.rows] for one in (run, two)]
    assert rows[0] == pytest.approx(rows[1], rel=1e-5)
    parts = Run(sharded(text_file, accumulate=2), tmp_path / "parts")
    assert parts.losses == pytest.approx(two.losses, rel=1e-5)


@pytest.mark.slow
def test_a_shared_model_with_muon_samples_and_the_modern_recipe_is_that_of_two_whole_ones(
    text_file: Path, tmp_path: Path
) -> None:
    """But for what bfloat16 makes of another order of sums, within Muon."""
    runs = [Run(trial(text_file, 2, strategy=way), tmp_path / way, samples=1) for way in ("ddp", "fsdp")]
    assert runs[1].losses == pytest.approx(runs[0].losses, rel=2e-3)
    assert runs[1].rows[-1].samples
    assert runs[1].rows[-1].metrics["latency_ms"] > 0


@pytest.mark.long
def test_a_shared_trial_is_interrupted_goes_on_to_the_same_bits_and_is_pruned_on_both(
    text_file: Path, tmp_path: Path
) -> None:
    spec = sharded(text_file, val_tokens=32, model={"depth": 1, "width": 32, "dropout": 0.1})  # one window for two
    whole = Run(spec, tmp_path / "whole")

    def act(hands: LocalWorkers, row: Measurement) -> Verdict:
        if row.milestone == 2:
            hands.interrupt(0)
        return Verdict.CONTINUE

    assert Run(spec, tmp_path / "cut", act).outcome.state is State.INTERRUPTED
    rest = Run(spec, tmp_path / "cut")
    assert rest.outcome.sha256 == whole.outcome.sha256
    assert rest.losses[-1] == whole.losses[-1]
    assert Run(spec, tmp_path / "pruned", lambda hands, row: Verdict.STOP).outcome.state is State.PRUNED


@pytest.mark.parametrize(
    ("yaml", "sentence"),
    [
        ("{strategy: fsdp}", "devices is 1"),
        ("{strategy: fsdp, devices: 2, compile: true}", "leave compile out"),
        ("{strategy: fsdp, devices: 2, optim: {kind: adafactor}}", "take muon or adamw"),
        ("{strategy: pipeline}", "ddp"),
    ],
)
def test_what_cannot_be_shared_out_is_a_sentence(yaml: str, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        parse(f"name: a\ntrial: {yaml}")
