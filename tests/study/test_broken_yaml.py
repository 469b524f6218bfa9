"""The study command on 300 broken YAML files: no traceback, exit 2, nothing created; on whole ones, its plan."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from mutations import mutated
from typer.testing import CliRunner

from tuner.study import command

app = typer.Typer()
app.command()(command.study)


class _StoppedError(Exception):
    """The file was whole: the study would begin now."""


@pytest.mark.parametrize("part", range(3))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=mutated())
def test_a_broken_file_ends_the_command_with_a_sentence(part: int, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(*_: object) -> None:
        raise _StoppedError

    # everything up to here is the real command; a whole file must not train in this test
    monkeypatch.setattr("tuner.study.plan.make_plan", begin)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("broken.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
        result = CliRunner().invoke(app, ["broken.yaml"])
        assert [path.name for path in Path().iterdir()] == ["broken.yaml"]
        os.chdir("/")
    if isinstance(result.exception, _StoppedError):
        return
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert "error: broken.yaml:" in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
