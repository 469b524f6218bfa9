"""Promotion and rollback from the screen, in a real browser, on a real study: each button tried as people press it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import TUNER, run
from conftest_browser import Look
from seen import Seen
from small_study import finished

from tuner.bench.pages.browser import serving
from tuner.promotion.ledger import Ledger, Stage

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def done(chromium: Any, tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """A folder with a finished study and no champion."""
    return finished(tmp_path_factory.mktemp("study"), text_file)


@pytest.fixture
def trained(done: Path) -> Any:
    """The dashboard of that folder."""
    with serving(done, {"TUNER_ACTOR": "ann@desk"}) as address:
        yield done, address


def ranked(folder: Path) -> list[int]:
    """The trials' numbers, best first."""
    told = json.loads(run(folder, *TUNER, "trials", "small", "--json").stdout)
    return [row["number"] for row in told]


def champion(folder: Path) -> int | None:
    told = run(folder, *TUNER, "champion", "tiny", "--json")
    return int(json.loads(told.stdout)["version"]) if told.returncode == 0 else None


def stages(folder: Path) -> list[tuple[str, str]]:
    history = Ledger(f"sqlite:///{folder}/tuner.db").history("tiny")
    return [(entry.action, str(entry.stage)) for entry in history]


def proposed(look: Look, address: str, trial: int) -> Seen:
    """The dialog, after the gates have looked."""
    seen = look(address, f"trial?study=small&trial={trial}")
    seen.press("Propose for promotion", wait=False)
    seen.dialog.wait_for(timeout=90_000)
    seen.settle()
    return seen


def test_from_the_trial_to_the_alias_and_back(look: Look, trained: tuple[Path, str]) -> None:
    folder, address = trained
    best, second, worst = ranked(folder)

    # no reason, no promotion; Escape does not close it, and no button has the focus
    seen = proposed(look, address, worst)
    seen.page.keyboard.press("Escape")
    assert seen.dialog.count() == 1
    assert seen.page.evaluate("document.activeElement.tagName") != "BUTTON"
    assert "nobody" in seen.dialog.inner_text()
    seen.press("Promote")
    seen.says("never moved without a reason")
    assert champion(folder) is None

    # a double click promotes once
    seen.because("first")
    seen.dialog.get_by_role("button", name="Promote", exact=True).dblclick()
    seen.says("tiny version 1 is champion now.")
    seen.press("Close")
    assert champion(folder) == 1
    assert [row for row in stages(folder) if row[1] == Stage.DONE] == [("promote", "done")]
    assert Ledger(f"sqlite:///{folder}/tuner.db").history("tiny")[0].actor == "ann@desk"

    # the champion moves while the dialog is open
    seen = proposed(look, address, best)
    other = run(folder, *TUNER, "promote", "small", str(second), "--reason", "mine", "--override", TUNER_ACTOR="bob@x")
    assert other.returncode == 0, other.stderr
    seen.because("too late")
    seen.dialog.get_by_role("button", name="Promote", exact=True).click()
    seen.says("moved by bob@x")
    seen.press("Close")
    assert champion(folder) == 2

    # a gate that fails leaves nothing to press
    seen = proposed(look, address, worst)
    assert "fail" in seen.dialog.inner_text()
    assert seen.dialog.get_by_role("button", name="Promote", exact=True).count() == 0
    seen.press("Close")

    # and back again, from the screen
    seen.go(f"{address}/registry?model=tiny")
    seen.press("Roll back…", wait=False)
    seen.dialog.wait_for()
    seen.settle()
    assert "version 1" in seen.dialog.inner_text()
    seen.because("it was better after all")
    seen.dialog.get_by_role("button", name="Roll back", exact=True).click()
    seen.says("version 1 is champion again")
    seen.press("Close")
    assert champion(folder) == 1
    seen.says("it was better after all")


def test_it_writes_on_request(look: Look, trained: tuple[Path, str]) -> None:
    folder, address = trained
    seen = look(address, f"trial?study=small&trial={ranked(folder)[0]}")
    seen.page.get_by_label("Prompt").fill("the cat ")
    seen.press("Write", wait=False)
    seen.page.get_by_text("characters in").wait_for(timeout=60_000)
