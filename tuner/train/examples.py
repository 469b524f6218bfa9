"""What a trial learns from and what it is judged by: windows of texts, or labelled texts, as its data has it.
The one place that knows there are two kinds; both are pure functions of seed and step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from tuner.spec.parts.data import AugmentSpec, DataSpec
from tuner.spec.records import UNTOLD, CorpusInfo
from tuner.train.text.augment import Augmented
from tuner.train.text.corpus import Corpus
from tuner.train.text.cursor import WINDOWS, Batch, Windowed, Windows, evaluation_windows
from tuner.train.text.labelled.documents import AugmentedDocuments, Documents, chosen_of, evaluation_documents
from tuner.train.text.mixed.mixture import Mixture
from tuner.train.text.split import Part


def training(corpus: Corpus, data: DataSpec, seed: int, mixed: Mapping[str, Corpus] | None = None) -> Windowed:
    """The batches of a trial: shape (size, context + 1), or (size, 2, context) where windows are disturbed; of the
    texts ``mixed`` in as well, each with its share.
    """
    tokens, disturbed = corpus.tokens("train"), data.augment != AugmentSpec()
    if data.label is None:
        if mixed:
            texts = [tokens, *(mixed[name].tokens("train") for name in data.mix)]
            each = [Windows(text, data.context, seed) for text in texts]
            windows: Windowed = Mixture(each, [told.share for told in data.mix.values()])
        else:
            windows = WINDOWS[data.windows](tokens, data.context, seed)
        return Augmented(windows, data.augment, seed) if disturbed else windows
    documents = Documents(tokens, corpus.labels("train"), data.context, seed)
    return AugmentedDocuments(documents, data.augment, seed) if disturbed else documents


def evaluation(
    corpus: Corpus, part: Part, data: DataSpec, limit: int | None, size: int
) -> Iterator[tuple[Batch, NDArray[np.int64]]]:
    """Inputs (at most ``size``, tokens) and what is right: the next tokens, of the same shape, or the classes
    (at most ``size``,), or (at most ``size``, labels). At most about ``limit`` tokens in all.
    """
    if data.label is None:
        return evaluation_windows(corpus.tokens(part), data.context, limit, size)
    return evaluation_documents(corpus.tokens(part), corpus.labels(part), data.context, limit, size)


def bits_per_byte(loss: float, info: CorpusInfo) -> float:
    """Of a loss in nats a token on the validation part."""
    return loss / math.log(2) * (info.tokens[1] / info.bytes[1])


def judged_texts(info: CorpusInfo, data: DataSpec) -> int:
    """How many labelled texts a trial is judged by at its milestones."""
    return chosen_of(info.documents[1], info.tokens[1], data.val_tokens)


def class_counts(corpus: Corpus, data: DataSpec) -> dict[str, dict[str, int]]:
    """Column of answers -> class -> training texts; of none where the data has no label. What an auxiliary label says
    nothing of is counted by none of its classes.
    """
    if data.label is None:
        return {}
    names = (corpus.info.classes, *corpus.info.auxiliary.values())
    counted = {}
    for column, classes, said in zip(data.labels, names, corpus.labels("train")[:-1, 1:].T, strict=True):
        counts = np.bincount(said[said != UNTOLD], minlength=len(classes))
        counted[column] = dict(zip(classes, map(int, counts), strict=True))
    return counted


def class_weights(corpus: Corpus) -> list[float]:
    """What each class weighs so that all weigh alike, a text 1 in the mean; a class without a training text 1."""
    labels = corpus.labels("train")[:-1, 1]
    counts = np.bincount(labels, minlength=len(corpus.info.classes))
    present = np.count_nonzero(counts)
    return [len(labels) / (present * int(count)) if count else 1.0 for count in counts]
