"""Rows of JSON files, as a data set of the library gives its own: an object a line, or one array of objects.
Only the columns that are asked for; a row may lack one, and have others.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tuner.train.text.reading.blocks import reading

Row = dict[str, Any]

_OPENED: Mapping[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@dataclass(frozen=True)
class JsonRows:
    """What is asked of a data set of the library, of ``files``, compressed or not.

    ``lacking`` hears the names of all columns met where a wanted one is not among them at the end, or after the first
    batch one that every row is ``needed`` to have.
    """

    files: Sequence[Path]
    wanted: Sequence[str]
    needed: Sequence[str]
    lacking: Callable[[list[str]], None]
    column_names = features = None  # each row has its own

    def iter(self, batch_size: int) -> Iterator[dict[str, list[Any]]]:
        """The wanted columns, so many rows at a time.

        Raises:
            ValueError: a file is no JSON; also UnicodeDecodeError.
        """
        met: dict[str, None] = {}
        rows = (row for path in self.files for row in _objects(path))
        while batch := list(islice(rows, batch_size)):
            met.update(dict.fromkeys(name for row in batch for name in row))
            if any(name not in met for name in self.needed):
                self.lacking(list(met))
            yield {name: [row.get(name) for row in batch] for name in self.wanted}
        if met and any(name not in met for name in self.wanted):
            self.lacking(list(met))


def _objects(path: Path) -> Iterator[Row]:
    with reading(path), _OPENED.get(path.suffix, Path.open)(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if number == 1 and text.startswith("["):
                for place, row in enumerate(_parsed(text + file.read().decode(), path, number), start=1):
                    yield _object(row, path, f"element {place}")
                return
            if text:
                yield _object(_parsed(text, path, number), path, f"line {number}")


def _parsed(text: str, path: Path, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"line {line + error.lineno - 1}, column {error.colno}"
        raise ValueError(f"JSON parse error in {path}, {at}: {error.msg}") from error


def _object(row: Any, path: Path, place: str) -> Row:
    if not isinstance(row, dict):
        raise ValueError(f'{path}, {place}: expected an object such as {{"text": ...}}, got {str(row)[:40]!r}')
    return row
