"""The registry's page on a ledger and an MLflow registry that are really there, in and out of agreement."""

from __future__ import annotations

from pathlib import Path

from conftest_app import Make, Open, words

from tuner.promotion.gates import Answer, Result
from tuner.promotion.ledger import Entry, Ledger, Stage
from tuner.search.store.url import DEFAULT_URL

CANDIDATE = {"study": "seen", "trial": 1, "metric": "val_loss", "value": 2.01, "budget": "400k tokens"}


def history(ledger: Ledger, version: int, before: int | None, reason: str = "better") -> None:
    """One promotion from its announcement to its end."""
    answers = (Answer("better", Result.PASS, "beats it by 0.1"), Answer("size", Result.COULD_NOT_RUN, "no file"))
    rest = {"action": "promote", "before": before, "after": version, "record": f"r{version}", "reason": reason}
    begun = {**rest, "after": None}
    ledger.write(Entry("ann@here", "seen", stage=Stage.BEGUN, answers=answers, candidate=CANDIDATE, **begun))
    ledger.write(Entry("ann@here", "seen", stage=Stage.INTENT, **rest))
    ledger.write(Entry("ann@here", "seen", stage=Stage.DONE, **rest))


def test_the_ledgers_side_stands_alone_where_mlflow_is_not(browse: Open, make: Make, tmp_path: Path) -> None:
    make(["complete"] * 3)
    history(Ledger(DEFAULT_URL), 1, None)
    history(Ledger(DEFAULT_URL), 2, 1, "<b>bold</b>")
    app = browse("registry")
    said = words(app)
    assert "MLflow was not reached" in said
    assert "seen version 2" in said
    assert 'tuner rollback seen --to 1 --reason "…"' in said
    assert "could not run" in said
    assert app.dataframe[0].value["version"].tolist() == ["1 → 2", "1 → 2", "1 → –", "– → 1", "– → 1", "– → –"]
    assert any("<b>bold</b>" in one.value for one in app.text)
    assert not (tmp_path / "mlflow.db").exists()  # reading makes nothing


def test_the_trial_page_knows_the_champion(browse: Open, make: Make) -> None:
    make(["complete"] * 3)
    history(Ledger(DEFAULT_URL), 1, None)
    app = browse("trial", trial="1")
    assert "champion" in words(app)
