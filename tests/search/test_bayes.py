"""Our own sampler and pruner: a space as numbers and back, a model that knows what it does not know, forecasts that
admit their error, a first guess by the law, and points that rules allow.
"""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.bench.search.simulated import best_loss, expected_loss, simulate, simulated_spec
from tuner.search.asktell import Search
from tuner.search.bayes.forecast import NEEDED, Forecasts
from tuner.search.bayes.past import Seen
from tuner.search.bayes.places.axes import Axes, keys
from tuner.search.bayes.places.axis import INACTIVE
from tuner.search.bayes.process import Process
from tuner.search.bayes.propose import possible, propose
from tuner.search.store.address import MEMORY_URL
from tuner.search.store.storage import open_storage
from tuner.spec.errors import SpecError
from tuner.spec.load import parse
from tuner.spec.records import Measurement, Outcome, Spent, State
from tuner.spec.study import StudySpec

YAML = """
name: s
trial: {model: {depth: 4, width: 128}, data: {context: 64}, batch: 12, budget: 1536k tokens}
space:
  optim.lr:     {float: [1e-4, 1e-1], log: true}
  optim.warmup: {float: [0.0, 0.2], step: 0.05}
  batch:        {choice: [32, 8, 16]}
  model.depth:  {int: [2, 8]}
  optim.kind:   {choice: [adamw, muon]}
  optim.muon.lr: {float: [1e-3, 1e-1], log: true, when: {optim.kind: muon}}
  optim.clip:   {choice: [null, 1.0]}
forbid: ["model.depth > 6 and batch > 16"]
study: {milestones: 4}
"""
SPACES = [
    YAML,
    "name: s\nspace: {model.width: {int: [64, 512], step: 64}, optim.lr: {float: [1e-4, 1e-1], log: true}}",
    "name: s\nspace: {model.depth: {int: [1, 64], log: true}}",
    "name: s\nspace: {optim.schedule: {choice: [cosine, wsd, linear]}}",
]


@pytest.fixture(params=SPACES, ids=["mixed", "two", "one int", "words"])
def spec(request: pytest.FixtureRequest) -> StudySpec:
    return parse(request.param)


