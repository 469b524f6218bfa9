"""What is believed before trials tell: a law's point, that larger is better, and how much time there is for it."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from test_bayes import SPACES

from tuner.search.asktell import Search
from tuner.search.bayes.beliefs.pace import FIRST, POWERS, SHARE, SPARE, expected, longest, pace
from tuner.search.bayes.beliefs.prior import guesses, step_law
from tuner.search.bayes.beliefs.size import cost
from tuner.search.bayes.beliefs.trend import line, trend
from tuner.search.bayes.past import Past, Seen
from tuner.search.bayes.places.axes import Axes
from tuner.search.bayes.propose import first_guess, propose, startup
from tuner.search.store.address import MEMORY_URL
from tuner.search.store.storage import open_storage
from tuner.spec.budget import Budget
from tuner.spec.errors import SpecError
from tuner.spec.load import parse
from tuner.spec.records import Measurement, Outcome, Spent, State
from tuner.spec.study import StudySpec

HOUR = "study.totals={seconds: 1 h}"
SIZES = """
name: s
trial: {model: {depth: 4, width: 128}}
space:
  model.depth: {int: [2, 8]}
  model.width: {int: [64, 512], step: 64}
  optim.lr: {float: [1e-4, 1e-1], log: true}
"""


def test_the_law_says_what_the_paper_says() -> None:
    """As design notes have it for 4 x 128 and 1.536M tokens: lr 8.8e-3, about 2k tokens a step."""
    law = step_law(4, 128, 64, Budget.parse("1536k tokens"))
    assert law["optim.lr"].centre == pytest.approx(8.8e-3, rel=0.02)
    assert law["batch"].centre * 64 == pytest.approx(1970, rel=0.02)
    assert step_law(4, 128, 64, Budget.parse("90 s")) == {}
    wider = step_law(4, 512, 64, Budget.parse("1536k tokens"))
    assert wider["optim.lr"].centre < law["optim.lr"].centre


def test_the_first_trial_is_the_trial_as_written_at_the_priors_centre() -> None:
    spec = parse(SPACES[0])
    search = Search(spec, open_storage(MEMORY_URL))
    point = search.ask().point
    assert point == first_guess(spec)
    assert point["optim.lr"] == pytest.approx(8.8e-3, rel=0.02)
    assert (point["model.depth"], point["optim.kind"]) == (4, "muon")
    said = parse(SPACES[0], overrides=["study.prior={optim.lr: [1e-3, 2]}"])
    assert (first_guess(said) or {})["optim.lr"] == pytest.approx(1e-3)
    assert first_guess(parse(SPACES[0], overrides=["study.prior=none"])) is None


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        ("{optim.beta1: [0.9, 0.1]}", "not searched"),
        ("{optim.lr: [1e-3, 0.5]}", "a factor above 1"),
        ("{optim.lr: [-1, 2]}", "above 0"),
        ("{optim.kind: [1, 2]}", "needs numbers"),
    ],
)
def test_a_prior_that_says_nothing_is_a_sentence(prior: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parse(SPACES[0], overrides=[f"study.prior={prior}"])


def test_a_short_study_leaves_trials_to_learn_from() -> None:
    sizes = [startup(parse(SPACES[1], overrides=[f"study.trials={trials}"])) for trials in (1, 8, 24, 400)]
    assert sizes == sorted(sizes)
    assert sizes[1] <= 4


def test_what_costs_more_is_said_to_cost_more() -> None:
    spec = parse(SPACES[1])
    assert cost(spec, {"model.width": 512}) > 30 * cost(spec, {"model.width": 64})
    seconds = parse(SPACES[1], overrides=["trial.budget=60 s"])
    assert guesses(seconds, {"optim.lr": 1e-3}) == {}


def seen(spec: StudySpec, depth: int, width: int, seconds: float | None = None, loss: float = 2.0, **more: Any) -> Seen:
    point = {"model.depth": depth, "model.width": width, "optim.lr": 3e-3, **more}
    return Seen(point, Axes(spec).encode(point), "complete", {spec.study.milestones: loss}, loss, seconds=seconds)


def test_a_line_is_as_it_was_thought_until_values_say_otherwise() -> None:
    x = np.linspace(10, 15, 40)
    assert line(x[:1], np.array([2.0]), -0.1, 0.1).slope == -0.1
    assert line(x, 3 + 0.2 * x, -0.1, 0.1).slope == pytest.approx(0.2, abs=0.06)
    noisy = 3 + 0.2 * x[:3] + np.array([5.0, -9.0, 4.0])
    assert line(x[:3], noisy, -0.1, 0.1).slope == pytest.approx(-0.1, abs=0.05)
    found = line(x, 3 + 0.2 * x, -0.1, 0.1)
    assert found.at(x) == pytest.approx(3 + 0.2 * x, abs=0.15)


def test_larger_is_thought_better_at_equal_tokens_where_there_is_no_time_to_find_out() -> None:
    sizes, values = np.log([1e6, 1e7]), np.array([2.0, 2.0])
    assert trend(parse(SIZES, overrides=[HOUR]), sizes[:1], values[:1]).slope < 0
    for other in ("study.prior=none", "trial.budget=60 s", "trial.budget=1e15 FLOPs", "study.totals=null"):
        assert trend(parse(SIZES, overrides=[HOUR, other]), sizes, values).slope == 0


def test_how_long_a_trial_takes_follows_the_shapes_seen() -> None:
    spec = parse(SIZES, overrides=[HOUR])
    written, wide = {"model.depth": 4, "model.width": 128}, {"model.depth": 8, "model.width": 512}
    assert pace(spec, []).seconds(spec, written) == pytest.approx(1)
    assert pace(spec, []).seconds(spec, wide) == pytest.approx(2 ** POWERS[0] * 4 ** POWERS[1])
    for power in (0.9, 2.0):  # bound by memory, by arithmetic
        shapes = [(2, 64), (4, 128), (8, 128), (4, 384), (8, 256)]
        past = [seen(spec, depth, width, depth * (width / 64) ** power) for depth, width in shapes]
        assert pace(spec, past).seconds(spec, wide) == pytest.approx(8 * 8**power, rel=0.15)
        both = {"model.depth": np.array([2.0, 8.0]), "model.width": np.array([64.0, 512])}
        many = pace(spec, past).seconds(spec, both)
        assert many == pytest.approx([2, 8 * 8**power], rel=0.15)


def test_a_trial_may_take_what_time_there_is_for_it() -> None:
    spec = parse(SIZES, overrides=[HOUR])
    known = [seen(spec, 4, 128, 60)]
    assert longest(parse(SIZES), known, 0) == math.inf
    assert longest(parse(SIZES, overrides=[HOUR, "trial.budget=60 s"]), [], 0) == math.inf
    assert longest(spec, [], 0) == FIRST
    assert longest(spec, known, 60) == pytest.approx(SHARE * 3600 / SPARE)
    assert longest(spec, known, 3000) == pytest.approx(600 / SPARE)
    assert longest(spec, known, 4000) == 0


@pytest.mark.parametrize("clock", [0.0, 300.0, 1800.0, 3500.0, 3700.0])
@pytest.mark.parametrize("known", [0, 1, 4, 12])
def test_no_trial_is_begun_that_there_is_no_time_for(known: int, clock: float) -> None:
    """Where there is time for none, it is one of the quickest."""
    spec, rng = parse(SIZES, overrides=[HOUR]), random.Random(known)
    past = []
    for _ in range(known):
        point = dict(spec.draw(rng))
        seconds, loss = cost(spec, point) / 2e4, rng.uniform(2, 3)
        curve = {spec.study.milestones: loss}
        past.append(Seen(point, Axes(spec).encode(point), "complete", curve, loss, seconds=seconds))
    found = pace(spec, past)
    quick = sorted(float(found.seconds(spec, spec.draw(rng))) for _ in range(200))[20]
    for seed in range(5):
        point = propose(spec, Axes(spec), past, seed, clock)
        assert found.seconds(spec, point) <= max(longest(spec, past, clock), quick) * (1 + 1e-9)
        assert propose(spec, Axes(spec), past, seed, clock) == point


def test_with_time_for_a_dozen_trials_what_is_known_beforehand_has_to_do() -> None:
    spec = parse(SIZES, overrides=[HOUR, "study.trials=1000"])
    assert startup(spec, 2, 600.0) == 1
    assert startup(spec, 20, 600.0) == startup(parse(SIZES, overrides=["study.trials=1000"])) == 5
    assert expected(spec, 20, 600.0) == 120
    past = [seen(spec, 4, 128, 120, 2.0)]
    larger = [cost(spec, propose(spec, Axes(spec), past, seed, 130.0)) for seed in range(6)]
    assert min(larger) > cost(spec, past[0].point)


def test_beside_the_first_guess_runs_a_larger_one_like_it() -> None:
    spec = parse(SIZES, overrides=[HOUR])
    guess = first_guess(spec)
    assert guess is not None
    running = [Seen(guess, Axes(spec).encode(guess), "running", {})]
    for seed in range(6):
        point = propose(spec, Axes(spec), running, seed)
        assert cost(spec, point) > cost(spec, guess)
        assert pace(spec, []).seconds(spec, point) <= FIRST
        assert point == first_guess(spec, {path: point[path] for path in ("model.depth", "model.width")})


def test_how_long_a_trial_takes_is_told_by_what_it_did_so_far() -> None:
    spec = parse(SIZES, overrides=["study.milestones=4"])
    search = Search(spec, open_storage(MEMORY_URL))
    for milestone in (1, 2):
        number = search.ask().number
        search.report(number, Measurement(Spent(1, 1, 1.0, 30.0 * milestone), {"val_loss": 2.0}, milestone))
    search.tell(0, Outcome(State.PRUNED, "x"))
    trials = search._study.get_trials(deepcopy=False)
    assert [one.seconds for one in Past(spec).seen(trials)] == [120.0, 120.0]


def test_many_workers_spread_out_beside_the_first_guess() -> None:
    spec = parse(SIZES, overrides=[HOUR])
    past = list[Seen]()
    for seed in range(8):
        point = propose(spec, Axes(spec), past, seed) if past else first_guess(spec)
        assert point is not None
        assert point not in [one.point for one in past]
        past.append(Seen(point, Axes(spec).encode(point), "running", {}))
    rates = [float(one.point["optim.lr"] or 0) for one in past]
    assert max(rates) > 8 * min(rates)
