"""What each text of a labelled source is, and where its tokens begin: gathered while they are written, kept beside.
Numbers of classes and places only; no text is kept here.
"""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np

from tuner.spec.errors import DataError, short
from tuner.train.text.split import PARTS, Part

MOST = 1000
"""Classes: more are ids or texts, and not what a text is."""
LONGEST = 100
"""Characters of a class's name."""


def labels_file(part: Part) -> str:
    """The file of ``Labels``: int64 (texts + 1, 2), where each begins and its class; last, where the part ends."""
    return f"{part}.labels.npy"


class Labels:
    """Hears where each text begins in its part, and what it is."""

    def __init__(self) -> None:
        self._places = (array("q"), array("q"), array("q"))
        self._said = (array("q"), array("q"), array("q"))
        self._numbers: dict[str, int] = {}

    def hear(self, part: int, place: int, label: str) -> None:
        """A text of that part begins there.

        Raises:
            DataError: it is the label after ``MOST``, or longer than a class is called.
        """
        if len(label) > LONGEST:
            raise DataError(f"data.label: {short(label)!r} is no class's name, it is too long; is it the right column?")
        if label not in self._numbers and len(self._numbers) >= MOST:
            raise DataError(f"data.label: there are more than {MOST:,} different labels; is it the right column?")
        self._places[part].append(place)
        self._said[part].append(self._numbers.setdefault(label, len(self._numbers)))

    def classes(self, column: str) -> tuple[str, ...]:
        """The classes in order of their names, of which each has its place as its number; ``column`` is for errors.

        Raises:
            DataError: the texts to learn from, or to judge by, are all of one class.
        """
        names = list(self._numbers)
        for said, what in ((self._said[0], "learn from"), (self._said[1], "judge by")):
            if len(found := set(said)) == 1:
                only = short(names[found.pop()])
                raise DataError(
                    f"data.label: all texts to {what} are {only!r} by column '{column}'; expected two classes at least"
                )
        return tuple(sorted(self._numbers))

    def write(self, folder: Path, classes: tuple[str, ...], tokens: list[int]) -> None:
        """The three files; ``tokens`` are those of each part."""
        numbers = np.empty(len(classes), np.int64)
        for place, name in enumerate(classes):
            numbers[self._numbers[name]] = place
        for part, name in enumerate(PARTS):
            said = numbers[np.array(self._said[part], np.int64)]
            rows = np.stack([np.array(self._places[part], np.int64), said], axis=1)
            np.save(folder / labels_file(name), np.concatenate([rows, [[tokens[part], -1]]]))
