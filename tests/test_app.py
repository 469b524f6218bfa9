"""The dashboard's placeholder: it opens without a store and shows a study that is there."""

from __future__ import annotations

from pathlib import Path

from streamlit.testing.v1 import AppTest

from tuner.search.asktell import Search
from tuner.search.storage import open_storage
from tuner.search.url import DEFAULT_URL
from tuner.spec.load import parse
from tuner.spec.records import Measurement, Outcome, Spent, State

PAGE = str(Path(__file__).parents[1] / "app" / "main.py")


def test_without_a_store_it_says_how_to_make_one() -> None:
    page = AppTest.from_file(PAGE).run(timeout=20)
    assert not page.exception
    assert "python -m tuner.study" in page.info[0].value


def test_a_study_is_listed_with_its_trials() -> None:
    spec = parse("name: seen\nspace: {optim.lr: {float: [1e-3, 1e-2]}}\nstudy: {milestones: 1}")
    search = Search(spec, open_storage(DEFAULT_URL, create=True))
    asked = search.ask()
    search.report(asked.number, Measurement(Spent(1, 1, 1.0, 1.0), {"val_loss": 2.5}, 1))
    search.tell(asked.number, Outcome(State.COMPLETE), 2.5)
    page = AppTest.from_file(PAGE).run(timeout=20)
    assert not page.exception
    assert page.selectbox[0].options == ["seen"]
    assert page.dataframe[0].value["val_loss"].tolist() == [2.5]
