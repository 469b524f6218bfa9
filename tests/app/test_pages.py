"""Every page in every state: no store, no study, no trial, only running, all failed, some, many; unknown ids."""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path

import pytest
from conftest_app import YAML, Make, Open, go_on, lose_store, words

from tuner.run.driver import Driver
from tuner.run.hands.landscape import SimulatedWorkers
from tuner.run.watcher import Silent
from tuner.search.asktell import Search
from tuner.search.store.storage import open_storage
from tuner.search.store.url import DEFAULT_URL
from tuner.spec.load import parse
from tuner.tracking.base import NullTracker

PAGES = ("studies", "overview", "trials", "parameters", "compare", "trial", "registry", "health")
OF_A_STUDY = PAGES[1:6]


@pytest.mark.parametrize("page", PAGES)
def test_without_a_store_it_says_how_to_make_one(page: str, browse: Open) -> None:
    said = words(browse(page))
    assert "tuner study search_spaces/base.yaml" in said or "no trial store" in said


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_store_says_so(page: str, browse: Open, make: Make) -> None:
    make([])
    said = words(browse(page))
    assert "No trial yet" in said or "no trial yet" in said or "Nothing was promoted yet" in said or page == "health"


@pytest.mark.parametrize("page", OF_A_STUDY)
def test_only_running_trials_wait_for_a_result(page: str, browse: Open, make: Make) -> None:
    make(["waiting", "waiting"])
    said = words(browse(page))
    assert "Waiting for a first result" in said or "no result at a milestone yet" in said


@pytest.mark.parametrize("page", PAGES)
def test_all_failed_leads_to_the_causes(page: str, browse: Open, make: Make) -> None:
    make(["failed"] * 3, reason="KeyError: 'x'")
    said = words(browse(page))
    expected = {"studies": "3 failed", "registry": "promoted", "health": "KeyError", "trial": "KeyError"}
    assert expected.get(page, "page Health first") in said


@pytest.mark.parametrize("page", PAGES)
def test_each_page_of_a_full_study_answers(page: str, browse: Open, make: Make) -> None:
    make(["complete"] * 12 + ["pruned"] * 4 + ["failed", "diverged", "running"])
    said = words(browse(page))
    assert {
        "studies": "2.000",
        "overview": "Best @ 400k tokens\n2.000\ntrial 0",
        "trials": "tie** for the lead",
        "parameters": "PED-ANOVA over 12 complete trials",
        "compare": "Pick at least two trials",
        "trial": "the best of this study",
        "registry": "Nothing was promoted yet",
        "health": "1 diverged",
    }[page] in said


def test_few_trials_hide_importance(browse: Open, make: Make) -> None:
    make(["complete"] * 4)
    assert "needs 10 complete trials, this study has 4" in words(browse("parameters"))


def test_fanova_is_asked_by_the_link(browse: Open, make: Make) -> None:
    make(["complete"] * 12)
    app = browse("parameters", fanova="1")
    until = time.monotonic() + 20
    while "fANOVA grows its trees" in words(app) and time.monotonic() < until:
        time.sleep(0.2)
        app.run()
    assert "fANOVA: the share" in words(app)


def test_a_study_without_a_space(browse: Open, make: Make) -> None:
    make(["complete"] * 3, text="name: seen\nstudy: {trials: 3, milestones: 4, sampler: random, pruner: none}")
    assert "searches nothing" in words(browse("parameters"))
    for page in PAGES:
        browse(page)


@pytest.mark.parametrize(
    ("page", "query", "sentence"),
    [
        ("overview", {"study": "nope"}, "the study “nope”, which this store does not have"),
        ("trial", {"trial": "99"}, "trial “99”; this study has 0 to 2"),
        ("trial", {"trial": "<b>x</b>"}, "trial “<b>x</b>”"),
        ("compare", {"compare": "0,1,77"}, "does not have: 77"),
        ("overview", {"axis": "feet"}, "axis “feet”, which this page does not have"),
        ("trials", {"milestone": "9"}, "milestone “9”, which this page does not have"),
        ("registry", {"model": "nope"}, "the model “nope”"),
    ],
)
def test_a_link_to_what_is_not_there_gets_a_sentence(
    page: str, query: dict[str, str], sentence: str, browse: Open, make: Make
) -> None:
    make(["complete"] * 3)
    assert sentence in words(browse(page, **query))