def drawn(spec: StudySpec, seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    return dict(spec.walk(lambda _, dimension: dimension.draw(rng)))


@pytest.mark.parametrize("seed", range(40))
def test_a_point_comes_back_from_its_numbers(spec: StudySpec, seed: int) -> None:
    axes, point = Axes(spec), drawn(spec, seed)
    row = axes.encode(point)
    assert row.shape == (axes.columns,)
    assert np.all((row >= 0) & (row <= 1))
    back = axes.decode(row)
    assert back.keys() == point.keys()
    for path, value in point.items():
        assert back[path] == (pytest.approx(value) if isinstance(value, float) else value)
        assert spec.space[path].holds(back[path])


def test_thousands_at_once_are_what_one_after_the_other_is(spec: StudySpec) -> None:
    axes, rng = Axes(spec), np.random.default_rng(0)
    places = axes.snap(np.vstack([axes.scatter(100, rng), rng.uniform(-0.2, 1.2, (100, axes.columns))]))
    points = [axes.decode(row) for row in places.rows]
    assert keys(places.rows) == keys(np.array([axes.encode(point) for point in points]))
    for path, dimension in spec.space.items():
        assert [path in point for point in points] == places.active[path].tolist()
        numbers = axes.numbers(path, places)
        for point, number in zip(points, numbers, strict=True):
            value = point.get(path, "none")
            if value is None:
                assert number == 0
            else:
                assert math.isnan(number) if isinstance(value, str) else number == pytest.approx(value)
            assert path not in point or dimension.holds(value)


def test_random_places_are_spread_as_random_points_are() -> None:
    spec = parse(SPACES[2])
    axes, rng = Axes(spec), random.Random(0)
    many = axes.numbers("model.depth", axes.snap(axes.scatter(20_000, np.random.default_rng(0))))
    one = [float(axes.draw(rng)["model.depth"] or 0) for _ in range(20_000)]
    for depth in (1, 2, 64):
        assert np.mean(many == depth) == pytest.approx(np.mean(np.array(one) == depth), abs=0.01)


@given(st.lists(st.floats(-0.5, 1.5), min_size=12, max_size=12))
def test_any_numbers_are_some_point_of_the_space(numbers: list[float]) -> None:
    spec = parse(SPACES[0])
    point = Axes(spec).decode(np.array(numbers))
    assert all(spec.space[path].holds(value) for path, value in point.items())
    assert ("optim.muon.lr" in point) == (point["optim.kind"] == "muon")


def test_numbers_to_choose_from_have_their_order_and_what_is_missing_stands_in_the_middle() -> None:
    axes = Axes(parse(SPACES[0]))
    assert [axes.place("batch", value) for value in (8, 16, 32)] == [0.0, 0.5, 1.0]
    assert axes.place("optim.lr", "auto") == axes.place("optim.lr", None) == INACTIVE
    assert not axes.ordered("optim.kind")


def test_the_process_is_sure_where_it_was_and_unsure_where_it_was_not() -> None:
    rows = np.linspace(0, 0.5, 12)[:, None]
    values = 3 + np.sin(6 * rows[:, 0])
    process = Process(rows, values, np.zeros(12), seed=0)
    means, deviations = process.at(np.array([[0.25], [1.0]]))
    assert means[0] == pytest.approx(3 + math.sin(1.5), abs=0.05)
    assert deviations[0] < 0.1 * deviations[1]
    joined = process.joined(np.array([[1.0]]))
    assert joined.at(np.array([[1.0]]))[1][0] < 0.5 * deviations[1]
    assert joined.at(np.array([[1.0]]))[0][0] == pytest.approx(means[1], abs=0.05)


def test_a_doubted_value_counts_less_and_equal_rows_break_nothing() -> None:
    rows = np.array([[0.5]] * 4)
    values = np.array([1.0, 1.0, 1.0, 2.0])
    trusted, _ = Process(rows, values, np.zeros(4), seed=0).at(rows[:1])
    doubted, _ = Process(rows, values, np.array([0, 0, 0, 9.0]), seed=0).at(rows[:1])
    assert doubted[0] < trusted[0]
    assert Process(rows, np.ones(4), np.zeros(4), seed=0).at(rows)[0] == pytest.approx(1.0)


def curves(count: int, noise: float, seed: int = 0) -> list[tuple[Any, dict[int, float]]]:
    """Curves that fall by 1.0 and, with the place in the space, by up to 0.5 more."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        place, start = rng.random(2)
        end = 2 + start - 0.5 * place + noise * rng.standard_normal()
        found.append((np.array([place]), {1: 3 + start, 2: 2.4 + start, 4: end}))
    return found


def test_a_forecast_learns_how_others_went_on_and_knows_its_error() -> None:
    known = curves(30, 0.01)
    inside = 0
    for place, curve in curves(200, 0.01, seed=1):
        end = Forecasts(known, 4).of({1: curve[1]}, place)
        assert end is not None
        assert end.mean == pytest.approx(curve[4], abs=0.06)
        inside += abs(end.mean - curve[4]) < 1.96 * end.deviation
    assert 180 <= inside <= 200


def test_few_or_broken_curves_forecast_nothing() -> None:
    place, curve = curves(1, 0.0)[0]
    assert Forecasts(curves(9, 0.01), 4).of({}, place) is None
    assert Forecasts(curves(NEEDED - 1, 0.01), 4).of(curve, place) is None
    broken = [(where, {**one, 4: math.inf}) for where, one in curves(9, 0.01)]
    assert Forecasts(broken, 4).of({1: curve[1]}, place) is None


def test_a_forecast_from_noise_promises_little() -> None:
    """Where the milestone says nothing about the end, every seventh trial beats six others: no forecast may hide it."""
    rng = np.random.default_rng(0)
    chances = []
    for _ in range(300):
        known = [(rng.random(3), {1: float(rng.random()), 4: float(rng.random())}) for _ in range(6)]
        end = Forecasts(known, 4).of({1: float(rng.random())}, rng.random(3))
        assert end is not None
        chances.append(end.chance_below(min(curve[4] for _, curve in known)))
    assert statistics.fmean(chances) > 1 / 7


def history(spec: StudySpec, count: int, seed: int = 0) -> list[Seen]:
    """Trials of all endings, some without anything."""
    rng = random.Random(seed)
    endings: list[Any] = ["complete", "complete", "pruned", "bad", "impossible", "running"]
    found = []
    for number in range(count):
        ending, loss = endings[number % 6], rng.uniform(1, 2)
        curve = {k: loss + 1 / k for k in range(1, rng.randint(1, spec.study.milestones) + 1)}
        value = loss if ending == "complete" else None
        if value is not None:
            curve = {k: loss + 1 / k for k in range(1, spec.study.milestones)} | {spec.study.milestones: loss}
        point = drawn(spec, 1000 * seed + number)
        found.append(Seen(point, Axes(spec).encode(point), ending, {} if ending == "impossible" else curve, value))
    return found


@pytest.mark.parametrize("count", [0, 1, 5, 24, 200])
def test_every_proposal_is_possible_and_the_same_for_the_same_history(spec: StudySpec, count: int) -> None:
    past = history(spec, count)
    for seed in range(3):
        point = propose(spec, Axes(spec), past, seed)
        assert possible(spec, point)
        assert all(spec.space[path].holds(value) for path, value in point.items())
        assert propose(spec, Axes(spec), past, seed) == point


def test_nothing_is_tried_twice_while_something_is_new() -> None:
    """The same point with the same seed tells nothing: 24 proposals in a space of 32 points are 24 points."""
    spec = parse("name: s\nspace: {model.depth: {int: [2, 9]}, batch: {choice: [4, 8, 16, 32]}}")
    axes, past = Axes(spec), list[Seen]()
    for number in range(24):
        point = propose(spec, axes, past, number)
        assert point not in [seen.point for seen in past]
        loss = float(point["model.depth"] or 0) / 10 + abs(math.log2(float(point["batch"] or 1)) - 4) / 5
        past.append(Seen(point, axes.encode(point), "complete", {spec.study.milestones: loss}, loss))


def test_a_fine_step_costs_no_more_than_a_coarse_one() -> None:
    spec = parse("name: s\nspace: {optim.warmup: {float: [0.0, 0.5], step: 0.000001}}")
    assert Axes(spec).decode(np.array([0.5])) == {"optim.warmup": 0.25}
    assert possible(spec, propose(spec, Axes(spec), history(spec, 12), 0))


def test_it_needs_fewer_tokens_than_random_search_on_the_simulator() -> None:
    """Two seeds; `tuner bench search` has twenty."""
    gaps = {}
    for name, settings in (("ours", []), ("random", ["study.sampler=random", "study.pruner=none"])):
        found = []
        for seed in range(2):
            spec = simulated_spec([*settings, "study.trials=40", f"study.seed={seed}"])
            record = simulate(spec)
            best = min(expected_loss(spec, trial) for trial in record.trials if trial.value is not None)
            tokens = sum(float(trial.facts.get("tokens") or 0) for trial in record.trials)
            found.append((best - best_loss(), tokens))
        gaps[name] = [statistics.fmean(column) for column in zip(*found, strict=True)]
    assert gaps["ours"][0] < gaps["random"][0]
    assert gaps["ours"][1] < gaps["random"][1]


@pytest.mark.parametrize("over", [[], ["study.pruner=hyperband"], ["study.sampler=tpe"]], ids=str)
def test_what_running_trials_say_is_heard_while_a_point_is_chosen(over: list[str]) -> None:
    """It is the point that would have been chosen at once."""
    chosen = []
    for listening in (True, False):
        search = Search(parse(SPACES[1], overrides=["study.milestones=4", *over]), open_storage(MEMORY_URL))
        for number in range(14):
            asked = search.ask()
            loss, ended = 3 + math.sin(number), number % 2
            for k in range(1, 5 if ended else 2):
                search.report(asked.number, Measurement(Spent(k, k, 1.0, 1.0), {"val_loss": loss + 1 / k}, k))
            state = State.COMPLETE if ended else State.PRUNED
            search.tell(asked.number, Outcome(state, "simulated"), loss + 1 / 4 if ended else None)
        beside, heard = search.ask().number, 0
        choosing = search.asking()
        try:
            while True:
                next(choosing)
                heard += 1
                if listening and heard <= 3:
                    row = Measurement(Spent(heard, heard, 1.0, 1.0), {"val_loss": 2.0 + 1 / heard}, heard)
                    search.report(beside, row)
        except StopIteration as done:
            chosen.append(done.value)
        milestones = search.record().find(beside).milestones
        assert len(milestones) == (min(heard, 3) if listening else 0)
        assert heard > (0 if over else 4)
    assert chosen[0] == chosen[1]
    assert chosen[0].number == beside + 1


def test_the_pruner_ends_the_hopeless_and_lets_the_promising_go_on() -> None:
    search = Search(parse(SPACES[1], overrides=["study.milestones=4"]), open_storage(MEMORY_URL))

    def run(loss: float, upto: int = 4) -> list[bool]:
        number = search.ask().number
        stops = []
        for k in range(1, upto + 1):
            row = Measurement(Spent(k, k, 1.0, 1.0), {"val_loss": loss + 1 / k}, k)
            stops.append(search.report(number, row))
            if stops[-1]:
                search.tell(number, Outcome(State.PRUNED, "stopped"))
                return stops
        search.tell(number, Outcome(State.COMPLETE), loss + 0.25)
        return stops

    for loss in (1.5, 1.52, 1.6, 1.55, 1.51, 1.57):
        assert not any(run(loss))
    assert run(3.0) == [True]
    assert not any(run(1.45))


def test_what_stops_early_is_compared_by_its_lowest() -> None:
    """Each learns by heart after its third milestone, and the next is better than all before."""
    search = Search(parse(SPACES[1], overrides=["study.milestones=6", "trial.early_stop=3"]), open_storage(MEMORY_URL))
    for attempt in range(12):
        trial = search.ask()
        lowest = 1.8 - 0.02 * attempt
        for k, above in enumerate((0.4, 0.2, 0.0, 0.3, 0.6, 0.9), 1):
            row = Measurement(Spent(k, k, 1.0, 1.0), {"val_loss": lowest + above}, k)
            assert not search.report(trial.number, row), f"trial {attempt} at milestone {k}"
        search.tell(trial.number, Outcome(State.COMPLETE), lowest)


@pytest.mark.parametrize(
    ("against", "dimension"),
    [("latency_ms", "compress.compute: {choice: [fp32, int8]}"), ("bytes", "compress.sparsity: {choice: [0.0, 0.5]}")],
)
def test_what_is_quicker_or_smaller_need_not_beat_the_loss_of_what_is_not(against: str, dimension: str) -> None:
    def ended(settings: list[str]) -> list[bool]:
        """Of those that are quicker or smaller, and worse, which were ended early."""
        text = (
            f"name: s\nspace:\n  optim.lr: {{float: [1e-4, 1e-2]}}\n  {dimension}\nstudy: {{trials: 30, milestones: 4}}"
        )
        settings = [*settings, "study.sampler=random", "study.pruner=forecast"]
        search, stopped = Search(parse(text, overrides=settings), open_storage(MEMORY_URL)), []
        for _ in range(24):
            trial = search.ask()
            better = trial.point[dimension.split(":")[0]] in ("fp32", 0.0)
            loss, ends = 1.5 if better else 3.0, [False]
            for k in range(1, 5):
                if not ends[-1]:
                    row = Measurement(Spent(k, k, 1.0, 1.0), {"val_loss": loss + 1 / k}, k)
                    ends.append(search.report(trial.number, row))
            outcome = Outcome(State.PRUNED, "stopped") if ends[-1] else Outcome(State.COMPLETE)
            search.tell(trial.number, outcome, None if ends[-1] else loss + 0.25)
            stopped += [] if better else [ends[-1]]
        return stopped

    assert not any(ended([f"study.against={against}"]))
    assert any(ended([]))


def test_a_second_objective_keeps_the_front_growing_and_prunes_nothing_for_being_small() -> None:
    """Against parameters, small models are tried and let run; of loss alone the search leaves them."""
    smallest = {}
    for against in (None, "parameters", "latency_ms"):
        settings = ["study.trials=40", "study.seed=3"] + ([f"study.against={against}"] if against else [])
        spec = simulated_spec(settings)
        complete = [trial for trial in simulate(spec).trials if trial.value is not None]
        sizes = sorted(float(trial.facts["parameters"] or 0) for trial in complete)
        smallest[against] = statistics.fmean(sizes[: len(sizes) // 2])
    assert smallest["parameters"] < smallest[None]
    assert smallest["latency_ms"] < smallest[None]


@pytest.mark.parametrize(
    "alone", ["sampler: tpe", "sampler: gp", "sampler: cmaes", "pruner: median", "pruner: asha", "stop: {over: 10}"]
)
def test_what_looks_at_the_loss_alone_refuses_a_second_objective(alone: str) -> None:
    name, _, value = alone.partition(": ")
    with pytest.raises(SpecError, match="looks at the loss alone"):
        parse(SPACES[1], overrides=["study.against=flops", f"study.{name}={value}"])
