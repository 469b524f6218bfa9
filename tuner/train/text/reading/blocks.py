"""Text in blocks: files and long strings cut where a tokenizer minds least, in memory of a few blocks.
Nothing here knows where text comes from or which part it goes to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tuner.spec.errors import DataError, UnreadableError

BLOCK = 256 * 1024
"""Bytes of a file, or characters of a string, at a time."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the system's refusals into sentences that name the file.

    Raises:
        UnreadableError: in place of OSError.
    """
    try:
        yield
    except OSError as error:
        raise UnreadableError(f"data: cannot read {path}: {error.strerror or error}") from error


def file_blocks(path: Path, start: int, end: int) -> Iterator[str]:
    """Stream bytes ``start`` to ``end`` of a UTF-8 file, cut at a newline or a blank where there is one.

    Raises:
        DataError: bytes that are not UTF-8, with their offset; a file that cannot be read.
    """
    with reading(path), path.open("rb") as file:
        file.seek(start)
        position, left, carry = start, end - start, b""
        while left or carry:
            chunk = file.read(min(BLOCK, left))
            if left and not chunk:
                raise DataError(f"data: {path} became shorter while it was read; run again once nothing writes to it")
            left -= len(chunk)
            data = carry + chunk
            cut = _cut(data) if left else len(data)
            try:
                text = data[:cut].decode()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"data: {path} is not UTF-8 at byte {position + error.start}: expected text, got "
                    f"0x{data[error.start]:02x}; convert it first, for example: iconv -f LATIN1 -t UTF-8"
                ) from None
            yield text
            position += cut
            carry = data[cut:]


def text_blocks(text: str) -> Iterator[str]:
    """Cut a string into blocks of at most BLOCK characters, at a newline or a blank where there is one."""
    start = 0
    while len(text) - start > BLOCK:
        low, high = start + BLOCK * 3 // 4, start + BLOCK
        cut = text.rfind("\n", low, high) + 1 or max(text.rfind(" ", low, high), 0) or high
        yield text[start:cut]
        start = cut
    if start < len(text):
        yield text[start:]


def passages(blocks: Iterable[str], lines: bool) -> Iterator[str]:
    """The paragraphs of a text, which empty lines part, or its ``lines``; without the newlines at their ends, and
    without empty ones. One at a time is held.
    """
    open_lines: list[str] = []
    for line in _lines(blocks):
        if lines or not line.strip():
            if open_lines:
                yield "\n".join(open_lines)
            open_lines = []
        if line.strip():
            open_lines.append(line)
    if open_lines:
        yield "\n".join(open_lines)


def _lines(blocks: Iterable[str]) -> Iterator[str]:
    carry: list[str] = []
    for block in blocks:
        first, *others = block.split("\n")
        carry.append(first)
        for line in others:
            yield "".join(carry).rstrip("\r")
            carry = [line]
    yield "".join(carry).rstrip("\r")


def character_start(path: Path, position: int) -> int:
    """The first byte at or after ``position`` that starts a UTF-8 character (at most three further)."""
    with reading(path), path.open("rb") as file:
        file.seek(position)
        return position + _continuations(file.read(3))


def _continuations(data: bytes) -> int:
    return next((i for i, byte in enumerate(data) if byte & 0xC0 != 0x80), len(data))


def _cut(data: bytes) -> int:
    """Where to end a block: in its last quarter, so that blocks keep their size; never inside a character."""
    low = len(data) * 3 // 4
    if line := data.rfind(b"\n", low) + 1:
        return line
    if (blank := data.rfind(b" ", low)) > 0:
        return blank  # the blank opens the next block: a byte-level BPE keeps it with its word
    lead = len(data) - 1 - _continuations(data[:-5:-1])
    return lead if lead > 0 and data[lead] >= 0xC0 else len(data)
