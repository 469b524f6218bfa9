"""The trial store looked at: its file, the leftovers of its creation, and what it says of a study by itself.
Reading only; other books are laid beside it in the rooms beside this one.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from tuner.doctor.findings import Case, Finding, Mend, Place, some
from tuner.search.history import QUEUED, RUNNING
from tuner.search.store.address import sqlite_file
from tuner.search.store.storage import unfinished as store_drafts
from tuner.tracking.store import sqlite_path
from tuner.tracking.store import unfinished as mlflow_drafts

SHOWN = 5
"""Lines of the database's own complaint: of a ruined file it has thousands."""


def file_of(url: str) -> list[Finding]:
    """SQLite's own examination of the store's file; nothing for another database or where there is no file."""
    path = sqlite_file(url)
    if path is None or not path.exists() or path.stat().st_size == 0:
        return []
    try:
        # Not mode=ro: after a kill, reading must first take up what the write-ahead log has.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=20)) as store:
            store.execute("PRAGMA query_only=ON")
            said = [str(row[0]) for row in store.execute(f"PRAGMA integrity_check({SHOWN})")]
    except sqlite3.Error as error:
        said = [str(error)]
    if said == ["ok"]:
        return []
    words = "; ".join(" ".join(line.split()) for line in said)
    hint = f"copy it away, then `sqlite3 {path} .recover` saves what can be read"
    return [Finding(Place.STORE, str(path), f"expected a sound SQLite file, got '{words}'", hint)]


def leftovers(url: str, uris: Sequence[str]) -> list[Finding]:
    """What a process that died while it made a store left beside it."""
    store, theirs = sqlite_file(url), [sqlite_path(uri) for uri in uris]
    found = [] if store is None else store_drafts(store)
    for path in dict.fromkeys(path for path in theirs if path is not None):
        found += mlflow_drafts(path)
    return [
        Finding(
            Place.LEFTOVER,
            str(_near(path)),
            "half a store, left by a process that died while it made one",
            "nothing reads it, it may go",
            Mend.REMOVE,
        )
        for path in found
    ]


def told(case: Case) -> Iterator[Finding]:
    """What the store says of a study and cannot be."""
    where = f"{case.name} in the store"
    missing = [key for key in ("identity", "id") if key not in case.attributes]
    if missing and case.record.trials:
        yield Finding(
            Place.STORE,
            where,
            f"expected the study's {' and '.join(missing)}, got none: its attributes were changed outside tuner",
            "it cannot go on; bring an older copy of the store back",
        )
    for trial in case.record.trials:
        if trial.state == "complete" and not (trial.value is not None and math.isfinite(trial.value)):
            yield Finding(
                Place.STORE,
                f"trial {trial.number} of {where}",
                f"expected a finite {case.record.metric} of a complete trial, got {trial.value}",
                f"its spool has what it reached (`tuner show {case.name} {trial.number}`)",
            )
    begun = [trial.number for trial in case.record.trials if trial.state == RUNNING]
    if begun and not case.driven:
        yield Finding(
            Place.STORE,
            where,
            f"{some(begun)} {'is' if len(begun) == 1 else 'are'} running, and no driver runs this study",
            f"the study's command goes on with {'it' if len(begun) == 1 else 'them'}",
        )


def counted(case: Case) -> str:
    """How many trials there are: ended, running, queued."""
    states = [trial.state for trial in case.record.trials]
    alive = [f"{states.count(word)} {word}" for word in (RUNNING, QUEUED) if word in states]
    ended = len(states) - sum(states.count(word) for word in (RUNNING, QUEUED))
    return ", ".join([f"{ended} {'trial' if ended == 1 else 'trials'} ended", *alive])


def _near(path: Path) -> Path:
    """From the working folder where it lies in it: absolute paths do not fit a line."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
