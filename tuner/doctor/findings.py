"""What an examination finds, as frozen records: where, what was expected and is there, what to do, what mends it.
Plain data and its words; nothing is looked at here and nothing is mended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tuner.search.history import StudyRecord


class Place(StrEnum):
    """Where the books are kept."""

    STORE = "store"
    FOLDER = "folder"
    SPOOL = "spool"
    CHECKPOINT = "checkpoint"
    RETENTION = "retention"
    LEFTOVER = "leftover"
    MLFLOW = "mlflow"
    LEDGER = "ledger"


class Mend(StrEnum):
    """What ``--fix`` may do: nothing that loses a record or changes a value."""

    REMOVE = "removed"
    RETAIN = "retention was applied"
    SYNC = "what was missing is mirrored"
    LINK = "the store names the run now"


@dataclass(frozen=True)
class Finding:
    """One disagreement. ``what`` says what was expected and what is there, ``do`` what a person does about it;
    ``mend`` is what ``--fix`` would do, None where only a person can decide.
    """

    place: Place
    where: str
    what: str
    do: str
    mend: Mend | None = None

    @property
    def sentence(self) -> str:
        return f"{self.where}: {self.what}; {self.do}."

    def as_data(self) -> dict[str, Any]:
        """JSON-ready data."""
        return {**asdict(self), "sentence": self.sentence}


@dataclass(frozen=True)
class Case:
    """A study to be examined: its record and attributes as the store has them, ``runs/<study>``, and MLflow's URI,
    None for a simulated study. ``driven`` says that a driver is running it, so that what is unfinished is no fault.
    """

    url: str
    record: StudyRecord
    attributes: Mapping[str, Any]
    folder: Path
    uri: str | None
    driven: bool

    @property
    def name(self) -> str:
        return self.record.name


@dataclass(frozen=True)
class Chapter:
    """What is told of one subject (the store, a study, a model): what was looked at, then what was found.

    ``left`` is still wrong, ``mended`` was; ``notes`` are sentences that are no faults.
    """

    subject: str
    looked: str = ""
    left: tuple[Finding, ...] = ()
    mended: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """JSON-ready data."""
        return {
            "subject": self.subject,
            "looked": self.looked,
            "left": [finding.as_data() for finding in self.left],
            "mended": [finding.as_data() for finding in self.mended],
            "notes": list(self.notes),
        }


def some(numbers: Iterable[int]) -> str:
    """``trial 3``, ``trials 3, 5 and 9``; of many the first few and how many they are."""
    known = sorted(numbers)
    if len(known) == 1:
        return f"trial {known[0]}"
    if len(known) > 8:
        return f"{len(known)} trials ({', '.join(map(str, known[:6]))} ...)"
    return f"trials {', '.join(map(str, known[:-1]))} and {known[-1]}"
