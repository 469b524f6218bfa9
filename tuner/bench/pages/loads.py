"""Seconds of one visit: a page loaded, a filter changed, a page switched, as the browser's own clock has them.
One visit each; how many there are, and what is good enough, is said in targets.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from tuner.bench.pages.probe import PROBE
from tuner.spec.errors import TunerError

WINDOW = {"width": 1440, "height": 900}


@contextlib.contextmanager
def visit(browser: Any, address: str) -> Iterator[Any]:
    """A page of a visitor who never was here (nothing cached), on its way to ``address``.

    Raises:
        TunerError: what was waited for never came.
    """
    from playwright.sync_api import Error

    context = browser.new_context(viewport=WINDOW)
    try:
        page = context.new_page()
        page.add_init_script(PROBE)
        page.goto(address, wait_until="commit")
        yield page
    except Error as error:
        raise TunerError(f"bench: {address}: {error.message.splitlines()[0]}.") from None
    finally:
        context.close()


def load(browser: Any, address: str, names: Sequence[str]) -> list[float]:
    """Seconds from the navigation until each of ``names`` (numbers, chart, table, plotted) is drawn."""
    with visit(browser, address) as page:
        found = page.evaluate("names => Promise.all(names.map(name => tunerProbe.loaded(name)))", list(names))
    return [milliseconds / 1000 for milliseconds in found]


def filter_changes(browser: Any, address: str, times: int) -> list[float]:
    """On the page Trials: seconds from choosing another milestone until its words and its table are drawn."""
    found = []
    with visit(browser, address) as page:
        page.evaluate("tunerProbe.loaded('table')")
        box = page.get_by_role("combobox", name="Compare at")
        for time in range(times):
            page.wait_for_timeout(500)  # a reader looks first; the page has come to rest
            box.click()
            page.keyboard.press("ArrowDown" if time % 18 < 9 else "ArrowUp")  # ten milestones, down and up again
            page.evaluate("tunerProbe.remember()")
            page.keyboard.press("Enter")
            found.append(page.evaluate("tunerProbe.changed()") / 1000)
    return found


def page_switches(browser: Any, address: str, times: int) -> list[float]:
    """From Overview to Trials and back by the top bar, ``times`` round trips: seconds from each click until the
    heading of the other page stands with its table or its numbers.
    """
    found = []
    with visit(browser, address) as page:
        page.evaluate("tunerProbe.loaded('chart')")
        for _ in range(times):
            for title, name in (("Trials", "table"), ("Overview", "numbers")):
                page.wait_for_timeout(500)
                page.get_by_role("link", name=title, exact=True).first.click()
                found.append(page.evaluate("([title, name]) => tunerProbe.switched(title, name)", [title, name]) / 1000)
    return found
