"""A real small study, trained once, and the doctor to look at it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from hurting import RUNS, URL, Ask, Told
from small_study import finished

from tuner.doctor import visit
from tuner.doctor.command import run_doctor


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """Trained by the first of the test processes that needs it; each works on copies."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "doctor"
    with FileLock(f"{folder}.lock"):
        if not (folder / "whole").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (finished(folder, text_file) / "whole").touch()
    return folder


@pytest.fixture
def small(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder with the finished study in it."""
    folder = Path(shutil.copytree(made, tmp_path / "here"))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(visit, "PAUSE", 0.01)
    monkeypatch.setattr(visit.checkpoints, "QUIET", -1.0)
    return folder


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Calls the doctor; the exit code, and all that it says in one line."""
    monkeypatch.setenv("COLUMNS", "80")

    def asked(*studies: str, fix: bool = False) -> Told:
        capsys.readouterr()
        code = run_doctor(URL, RUNS, studies, fix, as_json=False)
        lines = capsys.readouterr().out.splitlines()
        assert all(len(line) <= 80 for line in lines)
        return code, " ".join(" ".join(lines).split())

    return asked
