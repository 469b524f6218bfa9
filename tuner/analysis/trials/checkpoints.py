"""The checkpoints that a trial still has on this disk, as their manifests tell them.
Names, steps, sizes and hashes; no weight is read here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tuner.spec.disk import bytes_in

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """One folder: ``step``, ``tokens``, the sha256 of its weights (None: no manifest can be read), bytes in all."""

    folder: Path
    step: int | None
    tokens: int | None
    sha256: str | None
    bytes: int


def checkpoints(study: str, number: int, runs: Path) -> list[Checkpoint]:
    """What lies in ``runs/<study>/<number>/checkpoints``, the newest first; empty where nothing does."""
    found = [_read(folder) for folder in (runs / study / str(number) / "checkpoints").glob("[!.]*") if folder.is_dir()]
    return sorted(found, key=lambda one: (one.step is None, -(one.step or 0)))


def _read(folder: Path) -> Checkpoint:
    size = bytes_in(folder)
    try:
        told = json.loads((folder / MANIFEST).read_text())
        files = told["files"]
        weights = next((str(mark) for name, mark in files.items() if str(name).endswith(".safetensors")), None)
        return Checkpoint(folder, int(told["spent"]["steps"]), int(told["spent"]["tokens"]), weights, size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Checkpoint(folder, None, None, None, size)
