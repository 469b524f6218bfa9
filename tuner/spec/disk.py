"""Making a write last, telling a damaged one, keeping a folder from being tidied away: where rooms must agree.
It stands on the lowest floor for that; it knows no format and no study.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tuner.spec.parts.scalars import digest


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


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def bytes_in(folder: Path) -> int:
    """What the files below a folder take; one that is deleted while they are counted takes nothing."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += (Path(place) / name).stat().st_size
    return total


def note(path: Path, text: str) -> None:
    """Write a small file whole.

    Raises:
        OSError: the disk refuses; unlike Python's own, it names the file.
    """
    try:
        path.write_text(text)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


_SEAL = "seal"


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON-ready record with its own digest, so that a reader can tell it from a damaged one."""
    return {**record, _SEAL: digest(record)}


def unseal(record: Any, before: Collection[str] = ()) -> dict[str, Any]:
    """What was sealed. ``before`` are the keys of records from before there were seals: those pass as they are.

    Raises:
        ValueError: it was damaged.
    """
    if not isinstance(record, dict):
        raise ValueError(f"a record is expected, not a {type(record).__name__}")
    if before and set(record) == set(before):
        return record
    data = {key: value for key, value in record.items() if key != _SEAL}
    if record.get(_SEAL) != digest(data):
        raise ValueError("its seal does not hold")
    return data


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
