"""The benches of the search at their smallest: every rival runs, and each line says what it promises."""

from __future__ import annotations

import math

import pytest

from tuner.bench.search.guess import compare_wrong
from tuner.bench.search.race import RIVALS, WIDTHS, race
from tuner.bench.search.simulated import best_loss, expected_loss, simulate, simulated_spec
from tuner.bench.search.traps import measure_divergence


@pytest.mark.long
def test_every_rival_runs_and_is_set_beside_ours(capsys: pytest.CaptureFixture[str]) -> None:
    race(1, 10)
    said = capsys.readouterr().out
    assert said.startswith("simulated: 1 seeds")
    assert all(f"\n{name} " in said for name in RIVALS)
    assert said.count(" never") >= len(RIVALS) + len(WIDTHS)


def test_no_settings_of_the_space_are_better_than_the_best_loss() -> None:
    spec = simulated_spec(["study.trials=30", "study.sampler=random", "study.pruner=none"])
    losses = [expected_loss(spec, trial) for trial in simulate(spec).trials if trial.value is not None]
    assert math.isfinite(best_loss())
    assert best_loss() <= min(losses) + 1e-4


def test_traps_and_wrong_priors_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    measure_divergence(1, 12)
    compare_wrong(1, 12)
    said = capsys.readouterr().out
    assert said.count("by thirds") == 2
    for name in ("no prior", "the law", "two octaves above", "two octaves below"):
        assert name in said
