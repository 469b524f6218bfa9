"""Fixtures of the tests in a real browser; skipped, with the reason, where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from seen import Seen

from tuner.bench.pages.browser import browsing, missing, serving

Look = Callable[..., Seen]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """One browser for all; each page gets a context, which is a fresh browser to the dashboard."""
    if sentence := missing():
        pytest.skip(sentence)
    with browsing() as browser:
        yield browser


@pytest.fixture
def look(chromium: Any) -> Iterator[Look]:
    """Open a page of a dashboard as a new visitor; at the end nothing may have left the machine or been raised."""
    opened: list[Seen] = []

    def visit(address: str, path: str = "", **settings: Any) -> Seen:
        seen = Seen(chromium.new_context(viewport={"width": 1280, "height": 900}, **settings).new_page())
        opened.append(seen)
        seen.go(f"{address}/{path}")
        return seen

    yield visit
    for seen in opened:
        seen.page.context.close()
        assert seen.hosts <= {"127.0.0.1"}, f"a page asked {seen.hosts}"
        assert not seen.raised


@pytest.fixture
def server(chromium: Any, tmp_path: Path) -> Iterator[str]:
    """The dashboard of the test's own folder."""
    with serving(tmp_path) as address:
        yield address
