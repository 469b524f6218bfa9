"""Who may act from the pages: nobody where others can reach them without a login; and the way each refusal is said."""

from __future__ import annotations

import pytest
from conftest_app import MAIN, Make, Open, words
from streamlit.testing.v1 import AppTest

from app import acting

ACTING = {
    "overview": {"open:stop", "open:prune"},
    "parameters": {"open:enqueue"},
    "trial": {"propose", "open:enqueue"},
}


@pytest.mark.parametrize("page", list(ACTING))
def test_without_an_address_that_is_ours_alone_every_deed_is_off_and_says_why(
    page: str, browse: Open, make: Make
) -> None:
    make(["complete"] * 6 + ["running"])
    app = browse(page, trial="0")
    deeds = [one for one in app.button if one.key in ACTING[page]]
    assert deeds
    assert all(one.disabled for one in deeds)
    assert all("read-only" in str(one.help) for one in deeds)


def test_the_first_start_offers_no_demo_to_strangers(browse: Open) -> None:
    app = browse()
    (button,) = [one for one in app.button if one.key == "demo"]
    assert button.disabled
    assert "read-only" in words(app)


def test_a_configured_login_is_always_asked_for(make: Make) -> None:
    make(["complete"] * 3)
    app = AppTest.from_file(MAIN, default_timeout=20)
    app.secrets["auth"] = {"client_id": "x"}
    app.run()
    assert not app.exception
    assert any(one.key == "login" for one in app.button)
    app.switch_page("views/parameters.py").run()
    assert not app.exception
    (button,) = [one for one in app.button if one.key == "open:enqueue"]
    assert button.disabled
    assert "Log in" in str(button.help)


@pytest.mark.parametrize(
    ("address", "ours"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("10.1.2.3", False), ("box", False)],
)
def test_loopback_addresses(address: str, ours: bool) -> None:
    assert acting._loopback(address) is ours
