"""Making a write last, and keeping a folder from being tidied away: what rooms that never meet must agree on.
It stands on the lowest floor for that; it knows no format and no study.
"""

from __future__ import annotations

import os
from pathlib import Path


def force(path: Path) -> None:
    """Wait until the disk has a file's content, or a folder's names.

    Raises:
        OSError: the path is gone or the disk refuses.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def note(path: Path, text: str) -> None:
    """Write a small file whole.

    Raises:
        OSError: the disk refuses; unlike Python's own, it names the file.
    """
    try:
        path.write_text(text)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


HOLD = "promoted"
"""A trial's folder with a file of this name keeps its checkpoints whatever a study's retention says."""


def hold(folder: Path) -> bool:
    """Keep ``folder`` from retention, for good once ``release`` is not called; False where it was kept already.

    Raises:
        OSError: the disk refuses.
    """
    if (folder / HOLD).exists():
        return False
    (folder / HOLD).touch()
    force(folder)
    return True


def release(folder: Path) -> None:
    """Give a folder back to retention: what was to be promoted was not."""
    (folder / HOLD).unlink(missing_ok=True)


def held(folder: Path) -> bool:
    return (folder / HOLD).exists()
