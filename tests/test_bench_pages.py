"""The dashboard's benches at their smallest: the studies they make are what tuner.analysis reads, one load is timed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from typer.testing import CliRunner

from tuner.analysis.store import Store
from tuner.analysis.study.frame import budget_at, frame, milestones, paths
from tuner.bench.pages import targets
from tuner.bench.pages.browser import browsing, missing, serving
from tuner.bench.pages.loads import load
from tuner.bench.pages.studies import make_study, simulated_spec
from tuner.cli.main import app
from tuner.search.asktell import Search
from tuner.search.history import StudyRecord
from tuner.search.store.storage import open_storage
from tuner.spec.study import StudySpec

STATES = {"complete", "pruned", "failed", "diverged", "infeasible"}


def made(folder: Path, trials: int = 40, seed: int = 1) -> StudyRecord:
    spec = make_study(folder, trials, seed=seed)
    return Store(f"sqlite:///{folder / 'tuner.db'}").study(spec.name)


def test_a_simulated_study_is_read_like_a_real_one(tmp_path: Path) -> None:
    record = made(tmp_path)
    table = frame(record)
    assert list(table["number"]) == list(range(40))
    assert set(table["state"]) == STATES
    assert milestones(record) == 10
    complete = table[table["state"] == "complete"]
    assert (complete["reached"] == 10).all()
    assert (complete["value"] == complete["m.10"]).all()
    assert (complete["m.1"] > complete["m.10"] + 0.3).all(), "losses fall with the budget"
    pruned = table[table["state"] == "pruned"]
    assert pruned["reached"].between(1, 9).all()
    assert pruned["value"].isna().all()
    assert budget_at(record, 10) == "1M tokens"
    assert paths(table) == list(simulated_spec(1).space)
    assert (table["ended"] >= table["started"]).all()
    ran = [trial for trial in record.trials if trial.state != "infeasible"]
    assert {trial.facts["device"] for trial in ran} == {"simulated"}


def test_what_stands_in_the_store_is_what_optuna_itself_would_have_stored(tmp_path: Path) -> None:
    """A trial that Optuna adds from what it read of a simulated one has equal rows."""
    made(tmp_path)
    url = f"sqlite:///{tmp_path / 'tuner.db'}"
    old = optuna.load_study(study_name="simulated", storage=url)
    new = optuna.create_study(study_name="again", storage=url)
    new.add_trials(old.get_trials())
    for one, other in zip(old.get_trials(), new.get_trials(), strict=True):
        assert (one.state, one.values, one.params) == (other.state, other.values, other.params)
        assert one.distributions == other.distributions
        assert one.intermediate_values == other.intermediate_values
    with closing(sqlite3.connect(tmp_path / "tuner.db")) as store:
        for names in (
            "params: param_name, param_value, distribution_json",
            "values: objective, value, value_type",
            "intermediate_values: step, intermediate_value, intermediate_value_type",
            "user_attributes: key, value_json",
            "system_attributes: key, value_json",
        ):
            table, columns = names.split(": ")
            ask = (
                f"SELECT number, {columns} FROM trial_{table} JOIN trials USING (trial_id) "
                f"WHERE study_id = ? ORDER BY number, {columns}"
            )
            rows = [store.execute(ask, (study,)).fetchall() for study in (1, 2)]
            assert rows[0] == rows[1] != []


def test_the_same_seed_makes_the_same_trials_and_a_study_goes_on(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other", "third")]
    for folder in folders:
        folder.mkdir()
    one, other = made(folders[0]), made(folders[1])
    assert one.trials == other.trials
    assert made(folders[2], seed=2).trials != one.trials

    spec = simulated_spec(50)
    search = Search(spec, open_storage(f"sqlite:///{folders[0] / 'tuner.db'}"))
    assert search.ask().number == 40, "a real driver goes on where the simulated trials end"
    make_study(folders[0], 5, spec)
    record = Store(f"sqlite:///{folders[0] / 'tuner.db'}").study(spec.name)
    assert [trial.number for trial in record.trials] == list(range(46))
    assert record.find(40).state == "running"


def test_a_point_of_any_space_is_one_of_it(tmp_path: Path) -> None:
    spec = simulated_spec(60)
    data = spec.model_dump(mode="json")
    data["space"] = {
        "optim.lr": {"float": [0.001, 0.01], "step": 0.001},
        "model.width": {"int": [32, 256], "log": True},
        "model.dropout": {"choice": [0.0, 0.1]},
    }
    other = StudySpec.model_validate(data)
    make_study(tmp_path, 60, other)
    record = Store(f"sqlite:///{tmp_path / 'tuner.db'}").study(other.name)
    for trial in record.trials:
        assert all(other.space[path].holds(value) for path, value in trial.point.items())


@pytest.mark.parametrize(("trials", "seconds"), [(5, 1.8), (10, 1.8), (500, 1.8), (2_000, 2.0), (50_000, 2.0)])
def test_a_size_between_two_has_the_larger_ones_target(trials: int, seconds: float) -> None:
    assert targets.target("numbers visible", trials) == seconds


def test_the_75th_percentile() -> None:
    assert targets.p75([3.0]) == 3.0
    assert targets.p75([1.0, 2.0, 3.0, 4.0, 5.0]) == 4.0


def test_sizes_that_are_no_numbers_are_refused_in_a_sentence() -> None:
    result = CliRunner().invoke(app, ["bench", "dashboard", "--trials", "10,many"])
    assert result.exit_code == 2
    assert "expected whole numbers from 1 to 100000" in result.output


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing() or "there is a browser")
def test_one_load_is_timed_in_a_real_browser(tmp_path: Path) -> None:
    make_study(tmp_path, 40)
    with serving(tmp_path) as address, browsing() as browser:
        numbers, chart = load(browser, f"{address}/overview?study=simulated", ["numbers", "chart"])
        (table,) = load(browser, f"{address}/trials?study=simulated", ["table"])
    assert 0.1 < numbers <= chart < 60
    assert 0.1 < table < 60
