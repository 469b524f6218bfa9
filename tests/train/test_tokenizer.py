"""Tokenizers: exact round trips, saved and loaded alike, and quiet when the process forks."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.errors import DataError
from tuner.spec.parts.data import TokenizerSpec
from tuner.train.text.tokenizer import (
    BPE_BYTES,
    TOKENIZER,
    Tokenizer,
    _first,
    build_tokenizer,
    load_tokenizer,
    tokenizer_key,
)

TEXT = "def words(text):\n    return text.split()  # größer, 漢字, 🎈\n" * 40
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.sampled_from(
    ["", "<|endoftext|>", "a<|endoftext|>b", "\r\n\t  x", "\x00\ufffd\ufeff", "🎈" * 30]
)


def make(kind: str, documents: bool = True, vocab: int | None = None) -> Tokenizer:
    return build_tokenizer(TokenizerSpec(kind=kind, vocab=vocab), [TEXT, TEXT], documents)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return make("bpe", vocab=300)


def test_the_table_holds_the_kinds_of_the_spec() -> None:
    assert set(TOKENIZER) == set(get_args(TokenizerSpec.model_fields["kind"].annotation))


@given(st.lists(ANY, max_size=4))
def test_byte_and_bpe_round_trips_are_exact_for_any_text(bpe: Tokenizer, texts: list[str]) -> None:
    for tokenizer in (bpe, make("byte")):
        encoded = tokenizer.encode(texts)
        assert [tokenizer.decode(ids) for ids in encoded] == texts
        for ids in encoded:
            assert tokenizer.end not in ids.tolist()
            assert all(0 <= i < tokenizer.vocab for i in ids.tolist())


@given(st.text(st.sampled_from(sorted(set(TEXT)))), ANY)
def test_char_round_trips_are_exact_on_seen_characters(seen: str, other: str) -> None:
    tokenizer = make("char")
    assert tokenizer.decode(tokenizer.encode([seen])[0]) == seen
    ids = tokenizer.encode([other])[0]
    assert len(ids) == len(other)
    assert tokenizer.decode(ids) == "".join(c if c in TEXT else "\ufffd" for c in other)


def test_vocabularies_and_ends() -> None:
    byte, char, alone = make("byte"), make("char"), make("char", documents=False)
    assert (byte.vocab, byte.end) == (257, 256)
    characters = len(set(TEXT))
    assert (char.vocab, char.end) == (characters + 2, characters + 1)
    assert (alone.vocab, alone.end) == (characters + 1, None)
    assert alone.encode(["".join(sorted(set(TEXT)))])[0].tolist() == list(range(characters))
    for tokenizer in (byte, char, make("bpe", vocab=300)):
        end = tokenizer.end
        assert end is not None
        a, b = tokenizer.encode(["def ", "word"])
        assert tokenizer.decode([end, *a, end, end, *b, end]).split("<|endoftext|>") == [
            "",
            "def ",
            "",
            "word",
            "",
        ]
        assert tokenizer.decode([]) == ""


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_a_saved_tokenizer_loads_as_it_was(kind: str, tmp_path: Path) -> None:
    made = make(kind)
    made.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.vocab, loaded.end, loaded.fingerprint) == (made.vocab, made.end, made.fingerprint)
    for one, two in zip(made.encode([TEXT, "größe"]), loaded.encode([TEXT, "größe"]), strict=True):
        np.testing.assert_array_equal(one, two)


def test_bpe_training_is_deterministic_and_bounded(bpe: Tokenizer) -> None:
    assert make("bpe", vocab=300).fingerprint == bpe.fingerprint
    assert bpe.vocab == 300
    assert make("bpe", vocab=310).fingerprint != bpe.fingerprint
    block = "x" * (8 * 2**20)
    assert sum(len(text) for text in _first(iter(lambda: block, None), BPE_BYTES)) == BPE_BYTES


def test_bpe_training_takes_text_without_blanks() -> None:
    text = "".join(random.Random(0).choices("ACGT", k=200_000))
    tokenizer = build_tokenizer(TokenizerSpec(vocab=300), [text], True)
    assert tokenizer.decode(tokenizer.encode([text])[0]) == text
    assert len(tokenizer.encode([text])[0]) < len(text) / 2


def test_a_tokenizer_file_is_taken_by_its_content(bpe: Tokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    state = json.loads(path.read_text())
    state["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    path.write_text(json.dumps(state))
    spec = TokenizerSpec(kind="file", path=str(path))
    tokenizer = build_tokenizer(spec, [], True)
    assert tokenizer.decode(tokenizer.encode([TEXT])[0]) == TEXT, "a model's truncation is no business of a corpus"
    assert tokenizer.end == bpe.end
    other = tmp_path / "copy.json"
    other.write_bytes(path.read_bytes())
    assert tokenizer_key(spec) == tokenizer_key(TokenizerSpec(kind="file", path=str(other)))
    other.write_text(path.read_text() + " ")
    assert tokenizer_key(spec) != tokenizer_key(TokenizerSpec(kind="file", path=str(other)))


def test_keys_say_what_decides_the_tokens() -> None:
    assert tokenizer_key(TokenizerSpec()) == tokenizer_key(TokenizerSpec(vocab=1024))
    keys = [tokenizer_key(s) for s in (TokenizerSpec(), TokenizerSpec(vocab=512), TokenizerSpec(kind="char"))]
    assert len(set(map(str, keys))) == 3


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (None, "cannot read .*No such file.*expected the path of a tokenizer.json"),
        (lambda p: p.mkdir(), "cannot read .*Is a directory"),
        (lambda p: p.write_bytes(b"\xff\xfe"), "is not text at byte 0"),
        (lambda p: p.write_text("{}"), "is not a tokenizer: .*expected a tokenizer.json"),
    ],
)
def test_a_wrong_tokenizer_file_is_one_sentence(
    write: Callable[[Path], object] | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "tok.json"
    if write:
        write(path)
    with pytest.raises(DataError, match=rf"data\.tokenizer\.path: .*{message}"):
        build_tokenizer(TokenizerSpec(kind="file", path=str(path)), [], True)


@pytest.mark.parametrize("content", [None, "torn", "[]", '{"kind": "word"}', '{"kind": "char"}', '{"kind": "library"}'])
def test_a_damaged_saved_tokenizer_is_one_sentence(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "tokenizer_state.json").write_text(content)
    with pytest.raises(DataError, match="cannot read the one saved in"):
        load_tokenizer(tmp_path)


def test_a_fork_after_encoding_neither_warns_nor_hangs() -> None:
    code = """
import os
from tuner.spec.parts.data import TokenizerSpec
from tuner.train.text.tokenizer import build_tokenizer
tokenizer = build_tokenizer(TokenizerSpec(vocab=300), ["some text"] * 50, True)
tokenizer.encode(["some text"] * 500)
child = os.fork()
os.write(1, b"%d\\n" % len(tokenizer.encode(["some text"] * 500)))  # one piece, whoever writes meanwhile
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert "TOKENIZERS_PARALLELISM" not in os.environ
"""
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("500\n500\n", "")
