"""What was champion before: the way back to it, its checkpoints, and what becomes of both when others delete."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from promotion_helpers import Bench, bench

from tuner.promotion.candidate import Candidate
from tuner.promotion.ceremony import Proposal
from tuner.promotion.promote import Desk, _promoted_as, take_back, way_back
from tuner.run.control.apart import Apart
from tuner.spec.disk import held, hold
from tuner.spec.errors import PromotionError
from tuner.tracking.store import connect


@pytest.fixture
def place(tmp_path: Path) -> Bench:
    return bench(tmp_path / "bench")


@pytest.fixture
def desk(place: Bench, tmp_path: Path) -> Desk:
    return Desk(place.url, place.uri, tmp_path, "me", Apart(tmp_path))


def of_trial(place: Bench, trial: Path, seed: int, before: int | None, model: str = "base") -> tuple[Proposal, Path]:
    """A proposal of a checkpoint that lies in ``trial``, and its package."""
    made, package = place.package(f"of-{seed}", seed, before)
    named = {**made.candidate, "model": model, "checkpoint": str(trial / "checkpoints" / "step-9")}
    return replace(made, model=model, candidate=named, record=Candidate.read(named).record), package


def stop(label: str) -> None:
    if label == "challenger":
        raise RuntimeError("killed")


def test_taken_back_its_checkpoints_may_go_unless_a_champion_was_made_of_them(
    place: Bench, desk: Desk, tmp_path: Path
) -> None:
    """A champion of this model, or of another."""
    one, two, three = trials = [tmp_path / "runs" / "base" / name for name in ("1", "2", "3")]
    for trial in trials:
        (trial / "checkpoints" / "step-9").mkdir(parents=True)
        hold(trial)
    place.ceremony().promote(*of_trial(place, one, 1, None))
    place.ceremony().promote(*of_trial(place, three, 1, None, "other"))
    for seed, trial in ((2, two), (1, one), (3, three)):
        with pytest.raises(RuntimeError):
            place.ceremony(stop).promote(*of_trial(place, trial, seed, 1))
        assert take_back(desk, "base", "no")
    assert [held(trial) for trial in trials] == [True, False, True]
    assert not take_back(desk, "base", "no")


def test_a_former_champion_that_was_deleted_in_mlflow_is_no_way_back(place: Bench, desk: Desk, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        place.ceremony().promote(*of_trial(place, tmp_path / str(seed), seed, seed - 1 or None))
    client = connect(place.uri)
    client.delete_model_version("base", "2")
    assert way_back(desk, "base", None).to == 1
    with pytest.raises(PromotionError, match=r"no former champion 2; version 2 was deleted in MLflow.*there is: 1\."):
        way_back(desk, "base", 2)
    with pytest.raises(PromotionError, match="is the champion already"):
        way_back(desk, "base", 3)
    client.delete_model_version("base", "1")
    with pytest.raises(PromotionError, match="no former champion; there is: none"):
        way_back(desk, "base", None)


def test_a_model_made_anew_counts_from_one_again_and_is_not_taken_for_the_former(
    place: Bench, desk: Desk, tmp_path: Path
) -> None:
    first, package = of_trial(place, tmp_path / "1", 1, None)
    place.ceremony().promote(first, package)
    assert _promoted_as(desk, Candidate.read(first.candidate)) == 1
    connect(place.uri).delete_registered_model("base")
    assert place.ceremony().promote(*of_trial(place, tmp_path / "2", 2, None)) == 1
    assert _promoted_as(desk, Candidate.read(first.candidate)) is None
    assert place.ceremony().promote(*of_trial(place, tmp_path / "3", 3, 1)) == 2
    assert way_back(desk, "base", None).to == 1
