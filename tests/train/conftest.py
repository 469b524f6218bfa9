"""Where the trials of these tests are trained, and a labelled table."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from labelled_helpers import WORDS, data

from tuner.spec.parts.data import DataSpec
from tuner.train.fit import Place
from tuner.train.text.corpus import Corpus, open_corpus


@pytest.fixture
def place(tmp_path: Path, text_file: Path) -> Callable[[str], Place]:
    return lambda name: Place(tmp_path / name, text_file.parent / "corpora", threads=1)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 texts of fish, 30 of birds, 15 of mammals, which their words give away."""
    file, rng = tmp_path_factory.mktemp("table") / "texts.csv", np.random.default_rng(1)
    rows = [
        (kind, " ".join(rng.choice(WORDS[kind].split(), size=int(rng.integers(1, 9)))))
        for kind, count in (("fish", 60), ("birds", 30), ("mammals", 15))
        for _ in range(count)
    ]
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([("kind", "text"), *rows])
    return file


@pytest.fixture
def corpus(table: Path) -> Corpus:
    return open_corpus(DataSpec.model_validate(data(table)), table.parent / "corpora")
