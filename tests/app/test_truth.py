"""What a page says is so: the best is the one to ship, a filter hides nothing new, a deed is done once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from conftest_app import YAML, Make, Open, bring, go_on, lose_store, words
from streamlit.testing.v1 import AppTest
from test_books import CANDIDATE, history

from app import acting
from app.dialogs.deed import Deed, _work
from app.report.page import page
from app.report.read import read
from tuner.promotion.ledger import Ledger
from tuner.search.repeats import winner
from tuner.search.store.url import DEFAULT_URL


def test_the_best_is_the_one_to_ship_everywhere(browse: Open, make: Make) -> None:
    """The luckiest trial is 0; run again, the settings of trial 1 stand best."""
    text = YAML.format(name="seen").replace("trials: 40", "trials: 2, repeats: {top: 2, seeds: 2}")
    search = make(["complete"] * 2, text=text)
    for final in (2.05, 2.005):
        again = search.ask_again()
        assert again is not None
        bring(search, again, "complete", final)
    assert (winner(search.record()).number, search.record().ranked()[0].number) == (3, 0)  # type: ignore[union-attr]
    said = words(browse("overview"))
    assert "\ntrial 3\n" in said
    assert "\ntrial 0\n" not in said
    assert "the best of this study" in words(browse("trial", trial="3"))
    assert "lower by no more than luck: run again, trial 3 stood best" in words(browse("trial", trial="0"))
    html = page(read(DEFAULT_URL, "seen", Path("runs")))
    assert "Trial 3: " in html
    assert "The best again, with new seeds" in html


def test_a_champion_that_is_newer_than_the_screen_breaks_nothing(
    browse: Open, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = make(["complete"] * 3)
    app = browse("trial", trial="1")
    go_on(search, "complete", 7)
    monkeypatch.setitem(CANDIDATE, "trial", 3)
    history(Ledger(DEFAULT_URL), 1, None)
    st.cache_resource.clear()  # as the seconds do
    app.run()
    assert not app.exception
    app.query_params["trial"] = "3"
    app.run()
    assert not app.exception
    assert "### Trial 3" in words(app)
    assert "champion" in words(app)


def test_a_link_to_an_unknown_trial_while_the_store_is_away_shows_a_known_one(
    browse: Open, make: Make, tmp_path: Path
) -> None:
    make(["complete"] * 3)
    app = browse("trial", trial="1")
    lose_store(app, tmp_path)
    app.query_params["trial"] = "7"
    app.run()
    assert not app.exception
    assert "The link asks for trial “7”" in words(app)


def test_an_end_that_was_not_moved_hides_no_trial_beyond_it(browse: Open, make: Make) -> None:
    make(["complete"] * 8)
    rates = sorted(browse("trials").dataframe[0].value["lr"])
    app = browse("trials", where=[f"optim.lr:{rates[3]!r}:"])
    assert sorted(app.dataframe[0].value["lr"]) == rates[3:]
    (asked,) = app.query_params["where"] if isinstance(app.query_params["where"], list) else [app.query_params["where"]]
    assert asked.startswith("optim.lr:")
    assert asked.endswith(":")


def test_who_ties_is_asked_of_those_that_are_shown(browse: Open, make: Make) -> None:
    """Losses 2.00, 2.01, 2.02 and so on, and a band of 0.028: what is left is within it."""
    make(["complete"] * 5)
    assert "**3 trials tie**" in words(browse("trials"))
    batches = browse("trials").dataframe[0].value.set_index("number")["batch"]
    kept = batches[batches != batches[0]].index.tolist()
    app = browse("trials", where=[f"batch:{batches[kept[0]]}"])
    ties = sum(one - min(kept) < 3 for one in kept)
    said = words(app)
    assert (f"**{ties} trials tie**" in said) if ties > 1 else ("leads alone" in said)


def test_a_base_that_did_not_finish_is_beaten_by_nobody(browse: Open, make: Make) -> None:
    make(["pruned"] + ["complete"] * 2)
    said = words(browse("compare", compare="0,1,2", base="0"))
    assert "Trial 0 did not come to the full budget" in said
    assert "0 of 2" not in said


def test_with_two_objectives_the_loss_alone_advises_nothing(browse: Open, make: Make) -> None:
    text = YAML.format(name="seen")
    weighed = text.replace("seen", "two").replace("pruner: none", "pruner: none, against: bytes")
    make(["complete"] * 12, text=text)
    make(["complete"] * 12, text=weighed)
    assert "Gain below" in words(browse("overview", study="seen"))
    assert "Gain below" not in words(browse("overview", study="two"))


def test_few_trials_say_nothing_of_edges(browse: Open, make: Make) -> None:
    make(["complete"] * 4)
    said = words(browse("parameters"))
    assert "No edge is hit" not in said
    assert "From 5 complete trials on" in said


def test_a_link_to_a_study_that_is_gone_opens_no_trial_of_another(browse: Open, make: Make) -> None:
    make(["complete"] * 5)
    app = browse("trial", study="gone", trial="3")
    assert "which this store does not have" in words(app)
    assert "### Trial 0" in words(app)


def test_parameters_without_its_store_shows_what_it_had(browse: Open, make: Make, tmp_path: Path) -> None:
    make(["complete"] * 12)
    app = browse("parameters", study="seen")
    lose_store(app, tmp_path)


def test_whatever_a_deed_raises_it_is_done_once() -> None:
    done: list[Any] = []

    def fails(*answers: Any) -> str:
        done.append(answers)
        raise PermissionError(13, "Permission denied", "runs")

    deed = Deed("about", phase="work")
    for _ in range(2):
        _work(deed, "Doing", fails)
    assert len(done) == 1
    assert deed.phase == "failed"
    assert "PermissionError" in deed.said


def test_strangers_cannot_have_a_model_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def script() -> None:
        from pathlib import Path

        from app import prompt

        prompt.box("k", {0: Path("nowhere")})

    monkeypatch.setattr(acting, "refusal", lambda: "read-only")
    (button,) = AppTest.from_function(script).run().button
    assert button.disabled
