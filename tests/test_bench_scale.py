"""The bench of the driver's reach at its smallest: a store of its own, simulated workers, and each line it promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy
from typer.testing import CliRunner

from tuner.cli.main import app

SMALL = ["bench", "scale", "--workers", "1", "--workers", "3", "--rate", "20", "--seconds", "1", "--trials", "20"]


@pytest.mark.long
@pytest.mark.parametrize("postgresql", [False, True])
def test_each_line_is_told_and_nothing_is_left(
    postgresql: bool, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = request.getfixturevalue("postgres") if postgresql else None
    ended = CliRunner().invoke(app, [*SMALL, *(["--storage", url] if url else [])])
    assert ended.exit_code == 0, ended.output
    first, *lines = ended.output.splitlines()
    assert first.startswith("store: postgresql" if postgresql else "store: sqlite")
    assert [line.split()[0] for line in lines] == ["1", "3", "3", "3", "20"]
    assert all("decisions/s" in line for line in lines[:2])
    assert all("reports/s for 1 s, in which" in line for line in lines[2:4])
    assert all("wait for one: a verdict comes after" in line for line in lines[2:4])
    assert "ask, a report and tell" in lines[4]
    assert not list(tmp_path.iterdir())
    if url is not None:
        engine = sqlalchemy.create_engine(url)
        assert not [name for name in sqlalchemy.inspect(engine).get_schema_names() if name.startswith("tuner_bench")]
        engine.dispose()


def test_a_place_for_the_schema_is_not_asked_for(tmp_path: Path) -> None:
    url = "postgresql+psycopg://me@127.0.0.1/db?options=-csearch_path%3Dmine"
    ended = CliRunner().invoke(app, [*SMALL, "--storage", url])
    assert ended.exit_code != 0
    assert "name the database without options" in ended.output
