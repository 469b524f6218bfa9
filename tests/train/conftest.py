"""Where the trials of these tests are trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.train.fit import Place


@pytest.fixture
def place(tmp_path: Path, text_file: Path) -> Callable[[str], Place]:
    return lambda name: Place(tmp_path / name, text_file.parent / "corpora", threads=1)
