"""Sources: where text comes from, as documents streamed in one fixed order with a key for their content.
Nothing here knows tokens or parts, and memory never grows with the text.
"""

from __future__ import annotations

import csv
import functools
import glob
import hashlib
import itertools
import logging
import os
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuner.spec.errors import DataError, UnreadableError, nearest, short
from tuner.spec.parts.data import DataSpec
from tuner.spec.parts.scalars import digest
from tuner.train.text.reading.blocks import file_blocks, passages, reading, text_blocks
from tuner.train.text.reading.rows import JsonRows

HF_CAP = 10**9
"""Bytes of text read from a hub data set where ``cap`` says nothing."""
_ROWS = 500  # rows held at a time: a row may be a whole book
_NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True)
class Document:
    """One text: ``size`` UTF-8 bytes, known before ``blocks`` (its pieces in order) are read; what it is, where its
    source says so, and what each auxiliary label says, if it says something.
    """

    size: int
    blocks: Iterable[str]
    label: str | None = None
    auxiliary: tuple[str | None, ...] = ()


Documents = Callable[[], Iterator[Document]]
"""Starts the stream anew at each call."""


@dataclass(frozen=True)
class Source:
    """Text and what is known of it before it is read.

    ``label`` names it in sentences; ``key`` is a hex digest of its content (of the request, for a hub data
    set); ``documents`` is None where ``files`` is one text without documents; ``size`` is its bytes, None
    where only reading tells; ``stamps`` are (size, mtime in ns) of ``files``.
    """

    label: str
    key: str
    documents: Documents | None
    size: int | None = None
    files: tuple[Path, ...] = ()
    stamps: tuple[tuple[int, int], ...] = ()


def open_source(data: DataSpec) -> Source:
    """Find the text that ``data`` asks for and hash its content; nothing is kept in memory.

    Raises:
        DataError: a file, glob match or CSV column is missing, empty or unreadable. What only reading shows
            (other columns, undecodable bytes, a missing hub data set) is raised by the stream.
    """
    return SOURCE[data.source](data)


def require_unchanged(source: Source) -> None:
    """Hold the files to what they were when they were hashed.

    Raises:
        DataError: one was written to, or removed, while it was read.
    """
    for path, stamp in zip(source.files, source.stamps, strict=True):
        if not path.is_file() or _stamp(path) != stamp:
            raise UnreadableError(f"data: {path} changed while it was read; run again once nothing writes to it")


def _stdlib(data: DataSpec) -> Source:
    root = Path(sysconfig.get_paths()["stdlib"])
    files = []
    for folder, names, found in os.walk(root):
        # config-* and _sysconfigdata hold the paths of the machine that built this Python
        names[:] = [name for name in names if name not in _NOT_LIBRARY and not name.startswith("config-")]
        files += [Path(folder) / f for f in found if f.endswith(".py") and not f.startswith("_sysconfigdata")]
    files.sort(key=lambda path: path.relative_to(root).parts)
    if not files:
        raise DataError(f"data.source: this Python has no library source in {root}; use source text with a path")

    def documents() -> Iterator[Document]:
        for path in files:
            with reading(path):
                raw = path.read_bytes()
            try:
                text = raw.decode()
            except UnicodeDecodeError:
                continue  # a few declare another encoding on purpose
            if text:
                yield Document(len(raw), text_blocks(text))

    return _local("Python's standard library", "stdlib", files, documents)


def _text(data: DataSpec) -> Source:
    files = matches(data.path or "")

    def documents() -> Iterator[Document]:
        for path in files:
            with reading(path):
                size = path.stat().st_size
            if size and data.documents in (None, "file"):
                yield Document(size, file_blocks(path, 0, size))
            elif size:
                for text in passages(file_blocks(path, 0, size), data.documents == "line"):
                    yield Document(len(text.encode()), text_blocks(text))

    if len(files) == 1 and data.documents in (None, "file"):
        source = _local(str(files[0]), "text", files, None)
    else:
        label = str(files[0]) if len(files) == 1 else f"{len(files)} files of {data.path}"
        source = _local(label, "texts", files, documents)
    if not source.size:
        raise DataError(f"data.path: {data.path} is empty: expected UTF-8 text; check the path")
    return source


