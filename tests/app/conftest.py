"""Fixtures of the pages' tests; what they are made of is in conftest_app.py."""

from __future__ import annotations

from conftest_app import _forget, browse, make

__all__ = ["_forget", "browse", "make"]
