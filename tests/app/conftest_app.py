"""A small simulated study in a real store, and the app as a browser would open it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from tuner.search.asktell import Asked, Search
from tuner.search.store.storage import open_storage
from tuner.search.store.url import DEFAULT_URL
from tuner.spec.load import parse
from tuner.spec.records import Measurement, Outcome, Spent, State

ROOT = Path(__file__).parents[2]
MAIN = str(ROOT / "app" / "main.py")
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

YAML = """
name: {name}
trial: {{budget: 400k tokens}}
space:
  optim.lr: {{float: [1e-4, 1e-2], log: true}}
  batch: {{choice: [8, 16]}}
  model.depth: {{int: [1, 4]}}
study: {{trials: 40, milestones: 4, sampler: random, pruner: none}}
"""

Make = Callable[..., Search]
Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def _forget() -> None:
    """A reading of one test is none of the next."""
    st.cache_resource.clear()


@pytest.fixture
def make() -> Make:
    """Make a study whose trials end as told: 'complete', 'pruned', 'failed', 'running' or 'diverged'."""

    def made(ends: list[str], name: str = "seen", reason: str = "", text: str | None = None) -> Search:
        search = Search(parse(text or YAML.format(name=name)), open_storage(DEFAULT_URL, create=True))
        for position, end in enumerate(ends):
            go_on(search, end, position, reason)
        return search

    return made


def go_on(search: Search, end: str, position: int, reason: str = "") -> int:
    """One more trial, which ends as told; its loss is 2 + position / 100 at the full budget."""
    return bring(search, search.ask(), end, 2 + position / 100, reason or f"trial {position} ended so")


def bring(search: Search, asked: Asked, end: str, final: float, reason: str = "") -> int:
    """Bring a trial to its end, with a loss that is ``final`` at the full budget."""
    reach = {"complete": 4, "pruned": 2, "running": 1}.get(end, 0)
    for k in range(1, reach + 1):
        loss = final + (4 - k) * 0.3
        spent = Spent(k * 100, k * 100_000, k * 1e9, k * 5.0)
        search.report(asked.number, Measurement(spent, {"val_loss": loss}, k))
    if end == "complete":
        search.tell(asked.number, Outcome(State.COMPLETE, reason), final)
    elif end != "running" and end != "waiting":
        search.tell(asked.number, Outcome(State(end), reason))
    return asked.number


@pytest.fixture
def browse() -> Open:
    """Open a page by its file's name, with a link's query, and assert that nothing was raised."""

    def opened(page: str = "studies", **query: str | list[str]) -> AppTest:
        app = AppTest.from_file(MAIN, default_timeout=20)
        if page != "studies":
            app.run()
            assert not app.exception
            app.switch_page(f"views/{page}.py")
        for name, value in query.items():
            app.query_params[name] = value
        app.run()
        assert not app.exception, app.exception
        return app

    return opened


def words(app: AppTest) -> str:
    """All that a page says, one after another."""
    kinds = ("title", "header", "subheader", "text", "markdown", "caption", "code")
    said = [element.value for kind in kinds for element in getattr(app, kind)]
    plain = "\n".join(map(str, said)).replace("\\", "")
    return re.sub(r"^(?:## |:small\[|:gray-badge\[)(.*?)\]?$", r"\1", plain, flags=re.MULTILINE)


def lose_store(app: AppTest, folder: Path) -> None:
    """The store in ``folder`` goes away while ``app`` is open, which says so and raises nothing."""
    (folder / "tuner.db").rename(folder / "gone.db")
    app.run()
    assert not app.exception
    assert "The store is away" in words(app)