def _rows(data: DataSpec) -> Source:
    kind, column = data.source, data.column or ""
    wanted = [column, *data.labels]
    files = matches(data.path or "")
    if not any(path.stat().st_size for path in files):
        raise DataError(
            f"data.path: {data.path} is empty: expected {kind} rows with a column '{column}'; check the path"
        )
    if kind == "csv":
        for path in files:
            _require_columns(data, _csv_start(path)[0], path)
    names = [glob.escape(str(path.absolute())) for path in files]

    def load() -> Any:
        if kind == "json":  # the library holds every row to the columns of the first ones
            needed = [] if data.label is None else [data.label]
            return JsonRows(files, wanted, needed, lambda met: _require_columns(data, met, data.path))
        import datasets

        options: dict[str, Any] = {"batch_size": _ROWS} if kind == "parquet" else {}
        if kind == "csv":  # every cell as it is written: no guessed numbers, and "NA" is a word
            as_text = datasets.Features({name: datasets.Value("string") for name in wanted})
            options = {"usecols": wanted, "features": as_text, "na_filter": False, "chunksize": _ROWS}
            options["index_col"] = False  # rows that end with a comma would move every column by one
        return datasets.load_dataset(kind, data_files=names, split="train", streaming=True, **options)

    @functools.cache
    def checked() -> None:  # once, however often the documents are streamed
        for path in files if kind == "csv" else ():
            _require_even(path)

    def documents() -> Iterator[Document]:
        try:
            checked()
            yield from _cells(load, data, data.path or "")
        except _LibraryError as error:
            if isinstance(error.__cause__, UnicodeDecodeError):
                for path in files:  # the library does not say where; a second reading does
                    for _ in file_blocks(path, 0, path.stat().st_size):
                        pass
            raise DataError(f"data.path: cannot read {data.path} as {kind}: {error}; check the file") from error

    content = [kind, column]
    if kind == "csv" and any(len(first) > len(header) for header, first in map(_csv_start, files)):
        content.append("as headed")  # as it was read once, another column was learned
    # the files hold more than the column, or hold it compressed: their size says nothing of the text's
    return _local(f"{data.path}, column {column}", content, files, documents, sized=False)


def _hub(data: DataSpec) -> Source:
    name, column, part, cap = data.name or "", data.column or "", data.part or "train", data.cap or HF_CAP
    folder = Path(name)
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []

    def load() -> Any:
        import datasets

        return datasets.load_dataset(name, data.subset, revision=data.revision, split=part, streaming=True)

    def documents() -> Iterator[Document]:
        left = cap
        try:
            for document in _cells(load, data, f"the data set {name}"):
                if document.size >= left:
                    text = "".join(document.blocks).encode()[:left].decode(errors="ignore")
                    yield replace(document, size=len(text.encode()), blocks=text_blocks(text))
                    return
                left -= document.size
                yield document
        except _LibraryError as error:
            raise DataError(
                f"data.name: cannot read the data set {name}: {error}; check name, subset, part, revision and"
                " the network (a private data set needs: hf auth login)"
            ) from error

    request = ["hf", data.subset, data.revision, part, column, cap]
    if files:
        return _local(f"the data set {name}", request, files, documents, sized=False)
    return Source(f"the data set {name}", digest([*request, name]), documents)


def matches(pattern: str) -> list[Path]:
    """The files that a path or a glob means, sorted.

    Raises:
        DataError: there is none.
    """
    try:
        path = Path(pattern).expanduser()
        if path.is_file():
            return [path]
    except (OSError, RuntimeError) as error:  # a name too long for any file; a home that nobody has
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"data.path: {short(pattern, 300)} can be no file's name ({reason}); check the path") from error
    if path.is_dir():
        raise DataError(f"data.path: {pattern} is a folder: expected a file or a glob, such as {path / '**' / '*.txt'}")
    if glob.has_magic(str(path)):
        found = sorted({Path(match) for match in glob.glob(str(path), recursive=True)})  # noqa: PTH207  Path.glob takes no absolute pattern
        if files := [match for match in found if match.is_file()]:
            return files
        raise UnreadableError(f"data.path: no file matches {pattern} (from the folder {Path.cwd()}); check the pattern")
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = nearest(path.name, beside) or " Its folder is missing or empty."
    raise UnreadableError(f"data.path: there is no file {pattern} (from the folder {Path.cwd()}).{hint}")


def _csv_start(path: Path) -> tuple[list[str], list[str]]:
    """The header and the row after it, as far as they can be read."""
    csv.field_size_limit(2**31 - 1)  # a cell may be a whole book
    found: list[list[str]] = []
    with reading(path), path.open(encoding="utf-8-sig", errors="replace", newline="") as file, suppress(csv.Error):
        found.extend(itertools.islice((row for row in csv.reader(file) if row), 2))
    header, first = [*found, [], []][:2]
    return header, first


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _local(label: str, kind: object, files: list[Path], documents: Documents | None, *, sized: bool = True) -> Source:
    """A source of local files, known by what they hold and not by their names."""
    stamps, hashes = [], []
    for path in files:
        with reading(path), path.open("rb") as file:
            stamps.append(_stamp(path))
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    size = sum(size for size, _ in stamps) if sized else None
    return Source(label, digest([kind, hashes]), documents, size, tuple(files), tuple(stamps))


