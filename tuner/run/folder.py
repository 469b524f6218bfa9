"""The folder of a study, ``runs/<study>``: whose it is, and where each trial's files are.
Names and one small record; checkpoints are written in train/, spools in tracking/.
"""

from __future__ import annotations

import json
from pathlib import Path

from tuner.spec.errors import StoreError

RECORD = "study.json"


def trial_folder(study: Path, number: int) -> Path:
    """``runs/<study>/<number>``: spool, checkpoints and error text of one trial."""
    return study / str(number)


def claim(folder: Path, study_id: str, tracking: str) -> None:
    """Tie ``folder`` to the study of that id, and note where its runs are mirrored.

    Raises:
        StoreError: the folder holds the trials of another study: its store was deleted, or another one is named.
    """
    path = folder / RECORD
    try:
        owner = json.loads(path.read_text())["study"]
    except (OSError, ValueError, KeyError):
        owner = None
    if owner not in (None, study_id):
        raise StoreError(
            f"{folder}: holds the trials of a study in another store (or in one that was deleted); name that store "
            "with --storage, move the folder away, or give this study another name."
        )
    fresh = folder / f".{RECORD}.new"
    fresh.write_text(json.dumps({"study": study_id, "tracking": tracking}))
    fresh.replace(path)


def tracking_of(folder: Path) -> str | None:
    """Where the study's runs were last mirrored; None where that is not known."""
    try:
        return str(json.loads((folder / RECORD).read_text())["tracking"])
    except (OSError, ValueError, KeyError):
        return None
