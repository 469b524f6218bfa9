"""One case of many in the normal run, the others with `pytest -m faults`."""

from __future__ import annotations

from typing import Any

import pytest


def few(first: Any, *others: Any) -> list[Any]:
    """The cases for a parametrisation; a tuple is one case of several parameters."""
    return [
        first,
        *(pytest.param(*(one if isinstance(one, tuple) else (one,)), marks=pytest.mark.faults) for one in others),
    ]
