"""The corpus: tokens on disk, memory-mapped, built once however many processes ask, named by its fingerprint.
Nothing here knows batches or training, and reading what is built loads numpy alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from tuner.spec.disk import sha256, unseal
from tuner.spec.errors import DataError
from tuner.spec.parts.data import DataSpec
from tuner.spec.parts.scalars import digest
from tuner.spec.records import CorpusInfo, Preparing
from tuner.train.text.build import FORMAT, META, Progress, build, training_text
from tuner.train.text.labelled.labels import labels_file
from tuner.train.text.prepare.filters import Judgement
from tuner.train.text.source import Source, open_source
from tuner.train.text.split import PARTS, Part
from tuner.train.text.tokenizer import Tokenizer, build_tokenizer, load_tokenizer, tokenizer_key

_QUICK = 2**25  # bytes of text that a plan may read: about half a second
_UNSEALED = {"format", "dtype", "source", "info", "files"}  # metadata from before there were checksums


@dataclass(frozen=True)
class Corpus:
    """A corpus on disk. ``dtype`` is ``<u2`` (vocabulary up to 65,536) or ``<u4``."""

    info: CorpusInfo
    dtype: str

    def tokens(self, part: Part) -> NDArray[np.unsignedinteger[Any]]:
        """The ids of one part, shape (tokens,), memory-mapped read-only; empty where its share is 0."""
        count = self.info.tokens[PARTS.index(part)]
        if not count:
            return np.empty(0, self.dtype)
        return np.memmap(Path(self.info.folder) / f"{part}.bin", self.dtype, mode="r", shape=(count,))

    def labels(self, part: Part) -> NDArray[np.int64]:
        """Of a labelled text, where each document of a part begins, its class, and that of each auxiliary label, below
        0 where none is told; last where the part ends: shape (documents + 1, 1 + labels), memory-mapped read-only.
        """
        found: NDArray[np.int64] = np.load(Path(self.info.folder) / labels_file(part), mmap_mode="r")
        return found

    def tokenizer(self) -> Tokenizer:
        """Raises DataError where the saved tokenizer is damaged."""
        return load_tokenizer(Path(self.info.folder))


def corpus_info(data: DataSpec, root: Path) -> CorpusInfo | None:
    """What is known of a corpus that is built already, else None. Hashes the source's files; builds nothing.

    Raises:
        DataError: a source file is missing, empty or unreadable.
    """
    corpus = read_corpus(root / _fingerprint(data, open_source(data)))
    return corpus.info if corpus else None


def foreseen_vocabulary(data: DataSpec) -> int | None:
    """The vocabulary that the corpus will have, where reading a small local text tells; else None."""
    if data.tokenizer.kind == "file":
        try:
            return build_tokenizer(data.tokenizer, (), False).vocab
        except DataError:
            return None
    if data.tokenizer.kind != "char" or data.source not in ("text", "stdlib") or data.clean.filters:
        return None
    try:
        source = open_source(data)
        if source.size is None or source.size > _QUICK:
            return None
        texts = training_text(data, source, Judgement(), lambda work: None)
        return build_tokenizer(data.tokenizer, texts, bool(source.documents)).vocab
    except DataError:  # said in full when the corpus is built
        return None


def open_corpus(
    data: DataSpec, root: Path, progress: Progress | None = None, parts: Collection[Part] = PARTS
) -> Corpus:
    """The corpus of ``data`` in its own folder under ``root``, built if it is absent or damaged.

    One process builds; others that ask meanwhile wait for it. ``progress`` hears what is done, about once for
    each 4 MiB of text. A builder that is killed leaves only a temporary folder, which the next one removes.

    Raises:
        DataError: the source cannot be read, the corpus cannot be written, or one of ``parts`` with a share above 0
            has fewer than ``context`` + 1 tokens.
    """
    source = open_source(data)
    name, told = _fingerprint(data, source), progress or (lambda _: None)
    corpus = read_corpus(root / name, whole=True)
    if corpus is None:
        with _writing(root), _alone(root, name, progress):
            corpus = read_corpus(root / name, whole=True)
            if corpus is None:
                judged = _fingerprint(data.model_copy(update={"auxiliary": {}}), source)
                build(data, source, root, name, told, judged)
                corpus = cast(Corpus, read_corpus(root / name))
    require_context(corpus.info, data, parts)
    return corpus


def read_corpus(folder: Path, whole: bool = False) -> Corpus | None:
    """The corpus in ``folder`` by its metadata; None where none is, or a file has another size.

    ``whole`` reads every file and holds it against its checksum: a GB takes about a second. A corpus from before
    there were checksums has none.
    """
    try:
        meta = unseal(json.loads((folder / META).read_text(encoding="utf-8")), _UNSEALED)
        if meta["format"] != FORMAT or any((folder / f).stat().st_size != size for f, size in meta["files"].items()):
            return None
        if whole and any(sha256(folder / name) != told for name, told in meta.get("sha256", {}).items()):
            return None
        facts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in meta["info"].items()}
        if "auxiliary" in facts:
            facts["auxiliary"] = {name: tuple(told) for name, told in facts["auxiliary"].items()}
        return Corpus(CorpusInfo(folder=str(folder.absolute()), **facts), meta["dtype"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def corpus_report(folder: Path) -> dict[str, Any]:
    """What was seen when the corpus in ``folder`` was built: ``found`` (e-mail addresses and what looks like a secret,
    in the text as it is learned from), ``overlap`` (share of a part's text that stands in the training part too) and
    ``left_out`` (training documents by reason). Empty for a corpus from before this was looked for.
    """
    report: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8")).get("report", {})
    return report


def require_context(info: CorpusInfo, data: DataSpec, parts: Collection[Part] = PARTS) -> None:
    """Hold each of ``parts`` with a share above 0 to one window at least, of a labelled text to one document.

    Raises:
        DataError: one has fewer than ``data.context`` + 1 tokens, or no document.
    """
    if data.label is not None:
        for part, count, share in zip(PARTS, info.documents, data.split, strict=True):
            if share and not count:
                raise DataError(f"data: no text is left for the {part} part; give more texts, or another data.split")
        return
    needed = data.context + 1
    told = zip(PARTS, info.tokens, data.split, strict=True)
    if all(count >= needed for part, count, share in told if share and part in parts):
        return
    have = ", ".join(f"{part} {count:,}" for part, count in zip(PARTS, info.tokens, strict=True))
    documents = sum(info.documents)
    few = f" There are only {documents} documents, and each goes whole to one part." if 0 < documents < 10 else ""
    raise DataError(
        f"data: the corpus is too short for context {data.context}: each part with a share above 0 needs at "
        f"least {needed:,} tokens (context + 1), and the tokens are: {have}.{few} Give more text, a smaller "
        "data.context, or a data.split with other shares (test may be 0)"
    )


def _fingerprint(data: DataSpec, source: Source) -> str:
    """16 hex digits of all that decides the tokens; context and val_tokens do not."""
    return digest([FORMAT, source.key, tokenizer_key(data.tokenizer), data.split, *data.prepared])[:16]


@contextmanager
def _writing(root: Path) -> Iterator[None]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise DataError(f"cannot write the corpus in {root}: {error.strerror or error}; free or change it") from error


@contextmanager
def _alone(root: Path, name: str, progress: Progress | None) -> Iterator[None]:
    """Hold the lock of one corpus, and remove what builders that died have left."""
    lock = _lock(root, name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress:
            progress(Preparing("waiting for another process that builds the corpus"))
        lock.acquire()
    try:
        for left in root.glob(".*.building"):
            other = left.name.split(".")[1]
            if other == name:
                shutil.rmtree(left, ignore_errors=True)
                continue
            with suppress(Timeout), _lock(root, other).acquire(timeout=0):
                shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()


def _lock(root: Path, name: str) -> FileLock:
    return FileLock(root / f"{name}.lock", poll_interval=0.1)
