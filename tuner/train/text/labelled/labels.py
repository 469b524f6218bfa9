"""What each text of a labelled source is, and where its tokens begin: gathered while they are written, kept beside.
Numbers of classes and places only; no text is kept here.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tuner.spec.errors import DataError, short
from tuner.spec.records import UNTOLD
from tuner.train.text.split import PARTS, Part

MOST = 1000
"""Classes: more are ids or texts, and not what a text is."""
LONGEST = 100
"""Characters of a class's name."""


def labels_file(part: Part) -> str:
    """The file of ``Labels``: int64 (texts + 1, 1 + columns), where each begins and its classes; last, where the part
    ends.
    """
    return f"{part}.labels.npy"


class Labels:
    """Hears where each text begins in its part, and what it is; ``columns`` has the field of ``data`` that names each
    column, that of the label first: only it tells of every text.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._places = (array("q"), array("q"), array("q"))
        self._columns = [_Column(field, column) for field, column in columns.items()]

    def hear(self, part: int, place: int, labels: Sequence[str | None]) -> None:
        """A text of that part begins there.

        Raises:
            DataError: a label is the one after ``MOST``, or longer than a class is called.
        """
        self._places[part].append(place)
        for column, label in zip(self._columns, labels, strict=True):
            column.hear(part, label)

    def classes(self) -> list[tuple[str, ...]]:
        """Of each column the classes in order of their names, of which each has its place as its number.

        Raises:
            DataError: the texts to learn from, or to judge by, are all of one class; an auxiliary label says nothing of
            any to learn from, or the same of all.
        """
        return [column.classes(auxiliary=column is not self._columns[0]) for column in self._columns]

    def write(self, folder: Path, classes: Sequence[tuple[str, ...]], tokens: list[int]) -> None:
        """The three files; ``tokens`` are those of each part."""
        for part, name in enumerate(PARTS):
            said = [column.numbered(part, told) for column, told in zip(self._columns, classes, strict=True)]
            rows = np.stack([np.array(self._places[part], np.int64), *said], axis=1)
            end = [tokens[part], *(UNTOLD for _ in said)]
            np.save(folder / labels_file(name), np.concatenate([rows, [end]]))


class _Column:
    """What one column says of the texts of each part, numbered as it came."""

    def __init__(self, field: str, column: str) -> None:
        self._field, self._column = f"data.{field}", column
        self._said = (array("q"), array("q"), array("q"))
        self._numbers: dict[str, int] = {}

    def hear(self, part: int, label: str | None) -> None:
        if label is None:
            self._said[part].append(UNTOLD)
            return
        if len(label) > LONGEST:
            raise DataError(
                f"{self._field}: {short(label)!r} is no class's name, it is too long; is it the right column?"
            )
        if label not in self._numbers and len(self._numbers) >= MOST:
            raise DataError(f"{self._field}: there are more than {MOST:,} different labels; is it the right column?")
        self._said[part].append(self._numbers.setdefault(label, len(self._numbers)))

    def classes(self, auxiliary: bool) -> tuple[str, ...]:
        names = list(self._numbers)
        for said, what in ((self._said[0], "learn from"), (self._said[1], "judge by")):
            found = set(said) - {UNTOLD}
            if auxiliary and what == "judge by":
                continue
            if len(found) == 1:
                only = short(names[found.pop()])
                raise DataError(
                    f"{self._field}: all texts to {what} are {only!r} by column '{self._column}'; expected two classes "
                    "at least"
                )
            if auxiliary and not found:
                raise DataError(f"{self._field}: column '{self._column}' says nothing of any text to {what}")
        return tuple(sorted(self._numbers))

    def numbered(self, part: int, classes: tuple[str, ...]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        numbers = np.full(len(classes) + 1, UNTOLD, np.int64)  # the last is for what is not told
        for place, name in enumerate(classes):
            numbers[self._numbers[name]] = place
        return numbers[np.array(self._said[part], np.int64)]
