"""Several texts to learn from: the corpora of those that are mixed in, and the cursor that draws from all of them.
What is judged by is the text itself alone; nothing of a text mixed in may stand there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tuner.spec.errors import DataError
from tuner.spec.parts.data import DataSpec, TokenizerSpec
from tuner.train.text.build import Progress
from tuner.train.text.corpus import Corpus, open_corpus
from tuner.train.text.cursor import Batch, Windows
from tuner.train.text.prepare.watch import Watch
from tuner.train.text.source import open_source
from tuner.train.text.split import PARTS, pieces
from tuner.train.text.tokenizer import saved_as


def open_mixed(data: DataSpec, corpus: Corpus, root: Path, progress: Progress | None = None) -> dict[str, Corpus]:
    """The corpora of the texts mixed into ``data``, whose own is ``corpus``, by name; in its vocabulary.

    Raises:
        DataError: as ``open_corpus``.
    """
    folder = Path(corpus.info.folder)
    tokenizer = TokenizerSpec(kind="file", path=str(folder / saved_as(folder)))
    found, read = {}, PARTS[:1]
    for name in data.mix:
        with _named(name):
            found[name] = open_corpus(data.beside(name, tokenizer), root, progress, read)
    return found


def require_there(data: DataSpec) -> None:
    """Hold the texts mixed in to being there.

    Raises:
        DataError: one is missing, empty or unreadable.
    """
    for name in data.mix:
        with _named(name):
            open_source(data.beside(name, data.tokenizer))


def require_foreign(data: DataSpec) -> None:
    """Hold the texts mixed in to being others than what a model is judged by: paragraphs of some length are compared,
    and where both have documents these too.

    Raises:
        DataError: more than ``data.overlap`` of a part to judge by stands in one of them.
    """
    own = open_source(data)
    for name in data.mix:
        other = open_source(data.beside(name, data.tokenizer))
        by_documents = own.documents is not None and other.documents is not None
        for documents in (False, True) if by_documents else (False,):
            watch = Watch(documents)
            for piece in pieces(other, data.split, only=0):
                watch.hear(piece)
            for piece in pieces(own, data.split):
                if piece.part:
                    watch.hear(piece)
            for part, share in watch.facts()["overlap"].items():
                if share > data.overlap:
                    where = {"val": "validation", "test": "test"}[part]
                    raise DataError(
                        f"data.mix.{name}: {share:.0%} of the {where} part's text stands in it too (data.overlap "
                        f"allows {data.overlap:.0%}), so a loss would praise what was learned by heart. Mix in another "
                        "text, or allow it with data.overlap: 1"
                    )


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Say of which text mixed in a mistake is."""
    try:
        yield
    except DataError as error:
        raise DataError(f"data.mix.{name}: {error}") from error


class Mixture:
    """The windows of several texts, each with its share of the sequences: batches of shape (size, context + 1).

    Of the first n sequences, whatever n, a text has its share to within two; which they are depends on n alone, so
    nothing is kept. ``shares`` are those of all but the first text, which has what is left.
    """

    def __init__(self, windows: Sequence[Windows], shares: Sequence[float]) -> None:
        self._windows, self._rates, left = windows, list[float](), 1.0
        for share in shares:
            self._rates.append(min(1.0, share / left))
            left -= share

    def counts(self, sequences: int) -> list[int]:
        """How many of the first ``sequences`` each text has, the first one first."""
        left, found = sequences, []
        for rate in self._rates:
            found.append(int(np.floor(left * rate)))
            left -= found[-1]
        return [left, *found]

    def batch(self, step: int, size: int) -> Batch:
        """Sequences ``step * size`` to ``(step + 1) * size``, those of each text together."""
        before, after = self.counts(step * size), self.counts((step + 1) * size)
        wanted = zip(self._windows, before, after, strict=True)
        return np.concatenate([text.rows(first, end - first) for text, first, end in wanted if end > first])


def fingerprints(corpora: Mapping[str, Corpus]) -> dict[str, str]:
    """Name -> fingerprint, of texts mixed in."""
    return {name: corpus.info.fingerprint for name, corpus in corpora.items()}
