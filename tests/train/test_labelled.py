"""Labelled texts in a corpus, and the cursor over them; what is wrong with a table is a sentence."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_helpers import CLASSES, data

from tuner.spec.errors import DataError
from tuner.spec.parts.data import AugmentSpec, DataSpec
from tuner.train.text.corpus import Corpus, open_corpus
from tuner.train.text.labelled.documents import PAD, AugmentedDocuments, Documents, evaluation_documents


def test_each_text_has_its_label_and_its_end(corpus: Corpus, table: Path) -> None:
    with table.open() as stream:
        rows = [(row["text"], row["kind"]) for row in csv.DictReader(stream)]
    assert corpus.info.classes == CLASSES
    tokenizer, found = corpus.tokenizer(), []
    for part in ("train", "val", "test"):
        tokens, labels = corpus.tokens(part), corpus.labels(part)
        assert labels[0, 0] == 0
        assert labels[-1].tolist() == [len(tokens), -1]
        for (begin, kind), (end, _) in pairwise(labels.tolist()):
            assert tokens[end - 1] == tokenizer.end
            found.append((tokenizer.decode(tokens[begin : end - 1]), CLASSES[kind]))
    assert Counter(found) == Counter(rows)


def some(lengths: list[int]) -> tuple[Any, Any]:
    """Texts of so many tokens; token k of text n is 10 n + k; its class is n modulo 3."""
    tokens = np.concatenate([10 * n + np.arange(length) for n, length in enumerate(lengths)]).astype(np.uint16)
    begins = np.cumsum([0, *lengths])
    return tokens, np.stack([begins, [*(n % 3 for n in range(len(lengths))), -1]], axis=1)


lengths = st.lists(st.integers(1, 9), min_size=1, max_size=12)


@given(lengths, st.integers(1, 7), st.integers(1, 5), st.integers(0, 99))
def test_every_text_comes_once_an_epoch(given: list[int], context: int, size: int, seed: int) -> None:
    tokens, labels = some(given)
    documents = Documents(tokens, labels, context, seed)
    rows = np.concatenate([documents.batch(step, size) for step in range(2 * len(given) + 4)])
    again = Documents(tokens, labels, context, seed)
    assert all((again.batch(step, size) == rows[step * size : (step + 1) * size]).all() for step in (3, 1, 2))
    for row in rows:
        number = row[0] // 10
        length = min(given[number], context)
        assert row[:length].tolist() == [10 * number + k for k in range(length)]
        assert (row[length:-1] == PAD).all()
        assert row[-1] == number % 3
    for epoch in range(2 * size):
        firsts = rows[epoch * len(given) : (epoch + 1) * len(given), 0]
        assert sorted(firsts // 10) == list(range(len(given)))


@given(lengths, st.integers(1, 7), st.integers(1, 5), st.none() | st.integers(1, 60))
def test_evaluation_reads_each_text_once(given: list[int], context: int, size: int, limit: int | None) -> None:
    tokens, labels = some(given)
    batches = list(evaluation_documents(tokens, labels, context, limit, size))
    seen = [int(row[0]) // 10 for rows, _ in batches for row in rows]
    wanted = len(given) if limit is None else min(len(given), max(1, limit * len(given) // sum(given)))
    assert len(seen) == len(set(seen)) == wanted
    for rows, kinds in batches:
        assert len(rows) == len(kinds) <= size
        assert rows.shape[1] == max(min(given[int(row[0]) // 10], context) for row in rows)
        assert kinds.tolist() == [int(row[0]) // 10 % 3 for row in rows]


@pytest.mark.parametrize("order", ["ab" * 20, "a" * 20 + "b" * 20, "aab" * 10 + "c" * 10])
def test_each_part_has_its_share_of_every_class(tmp_path: Path, order: str) -> None:
    """Also of a table whose rows alternate as the parts do, and of a sorted one."""
    file = tmp_path / "t.csv"
    file.write_text("text,kind\n" + "".join(f"text {n},{kind}\n" for n, kind in enumerate(order)))
    found = open_corpus(DataSpec.model_validate(data(file, split=[0.5, 0.3, 0.2])), tmp_path / "corpora")
    counts = [np.bincount(found.labels(part)[:-1, 1]) for part in ("train", "val", "test")]
    whole = np.array([order.count(kind) for kind in sorted(set(order))])
    assert [list(count) for count in counts] == [list(whole // 2), list(whole * 3 // 10), list(whole // 5)]


rates = st.sampled_from([0.0, 0.2, 0.5])


@given(lengths, rates, rates, rates, rates, st.integers(0, 99))
@settings(max_examples=50)
def test_disturbed_texts_keep_class_and_padding(
    given: list[int], mask: float, swap: float, shuffle: float, delete: float, seed: int
) -> None:
    documents = Documents(*some(given), 8, seed)
    spec = AugmentSpec(mask=mask, swap=swap, shuffle=shuffle, delete=delete)
    plain, rows = documents.batch(1, 6), AugmentedDocuments(documents, spec, seed).batch(1, 6)
    assert (rows[:, -1] == plain[:, -1]).all()
    before, after = (plain[:, :-1] != PAD).sum(1), (rows[:, :-1] != PAD).sum(1)
    assert ((after == before) if not delete else (after >= 1) & (after <= before)).all()
    assert all((row[:count] != PAD).all() for row, count in zip(rows, after, strict=True))
    if not mask and not delete:
        assert (np.sort(rows[:, :-1]) == np.sort(plain[:, :-1])).all()


Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        file = tmp_path / "t.csv"
        file.write_text(text)
        return file

    return written


def test_wrong_tables_are_sentences(write: Write, tmp_path: Path) -> None:
    def opened(text: str, **changes: Any) -> None:
        open_corpus(DataSpec.model_validate(data(write(text), **changes)), tmp_path / "corpora")

    with pytest.raises(DataError, match=r"data.label: .* has no column 'kind'; its columns are: text, knd. Did you"):
        opened("text,knd\na,b\n")
    with pytest.raises(DataError, match=r"says nothing in row 2 of column 'kind'"):
        opened("text,kind\na,b\nb,\n")
    with pytest.raises(DataError, match=r"all texts to learn from are 'b' by column 'kind'; expected two classes"):
        opened("text,kind\n" + "a,b\n" * 9)
    with pytest.raises(DataError, match=r"more than 1,000 different labels; is it the right column"):
        opened("text,kind\n" + "".join(f"a,{n}\n" for n in range(1100)))
    with pytest.raises(DataError, match=r"no text is left for the test part"):
        opened("text,kind\na,b\na,c\nb,b\nb,c\n", split=[0.5, 0.45, 0.05])
    with pytest.raises(DataError, match=r"all texts to judge by are 'b'"):
        opened("text,kind\na,b\na,c\nb,b\n", split=[0.5, 0.5, 0.0])
    with pytest.raises(DataError, match=r"is no class's name, it is too long"):
        opened(f"text,kind\na,b\na,{'c' * 101}\n")


@pytest.mark.parametrize("kind", ["json", "parquet", "hf"])
def test_other_sources_have_labels_too(kind: str, tmp_path: Path) -> None:
    """Also numbers, truth values, and classes that a data set numbers itself."""
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "kind": datasets.ClassLabel(names=["no", "yes"])})
    rows = {"text": [f"text {n}" for n in range(20)], "kind": [n % 2 for n in range(20)]}
    told: dict[str, Any] = {"source": kind, "path": str(tmp_path / f"t.{kind}")}
    match kind:
        case "json":
            datasets.Dataset.from_dict(rows).to_json(told["path"])
        case "parquet":
            datasets.Dataset.from_dict({**rows, "kind": [bool(n) for n in rows["kind"]]}).to_parquet(told["path"])
        case "hf":
            (tmp_path / "set").mkdir()
            datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "set" / "train.parquet")
            told = {"source": "hf", "name": str(tmp_path / "set"), "path": None}
    built = open_corpus(DataSpec.model_validate(data(tmp_path, **told)), tmp_path / "corpora")
    assert built.info.classes == {"json": ("0", "1"), "parquet": ("False", "True"), "hf": ("no", "yes")}[kind]
    assert built.info.documents == (12, 4, 4)