def test_a_link_brings_back_what_was_seen(browse: Open, make: Make) -> None:
    make(["complete"] * 6, "one")
    make(["complete"] * 6, "two")
    app = browse("trials", study="two", milestone="2", compare="1,4", where=["batch:8"])
    assert app.query_params["study"] == "two"
    assert app.query_params["compare"] == "1,4"
    assert app.query_params["milestone"] == "2"
    assert app.query_params["where"] == "batch:8"
    assert set(app.dataframe[0].value["batch"]) == {8}
    assert "Picked: **1, 4**" in words(app)
    again = browse("trials", **dict(app.query_params))
    now, then = (re.sub(r"read (now|[^\]]* ago)", "read", words(one)) for one in (again, app))
    assert now == then


def test_a_milestone_compares_pruned_trials_too(browse: Open, make: Make) -> None:
    make(["complete"] * 2 + ["pruned"] * 2)
    full, early = browse("trials"), browse("trials", milestone="2")
    assert full.dataframe[0].value["number"].tolist() == [0, 1]
    assert sorted(early.dataframe[0].value["number"]) == [0, 1, 2, 3]
    assert "2 hidden: 2 never reached 400k tokens" in words(full)


def test_filters_that_leave_nothing_name_the_one_to_drop(browse: Open, make: Make) -> None:
    make(["complete"] * 6)
    app = browse("trials", where=["optim.lr:0.00011:0.000111"])
    if not app.dataframe:  # the six random rates may have one in there
        assert "alone removes 6 of 6" in words(app)


def test_two_trials_compare_against_a_base(browse: Open, make: Make) -> None:
    make(["complete"] * 4)
    app = browse("compare", compare="2,0", base="0")
    deltas = next(one.value for one in app.dataframe if "value" in one.value.columns and "number" in one.value.columns)
    assert deltas["number"].tolist() == [0, 2]
    assert deltas["value"].round(6).tolist() == [0.0, 0.02]


def test_new_trials_announce_themselves_and_move_nothing(browse: Open, make: Make) -> None:
    search = make(["complete"] * 3 + ["running"])
    app = browse("trials", compare="2")
    go_on(search, "complete", -5)
    import streamlit as st

    st.cache_resource.clear()  # as the seconds do
    app.run()
    assert not app.exception
    assert app.dataframe[0].value["number"].tolist() == [0, 1, 2]
    (button,) = [one for one in app.button if "1 new trial" in one.label]
    button.click().run()
    assert not app.exception
    assert app.dataframe[0].value["number"].tolist() == [4, 0, 1, 2]
    assert app.query_params["compare"] == "2"


def test_text_of_trials_is_never_markup(browse: Open, make: Make) -> None:
    evil = "<script>alert(1)</script> [x](http://evil.example) :red[y] $z$"
    make(["failed", "complete"], reason=evil)
    for page in ("health", "trial"):
        app = browse(page, trial="0")
        shown = [one.value for one in app.text]
        assert any("<script>" in one for one in shown), page
        assert not any("<script>" in one.value or "(http" in one.value for one in app.markdown)


def test_a_store_of_something_else_is_told(browse: Open, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "tuner.db") as store:
        store.execute("CREATE TABLE other (x)")
    store.close()
    for page in PAGES:
        assert "no trial store" in words(browse(page)), page


def test_a_store_that_goes_away_leaves_the_last_snapshot(browse: Open, make: Make, tmp_path: Path) -> None:
    make(["complete"] * 3)
    app = browse("trials", study="seen")
    lose_store(app, tmp_path)
    assert app.dataframe[0].value["number"].tolist() == [0, 1, 2]


def test_settings_that_were_run_again_stand_on_the_overview(browse: Open, tmp_path: Path) -> None:
    text = YAML.format(name="seen").replace("trials: 40", "trials: 6, repeats: {top: 2, seeds: 3}")
    spec, hands = parse(text), SimulatedWorkers(2)
    search = Search(spec, open_storage(DEFAULT_URL, create=True))
    Driver(spec, search, hands, NullTracker(), Silent(), tmp_path, tmp_path, clock=hands.clock).run()
    app = browse("overview")
    assert "The best again, with new seeds" in words(app)
    table = next(one.value for one in app.dataframe if "again" in one.value.columns)
    assert table["seeds"].tolist() == [3, 3]
    assert table["best"].sum() == pytest.approx(100)
    assert "The trial to ship is" in words(app)
