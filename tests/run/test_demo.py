"""The simulated study: full, marked, repeatable, unknown to MLflow, and gone without a trace."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tuner.run.control.demo import NAME, make_demo, remove_demo
from tuner.run.hands.landscape import loss_at, parameters
from tuner.search.history import StudyRecord, read_study, study_names
from tuner.search.store.storage import open_storage
from tuner.spec.trial import TrialSpec
from tuner.study.mirror import sync_studies
from tuner.tracking.spool import SPOOL, read_spool

URL, RUNS = "sqlite:///tuner.db", Path("runs")


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    make_demo(f"sqlite:///{folder}/tuner.db", folder / RUNS)
    return folder


@pytest.fixture
def record(_made: Path, tmp_path: Path) -> StudyRecord:
    """The demo, made once; a copy of its store and its folder lie in the working folder."""
    shutil.copytree(_made, tmp_path, dirs_exist_ok=True)
    return read_study(open_storage(URL), NAME)


def test_it_fills_the_pages_and_says_what_it_is(record: StudyRecord) -> None:
    states = Counter(trial.state for trial in record.trials)
    assert sum(states[state] for state in ("complete", "pruned", "diverged")) == 48
    assert states["complete"] >= 12
    assert states["pruned"] >= 5
    ran = [trial for trial in record.trials if trial.state != "infeasible"]
    assert all(trial.facts["device_kind"] == "simulated" for trial in ran)
    best = min((trial for trial in ran if trial.value is not None), key=lambda trial: trial.value or 0)
    spool = read_spool(RUNS / NAME / str(best.number) / SPOOL)
    assert [row.milestone for row in spool.rows] == list(range(1, 9))
    assert all(text.startswith("(simulated)") for row in spool.rows for text in row.samples)


@pytest.mark.long
def test_it_is_the_same_every_time_and_making_it_twice_changes_nothing(tmp_path: Path, record: StudyRecord) -> None:
    make_demo(URL, RUNS)
    assert read_study(open_storage(URL), NAME) == record
    make_demo(f"sqlite:///{tmp_path}/other.db", tmp_path / "elsewhere")
    other = read_study(open_storage(f"sqlite:///{tmp_path}/other.db"), NAME)
    assert [(t.point, t.value) for t in other.trials] == [(t.point, t.value) for t in record.trials]


def test_mlflow_never_hears_of_it(capsys: pytest.CaptureFixture[str], record: StudyRecord) -> None:
    assert len(record.trials) >= 48
    sync_studies(None, None, URL)
    assert NAME not in capsys.readouterr().out
    assert not Path("mlflow.db").exists()


def test_it_goes_without_a_trace(record: StudyRecord) -> None:
    assert study_names(open_storage(URL)) == [record.name]
    remove_demo(URL, RUNS)
    assert study_names(open_storage(URL)) == []
    assert not (RUNS / NAME).exists()
    remove_demo(URL, RUNS)  # gone already


def test_the_landscape_has_what_tuners_meet() -> None:
    def trial(**fields: object) -> TrialSpec:
        lr = fields.pop("lr", 3e-3)
        model = {"depth": fields.pop("depth", 4), "width": fields.pop("width", 128)}
        return TrialSpec.model_validate({"model": model, "optim": {"lr": lr}, "budget": "1M tokens", **fields})

    good = trial()
    assert loss_at(good, 1.0) < loss_at(good, 0.5) < loss_at(good, 0.1)
    assert loss_at(trial(lr=3e-5), 1.0) > loss_at(good, 1.0) + 0.05
    assert math.isinf(loss_at(trial(lr=0.3), 1.0))
    hot, cool = trial(lr=8e-3), trial(lr=1.5e-3)  # a high rate is behind early on, and catches up as it decays
    assert loss_at(hot, 0.2) - loss_at(cool, 0.2) > loss_at(hot, 1.0) - loss_at(cool, 1.0) + 0.02
    seeds = {round(loss_at(trial(seed=seed), 1.0), 6) for seed in range(5)}
    assert len(seeds) == 5
    assert max(seeds) - min(seeds) < 0.05
    assert parameters(trial(width=256)) > 3 * parameters(good)
