"""Making a corpus: text cleaned, filtered and watched, its tokenizer trained, its tokens written; renamed when whole.
What is built is read and found again in corpus.py.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tuner.spec.disk import force, seal, sha256
from tuner.spec.errors import DataError
from tuner.spec.parts.data import DataSpec
from tuner.spec.records import Preparing
from tuner.train.text.labelled.labels import Labels
from tuner.train.text.prepare.clean import cleaned
from tuner.train.text.prepare.filters import Judgement, judge
from tuner.train.text.prepare.watch import Watch
from tuner.train.text.source import Source, label_fields, require_unchanged
from tuner.train.text.split import PARTS, Piece, pieces
from tuner.train.text.tokenizer import BPE_BYTES, Tokenizer, build_tokenizer

FORMAT = 1
"""Raise it when what a build writes changes: old corpora are then built again beside."""
META = "meta.json"
Progress = Callable[[Preparing], None]
_BATCH = 4 * 1024 * 1024  # bytes of text encoded in one call: enough to keep every core busy


def build(data: DataSpec, source: Source, root: Path, name: str, progress: Progress, judged: str) -> None:
    """Make the corpus ``name`` under ``root``: whole or not at all; ``judged`` is its fingerprint without auxiliary
    labels.

    Raises:
        DataError: the source cannot be read, or nothing is left of it.
    """
    folder, temporary = root / name, root / f".{name}.{os.getpid()}.building"
    if folder.exists():
        progress(Preparing(f"the tokens in {folder} are damaged: making them again"))
    temporary.mkdir()
    try:
        judgement = _judged(data, source, progress)
        texts = training_text(data, source, judgement, progress)
        tokenizer = build_tokenizer(data.tokenizer, texts, bool(source.documents))
        tokenizer.save(temporary)
        dtype = "<u2" if tokenizer.vocab <= 2**16 else "<u4"
        watch = Watch(bool(source.documents))
        stream = _told(_texts(data, source, judgement), watch)
        labels = None if data.label is None else Labels(label_fields(data))
        counts = _write_tokens(stream, source, tokenizer, dtype, temporary, progress, labels)
        require_unchanged(source)
        if judgement.dropped and not counts.tokens[0]:
            why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(judgement.why.items()))
            raise DataError(
                f"data.clean: its filters leave no training document of {source.label} ({why}); loosen them"
            )
        info: dict[str, Any] = {
            "fingerprint": name,
            "tokenizer_fingerprint": tokenizer.fingerprint,
            "vocab": tokenizer.vocab,
            "tokens": counts.tokens,
            "bytes": counts.bytes,
            "documents": counts.documents,
        }
        if labels is not None:
            info["classes"], *others = classes = labels.classes()
            if others:
                info |= {"auxiliary": dict(zip(data.auxiliary, others, strict=True)), "judged": judged}
            labels.write(temporary, classes, counts.tokens)
        paths = sorted(temporary.iterdir())
        meta = {
            "format": FORMAT,
            "dtype": dtype,
            "source": source.label,
            "info": info,
            "report": {**watch.facts(), "left_out": judgement.why, "unknown": counts.unknown_shares()},
            "files": {path.name: path.stat().st_size for path in paths},
            "sha256": {path.name: sha256(path) for path in paths},
        }
        (temporary / META).write_text(json.dumps(seal(meta), indent=1), encoding="utf-8")
        for path in (*temporary.iterdir(), temporary):
            force(path)
        if folder.exists():  # damaged, or it would have been read
            shutil.rmtree(folder)
        temporary.rename(folder)
        force(root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@dataclass
class _Counts:
    tokens: list[int]
    bytes: list[int]
    documents: list[int]
    unknown: list[int]

    def unknown_shares(self) -> dict[str, float]:
        """Of the tokens of each part, how many stand for what the vocabulary cannot spell."""
        told = zip(PARTS, self.unknown, self.tokens, strict=True)
        return {part: unknown / max(1, tokens) for part, unknown, tokens in told}


def _judged(data: DataSpec, source: Source, progress: Progress) -> Judgement:
    """Which training documents are left out; without filters nothing is read for it."""
    if not data.clean.filters:
        return Judgement()
    if source.documents is None:
        raise DataError(
            f"data.clean: filters leave documents out, and {source.label} is one text without any; say what is a "
            "document in it with data.documents: paragraph or line"
        )
    progress(Preparing(f"reading {source.label} for its filters"))
    return judge(_texts(data, source, Judgement()), data.clean)


def _texts(data: DataSpec, source: Source, judgement: Judgement, only: int | None = None) -> Iterator[Piece]:
    """The pieces as they are learned from."""
    number = -1
    for piece in pieces(source, data.split, only):
        number += piece.opens and piece.part == 0
        if piece.part == 0 and number in judgement.dropped:
            continue
        text = cleaned(piece.text, data.clean, data.mask)
        yield piece if text == piece.text else replace(piece, text=text, size=len(text.encode()))


def _told(stream: Iterator[Piece], watch: Watch) -> Iterator[Piece]:
    for piece in stream:
        watch.hear(piece)
        yield piece


def training_text(data: DataSpec, source: Source, judgement: Judgement, progress: Progress) -> Iterator[str]:
    """The training part in blocks, telling how much of what the tokenizer needs is read."""
    size = source.size and source.size * data.split[0]
    whole = min(size or BPE_BYTES, BPE_BYTES) if data.tokenizer.kind == "bpe" else size
    done = told = 0
    for piece in _texts(data, source, judgement, only=0):
        yield piece.text
        done += piece.size
        if done - told >= _BATCH:
            told = done
            progress(_step(f"reading {source.label} for the tokenizer", done, whole))


def _write_tokens(
    stream: Iterator[Piece],
    source: Source,
    tokenizer: Tokenizer,
    dtype: str,
    folder: Path,
    progress: Progress,
    labels: Labels | None,
) -> _Counts:
    counts = _Counts([0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0])
    with (
        (folder / "train.bin").open("wb") as a,
        (folder / "val.bin").open("wb") as b,
        (folder / "test.bin").open("wb") as c,
    ):
        files = (a, b, c)
        for batch in _batches(stream):
            for piece, ids in zip(batch, tokenizer.encode([piece.text for piece in batch]), strict=True):
                _append(piece, ids, tokenizer.end, dtype, files[piece.part], counts, labels)
                if tokenizer.unknown is not None:
                    counts.unknown[piece.part] += int((ids == tokenizer.unknown).sum())
            progress(_step(f"tokenising {source.label}", sum(counts.bytes), source.size))
        if labels is not None:  # each of its texts stands alone: the last one ends as well
            for part, file in enumerate(files):
                _end(tokenizer.end, dtype, file, counts, part)
    if not sum(counts.bytes):
        raise DataError(f"data: {source.label} holds no text: expected at least one document that is not empty")
    return counts


def _append(
    piece: Piece,
    ids: NDArray[np.unsignedinteger[Any]],
    end: int | None,
    dtype: str,
    file: BinaryIO,
    counts: _Counts,
    labels: Labels | None,
) -> None:
    part = piece.part
    if piece.opens:
        _end(end, dtype, file, counts, part)
        counts.documents[part] += 1
        if labels is not None:
            labels.hear(part, counts.tokens[part], (piece.label, *piece.auxiliary))
    file.write(ids.astype(dtype).tobytes())
    counts.tokens[part] += len(ids)
    counts.bytes[part] += piece.size


def _end(end: int | None, dtype: str, file: BinaryIO, counts: _Counts, part: int) -> None:
    """Close the document before, if there was one and the tokenizer has a word for it."""
    if end is not None and counts.documents[part]:
        file.write(np.array([end], dtype).tobytes())
        counts.tokens[part] += 1


def _batches(stream: Iterator[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for piece in stream:
        batch.append(piece)
        size += piece.size
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _step(task: str, done: int, whole: float | None) -> Preparing:
    if whole:
        return Preparing(task, min(1.0, done / whole))
    return Preparing(f"{task}, {done / 1e6:.0f} MB")
