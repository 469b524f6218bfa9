"""The house: floors and walls hold, doors open without loading what is behind them, shipped files are true."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "lightning", "optuna", "mlflow", "streamlit", "datasets", "tokenizers", "sqlalchemy", "pandas"}


def loaded(code: str, folder: Path) -> set[str]:
    """Heavy top-level modules that a fresh interpreter has after ``code``."""
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit: pass\nprint('LOADED', *sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    modules = result.stdout.rsplit("LOADED", 1)[1].split()
    return {name.split(".")[0] for name in modules} & HEAVY


def test_walls_and_floors_hold() -> None:
    result = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


def test_no_page_hides_a_module_of_the_library() -> None:
    """Streamlit puts the folder of the main script first on the path."""
    ours = {path.stem for path in (ROOT / "app").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not ours & set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    "code",
    [
        "import tuner",
        "import sys; sys.argv = ['tuner', '--help']; from tuner.cli.main import main; main()",
        f"import sys; sys.argv = ['tuner', 'study', '{ROOT}/search_spaces/base.yaml', '--dry-run'];"
        " from tuner.cli.main import main; main()",
        f"import sys; sys.argv = ['tuner', 'check', '{ROOT}/search_spaces/smoke.yaml'];"
        " from tuner.cli.main import main; main()",
    ],
)
def test_doors_open_without_what_is_heavy(code: str, tmp_path: Path) -> None:
    assert loaded(code, tmp_path) == set()


def test_the_driver_never_loads_torch(tmp_path: Path) -> None:
    rooms = (
        "run.driver",
        "run.hands.local",
        "study.show.screen",
        "analysis.table",
        "tracking.tracker",
        "promotion.promote",
    )
    code = "".join(f"import tuner.{room}; " for room in rooms)
    assert loaded(code, tmp_path) <= {"optuna", "sqlalchemy"}


def test_no_file_is_a_mansion() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in [*ROOT.glob("tuner/**/*.py"), *ROOT.glob("app/**/*.py")]
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert not long


def test_wings_have_few_rooms() -> None:
    for wing in [path.parent for path in ROOT.glob("tuner/**/__init__.py")]:
        rooms = [path for path in wing.glob("*.py") if path.name not in ("__init__.py", "__main__.py")]
        assert len(rooms) <= 8, f"{wing.relative_to(ROOT)} has {len(rooms)} rooms"
        assert (wing / "__init__.py").read_text() == ""


def test_every_module_says_what_lives_in_it() -> None:
    for path in ROOT.glob("tuner/**/*.py"):
        if path.name != "__init__.py":
            assert path.read_text().startswith('"""'), path


def test_each_dependency_names_a_file_that_needs_it() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    project = tomllib.loads("\n".join(lines))["project"]
    for dependency in project["dependencies"]:
        (line,) = [line for line in lines if line.strip().startswith(f'"{dependency}"')]
        named = line.split("#", 1)[1]
        assert any((ROOT / "tuner" / word.strip(",:")).exists() or (ROOT / word.strip(",:")).exists()
                   for word in named.split()), line  # fmt: skip
