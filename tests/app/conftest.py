"""Fixtures of the pages' tests; what they are made of is in conftest_app.py and conftest_browser.py."""

from __future__ import annotations

from conftest_app import _forget, browse, make
from conftest_browser import chromium, look, server

__all__ = ["_forget", "browse", "chromium", "look", "make", "server"]
