"""What only a browser shows: rows picked while trials arrive, links in a fresh browser, the demo, access."""

from __future__ import annotations

import re

import pytest
from conftest_app import Make, go_on
from conftest_browser import Look

PAGES = ("", "overview", "trials", "parameters", "compare?compare=0,1", "trial?trial=0", "registry", "health")
NOT_OURS = ("react-aria", "<span title=", "brush_brush")
"""A multiselect's clear button is small, and its white stands on the dark theme's blue; Vega's brush has no name."""
AGES = re.compile(r"\d+ (s|min)( \d+ s)? ago|\bnow\b")


@pytest.mark.long
def test_a_new_best_arrives_while_a_row_is_picked_and_every_action_still_names_the_old_id(
    look: Look, server: str, make: Make
) -> None:
    search = make(["complete"] * 4 + ["running"])
    seen = look(server, "trials")
    seen.tick(1)  # rows are trials 0, 1, 2, 3
    seen.says("Picked: 1")
    go_on(search, "complete", -50)  # trial 5, better than all
    seen.says("1 new trial · Show")
    assert "Picked: 1" in seen.words
    seen.press("1 new trial · Show")
    seen.says("leads alone")
    assert "Trial 5 leads alone" in seen.words
    assert "Picked: 1" in seen.words
    assert "compare=1" in seen.page.url
    seen.tick(1)  # the second row is trial 0 by now
    seen.says("Picked: 1, 0")
    seen.page.get_by_role("link", name="Compare 2").click()
    seen.says("Why is this one better?")
    seen.settle()
    assert {"compare=1%2C0", "compare=1,0"} & set(re.split(r"[?&]", seen.page.url))


@pytest.mark.long
def test_a_link_with_all_its_filters_shows_the_same_in_a_fresh_browser(look: Look, server: str, make: Make) -> None:
    make(["complete"] * 12 + ["pruned"] * 4)
    first = look(
        server, "trials?study=seen&milestone=2&compare=3,5&where=batch:8&where=model.depth:1:3&states=complete"
    )
    other = look(server, first.page.url.split("/", 3)[3])
    assert "Picked: 3, 5" in first.words
    assert AGES.sub("", other.words) == AGES.sub("", first.words)
    assert other.page.url == first.page.url


@pytest.mark.long
def test_a_brush_is_in_the_link_and_fades_the_rest_in_every_picture(look: Look, server: str, make: Make) -> None:
    make(["complete"] * 12)
    seen = look(server, "parameters")
    chart = seen.page.locator("[data-testid=stVegaLiteChart]").nth(1)  # the first shows the importance
    seen.drag(chart, (76, 12), (160, 120))
    seen.says("trials are in the brush on")
    seen.settle()
    told = seen.page.get_by_text("trials are in the brush on").inner_text()
    assert 0 < int(told.split()[0]) <= 12
    assert "brush=" in seen.page.url
    other = look(server, seen.page.url.split("/", 3)[3])
    assert other.page.get_by_text("trials are in the brush on").inner_text() == told
    other.press("Clear")
    assert "brush=" not in other.page.url


@pytest.mark.long
def test_the_demo_fills_the_pages_and_goes_again(look: Look, server: str) -> None:
    seen = look(server)
    seen.press("Make the demo study", wait=False)
    seen.says("demo-simulated")
    for page in ("overview", "parameters", "compare?compare=0,1", "trial?trial=0"):
        seen.go(f"{server}/{page}")
        seen.says("nothing here was trained")
        assert "No trial yet" not in seen.words
    seen.go(server)
    seen.press("Remove the demo study", wait=False)
    seen.says("No study yet")


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_finding_of_axe(look: Look, server: str, make: Make, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    make(["complete"] * 12 + ["pruned"] * 4 + ["failed", "running"])
    found = []
    for page in PAGES:
        seen = look(server, page, color_scheme=scheme)
        answer = Axe().run(seen.page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})
        found += [
            f"/{page}: {one['id']}: {node['html'][:200]}"
            for one in answer.response["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
            if not any(mark in node["html"] for mark in NOT_OURS)
        ]
    assert not found, "\n".join(found)
