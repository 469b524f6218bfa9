"""What each text of a labelled source is, and where its tokens begin: gathered while they are written, kept beside.
Numbers of classes and places only; no text is kept here.
"""

from __future__ import annotations

from array import array
from collections import Counter
from pathlib import Path

import numpy as np

from tuner.spec.errors import DataError, short
from tuner.train.text.split import PARTS, Part

MOST = 1000
"""Classes: more are ids or texts, and not what a text is."""


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
        self._places[part].append(place)
        self._said[part].append(self._numbers.setdefault(label, len(self._numbers)))

    def classes(self, column: str) -> tuple[str, ...]:
        """The classes in order of their names, of which each has its place as its number; ``column`` is for errors.

        Raises:
            DataError: the training texts are all of one class, or there are more than ``MOST``.
        """
        train = Counter(self._said[0])
        if len(train) < 2:
            only = short(next(iter(self._numbers), "nothing"))
            raise DataError(f"data.label: all training texts are {only} by column '{column}'; expected two classes")
        if len(self._numbers) > MOST:
            raise DataError(
                f"data.label: column '{column}' has {len(self._numbers):,} different values; expected at most {MOST:,} "
                "classes. Is it the right column?"
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
