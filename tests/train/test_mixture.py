"""Texts mixed in: who is read when, in whose vocabulary, and that what is judged by stands in none of them."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_adapt import spec as trial_spec
from test_fit import assert_resumes, assert_same_state, train

from tuner.run.hands.link import DataJob
from tuner.run.hands.once import call
from tuner.search.fork import _point
from tuner.spec.errors import DataError, InfeasibleError, SpecError, UnreadableError
from tuner.spec.load import dump, parse
from tuner.spec.parts.data import DataSpec
from tuner.spec.records import MIXED, CorpusInfo, all_texts, texts_of
from tuner.spec.trial import TrialSpec
from tuner.train.text.corpus import open_corpus
from tuner.train.text.cursor import Windows
from tuner.train.text.mixed.mixture import Mixture, open_mixed, require_foreign, require_there

shares = st.lists(st.floats(0, 0.3), min_size=1, max_size=3)


@given(shares, st.integers(1, 12), st.integers(0, 500))
def test_each_text_has_its_share_of_whatever_was_read(shares: list[float], size: int, step: int) -> None:
    texts = [Windows(1000 * k + np.arange(100, dtype=np.uint16), 5, seed=1) for k in range(len(shares) + 1)]
    mixture = Mixture(texts, shares)
    before, after = mixture.counts(step * size), mixture.counts((step + 1) * size)
    assert sum(after) == (step + 1) * size
    for share, count in zip([1 - sum(shares), *shares], after, strict=True):
        assert abs(count - share * sum(after)) < 3
    rows = mixture.batch(step, size)
    assert rows.shape == (size, 6)
    for k, text in enumerate(texts):
        mine = rows[rows[:, 0] // 1000 == k]
        assert len(mine) == after[k] - before[k]
        assert not len(mine) or (mine == text.rows(before[k], len(mine))).all()


@pytest.fixture
def other(tmp_path: Path) -> Path:
    file = tmp_path / "other.txt"
    file.write_text(" ".join(f"{n} zebras zigzag" for n in range(3000)))
    return file


@pytest.fixture
def spec(text_file: Path, other: Path) -> Any:
    """A trial with ``share`` of the other text mixed in; ``None``: with none."""

    def build(share: float | None, **changes: Any) -> Any:
        plain = trial_spec(text_file).data.model_dump()
        mix = {} if share is None else {"other": {"source": "text", "path": str(other), "share": share}}
        return trial_spec(text_file, data={**plain, "mix": mix}, **changes)

    return functools.partial(build)


def test_an_interrupted_one_ends_bit_identical(spec: Any, place: Any) -> None:
    assert_resumes(spec(0.3), place)


def test_a_share_of_nothing_is_the_trial_without_and_a_larger_one_costs(spec: Any, place: Any) -> None:
    """It is judged by its own text: the more of another one it learns from, the less it knows of this."""
    found = {share: train(spec(share), place(str(share)))[1].milestones[4] for share in (None, 0.0, 0.9)}
    assert_same_state(place("None"), place("0.0"))
    assert found[None] == found[0.0] < found[0.9]
    assert spec(None).as_data().get("data").get("mix") is None


def test_another_text_under_the_same_name_is_no_resume(spec: Any, place: Any, other: Path) -> None:
    train(spec(0.3), place("a"), interrupt_after=17)
    other.write_text(other.read_text() + " and more")
    with pytest.raises(UnreadableError, match=r"trained on other data \(mixed_fingerprints"):
        train(spec(0.3), place("a"))


def test_it_is_read_in_the_vocabulary_of_the_text_itself(spec: Any, place: Any) -> None:
    data, root = spec(0.3).data, place("a").corpora
    corpus = open_corpus(data, root)
    (mixed,) = open_mixed(data, corpus, root).values()
    assert mixed.info.tokenizer_fingerprint == corpus.info.tokenizer_fingerprint
    assert "zebra" not in corpus.tokenizer().decode(corpus.tokens("train"))
    assert "e" in mixed.tokenizer().decode(mixed.tokens("train")[:200])


def test_what_is_judged_by_stands_in_none_of_them(spec: Any, text_file: Path, tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    pages = [f"Page {n}. " + f"the {n} of the words on it " * 12 for n in range(200)]
    book.write_text("\n\n".join(pages))
    told = {"source": "text", "path": str(book), "documents": "paragraph", "tokenizer": {"kind": "byte"}, "context": 16}
    data = DataSpec.model_validate({**told, "mix": {"again": {"source": "text", "path": str(book)}}})
    answer = call(DataJob(data, tmp_path / "corpora", apart=True))
    assert isinstance(answer, DataError)
    assert re.match(r"data.mix.again: \d+% of the validation part's text stands in it too", str(answer))
    assert isinstance(call(DataJob(data, tmp_path / "corpora")), CorpusInfo)
    require_foreign(spec(0.3).data)


YAML = """
name: mixed
trial:
  data:
    source: text
    path: a.txt
    mix:
      code: {source: stdlib, share: 0.2}
      books: {source: text, path: "books/*.txt"}
space:
  data.mix.code.share: {float: [0, 0.6]}
  optim.lr: {float: [1e-4, 1e-2], log: true}
