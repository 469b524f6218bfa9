"""One case of many in the normal run, the others with `pytest -m faults` or `-m long`."""

from __future__ import annotations

from typing import Any

import pytest


def few(first: Any, *others: Any, mark: pytest.MarkDecorator = pytest.mark.faults) -> list[Any]:
    """The cases for a parametrisation; a tuple is one case of several parameters."""
    return [
        first,
        *(pytest.param(*(one if isinstance(one, tuple) else (one,)), marks=mark) for one in others),
    ]
