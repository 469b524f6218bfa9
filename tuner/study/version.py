"""Which code trained a trial: the package's version and, in a git checkout, its commit.
A fact for the record; nothing depends on it.
"""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def code_version() -> str:
    """``0.1.0``, or ``0.1.0+1a2b3c4`` in a git checkout (``-dirty`` where it has changes)."""
    try:
        number = version("tuner")
    except PackageNotFoundError:
        number = "0"
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return number
    describe = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=7"]
    try:
        commit = subprocess.run(describe, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return number
    return f"{number}+{commit}"