forbid: ["data.mix.code.share > 0.5 and optim.lr > 5e-3"]
"""


def test_the_order_they_are_written_in_changes_nothing() -> None:
    code, books = "      code: {source: stdlib, share: 0.2}\n", '      books: {source: text, path: "books/*.txt"}\n'
    one, other = parse(YAML), parse(YAML.replace(code + books, books + code))
    assert list(one.trial.data.mix) == list(other.trial.data.mix) == ["books", "code"]


def test_a_text_that_is_missing_or_short_is_named(spec: Any, tmp_path: Path) -> None:
    data = spec(0.3).data.model_dump()
    missing = DataSpec.model_validate({**data, "mix": {"more": {"source": "text", "path": "no.txt"}}})
    with pytest.raises(DataError, match=r"data.mix.more: data.path: there is no file no.txt"):
        require_there(missing)
    (tmp_path / "few.txt").write_text("few words of it, and yet some more")  # too few in all parts but the first
    short = DataSpec.model_validate({**data, "mix": {"few": {"source": "text", "path": str(tmp_path / "few.txt")}}})
    assert isinstance(call(DataJob(short, tmp_path / "corpora")), CorpusInfo)
    (tmp_path / "few.txt").write_text("few")
    assert "data.mix.few: data: the corpus is too short" in str(call(DataJob(short, tmp_path / "corpora")))


def test_lines_that_are_judged_stand_in_none_of_them(tmp_path: Path) -> None:
    """Short as they are; the same file, parted in the same way, is no harm."""
    lines = [f"line {n} is short" for n in range(100)]
    told = {"source": "text", "path": str(tmp_path / "a.txt"), "documents": "line"}
    (tmp_path / "a.txt").write_text("\n".join(lines))
    (tmp_path / "b.txt").write_text("\n".join([*lines[1:], lines[0]]))
    data = DataSpec.model_validate({**told, "tokenizer": {"kind": "byte"}, "context": 16, "mix": {"again": told}})
    require_foreign(data)
    other = {**told, "path": str(tmp_path / "b.txt")}
    with pytest.raises(DataError, match=r"data\.mix\.again: .* of the validation part's text stands in it too"):
        require_foreign(DataSpec.model_validate({**data.model_dump(), "mix": {"again": other}}))


def test_shares_are_searched_and_written_down() -> None:
    spec = parse(YAML)
    assert parse(dump(spec)) == spec
    trial = spec.resolve({"data.mix.code.share": 0.4, "optim.lr": 1e-3})
    assert {name: one.share for name, one in trial.data.mix.items()} == {"code": 0.4, "books": 0.1}
    assert trial.hash != spec.trial.hash
    with pytest.raises(InfeasibleError, match="forbidden by"):
        spec.resolve({"data.mix.code.share": 0.55, "optim.lr": 6e-3})
    with pytest.raises(SpecError, match="nothing is called poems"):
        spec.resolve({"data.mix.poems.share": 0.4})


def test_trials_of_a_study_without_it_have_no_place_here() -> None:
    with pytest.raises(InfeasibleError, match=r"data\.mix\.code\.share: it has no such text or label"):
        _point(parse(YAML), TrialSpec())


def test_what_was_learned_from_is_known_by_all_its_texts() -> None:
    facts = {"data_fingerprint": "a", MIXED: '{"x": "b"}'}
    assert texts_of(facts) == all_texts("a", {"x": "b"}) != all_texts("a", {"x": "c"}) != "a"
    assert texts_of({"data_fingerprint": "a"}) == all_texts("a", {}) == "a"
    assert texts_of({}) is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "data.mix.code.share: {f",
            "data.mix.poems.share: {f",
            "data.mix.poems.share means nothing here: trial.data.mix has books, code",
        ),
        ("data.mix.code.share: {f", "data.mix.code.path: {f", "unknown path 'data.mix.code.path'"),
        ("[0, 0.6]", "[0, 1.6]", "a number from 0 to 0.95, got 1.6"),
        ("share: 0.2", "share: 0.99", "a number from 0 to 0.95, got 0.99"),
        ("share: 0.2", "shared: 0.2", "unknown key 'shared'"),
        ("share: 0.2}", "share: 0.9}", "mix leaves the text itself less than 0.05"),
        ("code: {source: stdlib, ", "code: {source: csv, path: a.csv, ", "source csv needs column"),
        ("    path: a.txt", "    path: a.txt\n    windows: random", "mix needs windows: epochs"),
        ("      code: {", "      My Code: {", "'My Code' is no name for it; one has small letters"),
        ("share: 0.2", "shar: 0.2", "unknown key 'shar'. Did you mean 'share'?"),
        ("source: stdlib, share", "share", "source is missing"),
        ("mix.code.share > 0.5", "mix.poems.share > 0.5", "data.mix.poems.share means nothing here"),
        ("log: true}", "log: true, when: {data.mix.poems.share: 0.2}}", "data.mix.poems.share means nothing here"),
    ],
)
def test_wrong_ones_are_sentences(old: str, new: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(YAML.replace(old, new), "a")
    assert said in str(caught.value)
    assert str(caught.value).startswith("a:")