def _require_even(path: Path) -> None:
    """Hold every row of a CSV to its header: the library drops what is beyond, be it half of a text.

    Raises:
        DataError: a row has more fields; a text with a comma in it stands without quotes.
    """
    csv.field_size_limit(2**31 - 1)
    with reading(path), path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.reader(file)
        with suppress(csv.Error):  # what is no CSV at all, the library says better
            columns = len(next((row for row in rows if row), []))
            for row in rows:
                if any(row[columns:]):
                    raise DataError(
                        f"data.path: {path} has {len(row)} fields in line {rows.line_num:,}, and {columns} columns: "
                        'a text with a comma in it needs "quotes" around it'
                    )


class _LibraryError(Exception):
    """What ``datasets`` raised, in one line."""


def _cells(load: Callable[[], Any], data: DataSpec, place: str) -> Iterator[Document]:
    """The non-empty cells of a column as documents; the library is asked for a few rows at a time."""
    logging.getLogger("datasets").setLevel(logging.CRITICAL)  # it prints what it raises; our sentence carries it
    column, labels, done = data.column or "", label_fields(data), 0
    try:
        rows = load()
        if rows.column_names:
            _require_columns(data, rows.column_names, place)
            rows = rows.select_columns([column, *data.labels])
        features = rows.features or {}  # a hub data set numbers its classes
        names = {one: getattr(features.get(one), "names", None) for one in data.labels}
        for number, batch in enumerate(rows.iter(batch_size=_ROWS)):
            if not number:
                _require_columns(data, list(batch), place)
            cells = batch.get(column, ())
            told = {one: batch.get(one) or [None] * len(cells) for one in data.labels}  # no row of it may have one
            for row, cell in enumerate(cells, start=done + 1):
                if text := _as_text(cell, f"data.column: column '{column}' of {place}", row) or "":
                    said = [
                        _label(told[one][row - done - 1], names[one], f"data.{field}: column '{one}' of {place}", row)
                        for field, one in labels.items()
                    ]
                    if labels and said[0] is None:
                        raise DataError(
                            f"data.label: {place} says nothing in row {row:,} of column '{data.label}'; every text "
                            "needs a label"
                        )
                    yield Document(len(text.encode()), text_blocks(text), said[0] if said else None, tuple(said[1:]))
            done += len(cells)
    except DataError:
        raise
    except Exception as error:  # the library raises a dozen kinds: the network's, pyarrow's, pandas', its own
        cause = (str(error).strip() or "no cause given").splitlines()[0].rstrip(".")
        raise _LibraryError(f"{type(error).__name__}: {cause}") from error


def _label(value: object, names: list[str] | None, where: str, row: int) -> str | None:
    if names is not None and isinstance(value, int):
        value = names[value] if 0 <= value < len(names) else None
    return (_as_text(value, where, row) or "").strip() or None


def _as_text(cell: object, where: str, row: int) -> str | None:
    """What a cell says; None where it is missing, which "not a number" is in a table too."""
    if isinstance(cell, list | tuple | dict):
        raise DataError(f"{where} has several values in row {row:,}; expected one text or number")
    if isinstance(cell, bytes):
        try:
            return cell.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{where} is not UTF-8 in row {row:,} at byte {error.start}") from error
    return None if cell is None or cell != cell else str(cell)


def label_fields(data: DataSpec) -> dict[str, str]:
    """The fields that name the columns of answers, below ``data``, and what each names."""
    names = ("label", *(f"auxiliary.{name}.label" for name in data.auxiliary))
    return dict(zip(names, data.labels, strict=False))


def _require_columns(data: DataSpec, columns: list[str], place: object) -> None:
    fields = {"column": data.column or "", **label_fields(data)}
    for field, column in fields.items():
        if column not in columns:
            raise DataError(
                f"data.{field}: {place} has no column '{column}'; its columns are: {', '.join(columns)}."
                f"{nearest(column, columns)}"
            )


SOURCE: dict[str, Callable[[DataSpec], Source]] = {
    "stdlib": _stdlib,
    "text": _text,
    "csv": _rows,
    "json": _rows,
    "parquet": _rows,
    "hf": _hub,
}
"""source -> builder; a test holds its keys equal to the spec's."""
