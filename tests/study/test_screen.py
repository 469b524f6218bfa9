"""What a person sees: the plan's numbers, the live lines within 80 columns, the summary, humane words."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tuner.analysis import words
from tuner.search.asktell import Search
from tuner.search.history import IMPORTED
from tuner.search.store.address import MEMORY_URL
from tuner.search.store.storage import open_storage
from tuner.spec.load import load, parse
from tuner.spec.records import Measurement, Outcome, Preparing, Spent, Started, State
from tuner.study.plan import cost, known_speed, make_plan, remember_speed
from tuner.study.show.preview import print_plan
from tuner.study.show.screen import Screen
from tuner.study.show.summary import print_summary, print_trial, print_trials

SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))
YAML = """
name: seen
space:
  optim.lr: {float: [1e-4, 1e-1], log: true}
  model.depth: {int: [2, 8]}
study: {trials: 6, milestones: 4}
"""


def console(terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=terminal, color_system=None)


def text(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


def measured(steps: int, milestone: int | None, loss: float) -> Measurement:
    metrics = {"tokens_per_second": 12_345.0} | ({"val_loss": loss} if milestone else {})
    return Measurement(Spent(steps, steps * 2048, 1e9 * steps, steps * 0.1), metrics, milestone)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_plan_fits_eighty_columns(path: Path, text_file: Path) -> None:
    over = [f"trial.data.path={text_file}"] if load(path).trial.data.source == "text" else []
    spec, on = load(path, over), console()
    print_plan(on, spec, make_plan(spec, Path("runs"), []), "sqlite:///tuner.db", "sqlite:///mlflow.db")
    assert max(map(len, text(on).splitlines())) <= 80
    for word in (spec.name, "parameters", "worker", "memory", "disk", "time"):
        assert word in text(on)


def test_tokens_are_foretold_exactly_and_never_below_the_budget() -> None:
    spec = parse("name: s\ntrial: {batch: 7, budget: 100k tokens}").trial
    foretold = cost(spec, 1024)
    assert foretold.steps == -(-100_000 // (7 * 128))
    assert foretold.tokens == foretold.steps * 7 * 128
    assert foretold.flops == foretold.tokens * foretold.shape.flops_per_token


def test_live_lines_fit_eighty_columns_and_say_where_each_worker_is() -> None:
    on = console(terminal=True)
    screen = Screen(parse(YAML), on, 0, None)
    screen.preparing(0, Preparing("tokenising Python's standard library, all of it and more", 0.31))
    screen.started(123, {"optim.lr": 1e-3}, Started({}, {"steps": 488}))
    screen.measured(123, measured(120, 1, 4.5678))
    screen.measured(123, measured(244, 2, 3.4567))
    on.print(screen.render())
    shown = text(on)
    assert max(map(len, shown.splitlines())) <= 80
    for word in ("31%", "123", "2/4", "3.457", "12.3k", "0 of 6 trials"):
        assert word in shown


def test_each_end_is_said_with_its_reason() -> None:
    on = console()
    screen = Screen(parse(YAML), on, 0, None)
    screen.measured(1, measured(120, 1, 4.5678))
    screen.ended(1, Outcome(State.PRUNED, "by the pruner"), None)
    screen.ended(2, Outcome(State.FAILED, "ValueError: [bold]x[/bold]"), None)
    screen.ended(3, Outcome(State.COMPLETE), 2.34567)
    assert "trial 1 pruned val_loss 4.568 at milestone 1" in text(on)
    assert "trial 2 failed: ValueError: [bold]x[/bold]" in text(on)
    assert "trial 3 complete val_loss 2.346  (best 2.346, trial 3)" in text(on)


def test_the_summary_names_the_best_the_counts_and_the_next_commands() -> None:
    search = Search(parse(YAML), open_storage(MEMORY_URL))
    for number in range(5):
        search.ask()
        search.report(number, measured(100, 1, 4.0 - number / 10))
        state = State.PRUNED if number == 4 else State.COMPLETE
        search.tell(number, Outcome(state, "why"), 3.0 - number / 10)
    search.ask()
    search.tell(5, Outcome(State.FAILED, "a bug"))
    record, on = search.record(), console()
    print_summary(on, record, {"optim.lr": 0.75, "model.depth": 0.25}, 123.0, "runs")
    print_trials(on, record)
    print_trial(on, record, record.trials[3])
    shown = text(on)
    for word in (
        "4 complete, 1 pruned, 1 failed",
        "2 min 3 s",
        "optim.lr 75%",
        "tuner show seen 3",
        "trial 5 failed: a bug",
    ):
        assert word in shown
    lines = [line.split() for line in shown.splitlines()]
    assert next(line for line in lines if line[:1] == ["3"])[1] == "complete"
    assert [line[0] for line in lines if len(line) > 4 and line[0].isdigit()][:5] == ["3", "2", "1", "0", "4"]


def test_a_measured_speed_makes_the_next_plan() -> None:
    search = Search(parse(YAML), open_storage(MEMORY_URL))
    search.ask()
    search.report(0, measured(100, 1, 4.0))
    search.tell(0, Outcome(State.COMPLETE), 4.0)
    Path("runs").mkdir()
    assert known_speed(Path("runs"), 2) is None
    remember_speed(Path("runs"), 2, search.record())
    assert known_speed(Path("runs"), 2) == pytest.approx(1e11 / 10)
    plan = make_plan(parse(YAML), Path("runs"), [])
    assert plan.measured or plan.slots != 2


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.loss(1.23456), "1.235"),
        (words.loss(None), "-"),
        (words.loss(2.0), "2.000"),
        (words.setting(0.0031622), "0.0032"),
        (words.setting(16), "16"),
        (words.setting(True), "True"),
        (words.count(1_234_567), "1.23M"),
        (words.size(1_234_567), "1.23 MB"),
        (words.duration(59.7), "1 min"),
        (words.duration(3725), "1 h 2 min"),
        (
            words.point({"optim.lr": 0.01, "optim.muon.lr": 0.02, "batch": 8}),
            "lr 0.01  muon.lr 0.02  batch 8",
        ),
    ],
)
def test_numbers_are_said_humanely(said: str, expected: str) -> None:
    assert said == expected


def test_a_plan_takes_no_longer_than_the_studys_total() -> None:
    spec = parse("name: s\nstudy: {trials: 1000, totals: {seconds: 10 min}}\ntrial: {budget: 90 s}")
    assert make_plan(spec, Path("runs"), []).seconds == 600


def test_workers_have_whole_trials() -> None:
    """Three trials of 90 s by two workers take three minutes."""
    spec = parse("name: s\nstudy: {trials: 3, workers: 2}\ntrial: {budget: 90 s}")
    assert make_plan(spec, Path("runs"), []).seconds == 180


def test_each_tokenizer_has_its_own_vocabulary() -> None:
    text = "name: s\nspace: {data.tokenizer.vocab: {choice: [512, 16384]}}\nstudy: {metric: val_bpb}"
    plan = make_plan(parse(text), Path("runs"), [])
    assert plan.largest - plan.smallest >= (16384 - 512) * parse(text).trial.model.width


def test_the_speed_of_another_studys_machine_is_not_this_ones() -> None:
    search = Search(parse(YAML), open_storage(MEMORY_URL))
    search.ask()
    search.note(0, {IMPORTED: "other/0"})
    search.report(0, measured(100, 1, 4.0))
    search.tell(0, Outcome(State.COMPLETE), 4.0)
    Path("runs").mkdir(exist_ok=True)
    remember_speed(Path("runs"), 3, search.record())
    assert known_speed(Path("runs"), 3) is None


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ("space={}", "nothing is searched, so 23 of 24 trials run one again"),
        ("space={model.depth: {int: [1, 4]}}", "the space has 4 points, so 20 of 24 trials run one again"),
        ("space={seed: {int: [1, 100]}}", None),
        ("space={optim.lr: {float: [1e-4, 1e-2]}}", None),
    ],
)
def test_trials_that_would_be_repeats_are_foretold(over: str, said: str | None) -> None:
    spec, on = parse("name: s\nstudy: {trials: 24}", overrides=[over]), console()
    print_plan(on, spec, make_plan(spec, Path("runs"), []), "sqlite:///tuner.db", "sqlite:///mlflow.db")
    shown = " ".join(text(on).split())
    assert said in shown if said else "run one again" not in shown


def test_the_checkpoint_of_a_trial_from_elsewhere_is_where_it_was_trained() -> None:
    search = Search(parse(YAML), open_storage(MEMORY_URL))
    search.ask()
    search.note(0, {IMPORTED: "base2/7"})
    search.report(0, measured(100, 1, 4.0))
    search.tell(0, Outcome(State.COMPLETE, "", "runs/base/3/checkpoints/step-100", "ab"), 4.0)
    on = console()
    print_summary(on, search.record(), {}, 1.0, "runs")
    assert "checkpoint of the best: runs/base/3/checkpoints, as long as" in " ".join(text(on).split())
