"""Making a write last: the one call that every room with files needs before it may say "kept".
It stands on the lowest floor because the rooms that write never meet; it knows no format and no folder.
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
