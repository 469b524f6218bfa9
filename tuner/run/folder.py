"""The folder of a study, ``runs/<study>``: whose it is, where each trial's files are, which models trials begin with.
Names and small records; checkpoints are written in train/, spools in tracking/.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tuner.spec.disk import note, seal, unseal
from tuner.spec.errors import StoreError
from tuner.spec.parts.model import InitSpec
from tuner.spec.records import Origin
from tuner.train.machine.capacity import read_note, write_note

RECORD, CHECKPOINTS, PINS = "study.json", "checkpoints", "init.json"

MODELS = ".models"
"""The folder of the models that trials begin with, beside the corpora, each named by the sha256 of its weights."""


def trial_folder(study: Path, number: int) -> Path:
    """``runs/<study>/<number>``: spool, checkpoints and error text of one trial."""
    return study / str(number)


def checkpoints_folder(study: Path, number: int) -> Path:
    """Where a trial's checkpoints are, as train/ puts them below its folder."""
    return trial_folder(study, number) / CHECKPOINTS


def claim(folder: Path, origin: Origin, tracking: str | None) -> None:
    """Tie ``folder`` to that study, and note where its runs are mirrored; None is nowhere, ever.

    Raises:
        StoreError: the folder holds the trials of another study (its store was deleted, or another one is named), or
            of a copy of this one that went on by itself.
    """
    if owner_of(folder) not in (None, origin.id):
        raise StoreError(
            f"{folder}: holds the trials of a study in another store (or in one that was deleted); name that store "
            "with --storage, move the folder away, or give this study another name."
        )
    if _record(folder).get("mark", "") not in ("", *origin.marks):
        raise StoreError(
            f"{folder}: the study went on in another store, of which this one is a copy or the original; name that "
            "store with --storage, or work in another folder."
        )
    mark = origin.marks[-1] if origin.marks else ""
    path, fresh = folder / RECORD, folder / f".{RECORD}.new"
    note(fresh, json.dumps(seal({"study": origin.id, "tracking": tracking, "mark": mark})))
    fresh.replace(path)


def owner_of(folder: Path) -> str | None:
    """The id of the study that the folder is tied to; None where it is to none."""
    owner = _record(folder).get("study")
    return None if owner is None else str(owner)


def tracking_of(folder: Path) -> str | None:
    """Where the study's runs were last mirrored; None where that is not known."""
    uri = _record(folder).get("tracking")
    return None if uri is None else str(uri)


def is_mirrored(folder: Path) -> bool:
    """Whether MLflow is to hear of this study: of a simulated one it never does."""
    return _record(folder).get("tracking", "unknown") is not None


def pins(folder: Path) -> dict[str, str]:
    """Which weights the models that a study's trials begin with were when it began: source -> sha256."""
    try:
        return read_note(folder / PINS)
    except (OSError, ValueError):
        return {}


def pin(folder: Path, init: InitSpec) -> None:
    """Remember in the study's folder which weights the source meant when it began: a champion may have a successor."""
    if init.source is not None and (known := pins(folder)).get(init.source) != init.sha256:
        write_note(folder / PINS, {**known, init.source: init.sha256})


def kept_model(runs: Path, sha256: str) -> Path:
    """Where the model with these weights is kept."""
    return runs / MODELS / sha256[:16]


def read_record(folder: Path) -> dict[str, Any]:
    """What ``claim`` noted.

    Raises:
        OSError: nothing is noted.
        ValueError: the note is damaged.
    """
    return unseal(json.loads((folder / RECORD).read_text()), before=("study", "tracking"))


def _record(folder: Path) -> dict[str, Any]:
    """A damaged note says nothing: the study whose folder it is writes it anew when it goes on."""
    try:
        return read_record(folder)
    except (OSError, ValueError):
        return {}
