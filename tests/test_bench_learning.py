"""The benches of what is made of trained models, at their smallest: every line that they promise is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tuner.bench.learning.compress import WAYS
from tuner.cli.main import app

SMALL = ["--depth", "2", "--width", "16", "--budget", "30k tokens", "--seeds", "1"]


@pytest.mark.slow
def test_every_way_to_be_smaller_is_told(text_file: Path) -> None:
    ended = CliRunner().invoke(app, ["bench", "compress", "--text", str(text_file), *SMALL, "--recovery", "8k tokens"])
    assert ended.exit_code == 0, ended.output
    names = ["before", *WAYS, "fresh, of half the layers"]
    lines = ended.output.splitlines()[2:]
    lines, turns = lines[: len(names)], lines[len(names) :]
    parts = ["before", *(name for name, way in WAYS.items() if "half" in way)]
    assert [line[:32].strip() for line in turns] == ["ms a token, measured in turns", *parts]
    assert [line[:32].strip() for line in lines] == names
    shares = [float(re.findall(r"([\d.]+) x", line)[0]) for line in lines]
    assert shares[0] == 1
    assert all(share < 1 for share, name in zip(shares, names, strict=True) if "half" in name or "bits" in name)


@pytest.mark.slow
def test_going_on_and_students_are_told(text_file: Path) -> None:
    words = ["--text", str(text_file), "--first", str(text_file), *SMALL, "--more", "10k tokens"]
    ended = CliRunner().invoke(app, ["bench", "descend", *words])
    assert ended.exit_code == 0, ended.output
    for name in ("going on from it", "fresh", "going on, for a fifth in all", "its layers, and taught by it"):
        assert f"  {name} " in ended.output


@pytest.mark.slow
def test_what_a_trunk_is_worth_is_told() -> None:
    words = ["--labels", "40", "--more", "4k tokens", *SMALL[:4], "--budget", "10k tokens", "--seeds", "1"]
    ended = CliRunner().invoke(app, ["bench", "classify", *words])
    assert ended.exit_code == 0, ended.output
    for name in ("always the most frequent package", "begun from trunk, 1 of its rates", "begun from nothing, 0.3"):
        assert name in ended.output
