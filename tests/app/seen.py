"""A page of the dashboard as a visitor sees it: its words, its table, its dialogs."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

IDLE = (
    "() => !document.querySelector('[data-testid=stStatusWidget]')"
    " && !document.querySelector('[data-testid=stSkeleton]') && !document.querySelector('[data-stale=true]')"
)
ROW, HEAD = 35, 35
"""Pixels of a row of a Streamlit table, and of its head."""


class Seen:
    """``hosts`` were asked by the page; ``raised`` are exceptions that it showed."""

    def __init__(self, page: Any) -> None:
        self.page, self.hosts, self.raised = page, set[str](), list[str]()
        page.set_default_timeout(30_000)
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or "127.0.0.1"))

    def go(self, address: str) -> None:
        self.page.goto(address)
        self.page.wait_for_selector("h1")
        self.settle()

    def settle(self) -> None:
        """Until nothing moves any more."""
        self.page.wait_for_timeout(250)
        self.page.wait_for_function(IDLE)
        self.page.wait_for_timeout(150)
        self.raised += self.page.locator("[data-testid=stException]").all_inner_texts()

    @property
    def words(self) -> str:
        """All that the page says; how old it is changes by itself and is left out."""
        return str(self.page.locator("[data-testid=stMain]").inner_text())

    def says(self, sentence: str) -> None:
        """Wait until the page says so."""
        self.page.get_by_text(sentence).first.wait_for()

    def press(self, name: str, wait: bool = True) -> None:
        self.page.get_by_role("button", name=name, exact=False).first.click()
        if wait:
            self.settle()

    def tick(self, row: int) -> None:
        """Tick a row of the page's first table, by where it lies on the screen."""
        box = self.page.locator("[data-testid=stDataFrame]").first.bounding_box()
        self.page.mouse.click(box["x"] + 18, box["y"] + HEAD + ROW * row + ROW // 2)
        self.settle()

    def drag(self, picture: Any, start: tuple[int, int], way: tuple[int, int]) -> None:
        """Drag over a picture, from ``start`` pixels below and right of its corner; once it is drawn and lies still:
        what stands above it may still be drawn, and push it down.
        """
        picture.scroll_into_view_if_needed()
        picture.locator("canvas, svg").first.wait_for()
        self.settle()
        box, before = picture.bounding_box(), None
        while box != before:
            self.page.wait_for_timeout(300)
            box, before = picture.bounding_box(), box
        left, top = box["x"] + start[0], box["y"] + start[1]
        self.page.mouse.move(left, top)
        self.page.mouse.down()
        self.page.mouse.move(left + way[0], top + way[1], steps=8)
        self.page.mouse.up()

    @property
    def dialog(self) -> Any:
        return self.page.get_by_role("dialog")

    def because(self, reason: str) -> None:
        """Give the dialog its reason."""
        self.dialog.get_by_role("textbox").fill(reason)
