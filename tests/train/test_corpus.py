"""The corpus: split, built once whoever asks, whole after any death, rebuilt when damaged."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.errors import DataError
from tuner.spec.parts.data import DataSpec
from tuner.spec.records import Preparing
from tuner.train.text.corpus import Corpus, corpus_info, corpus_report, open_corpus, read_corpus
from tuner.train.text.prepare.watch import strangeness
from tuner.train.text.source import Document, Source
from tuner.train.text.split import PARTS, pieces

TEXT = "".join(f"The quick brown fox no. {number}, größer als 漢字.\n" for number in range(300))


@pytest.fixture
def book(tmp_path: Path) -> DataSpec:
    return text_spec(tmp_path / "book.txt", TEXT)


@pytest.fixture
def shelf(tmp_path: Path) -> DataSpec:
    for number in range(20):
        (tmp_path / f"{number:02}.txt").write_text("Book " + "I" * number + ": words and words " * 40)
    return DataSpec(source="text", path=str(tmp_path / "??.txt"), context=16, tokenizer={"kind": "byte"})


def text_spec(path: Path, text: str, **fields: Any) -> DataSpec:
    path.write_bytes(text.encode())
    return DataSpec(**{"source": "text", "path": str(path), "context": 16, "tokenizer": {"kind": "byte"}, **fields})


def change(data: DataSpec, **fields: Any) -> DataSpec:
    return DataSpec.model_validate({**data.model_dump(), **fields})


def built(corpus: Corpus) -> dict[str, str]:
    tokenizer = corpus.tokenizer()
    return {part: tokenizer.decode(corpus.tokens(part)) for part in PARTS}


def folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()]


# --- the split


@given(
    st.lists(st.integers(1, 5_000), max_size=60),
    st.sampled_from([(0.8, 0.1, 0.1), (0.9, 0.1, 0.0), (0.5, 0.25, 0.25), (0.98, 0.02, 0.0)]),
)
def test_documents_go_whole_to_parts_near_their_shares(sizes: list[int], split: tuple[float, float, float]) -> None:
    def source() -> Source:
        return Source("x", "", lambda: iter([Document(n, [chr(97 + i % 26) * n]) for i, n in enumerate(sizes)]))

    found = list(pieces(source(), split))
    assert [piece.size for piece in found] == sizes, "in order, each once"
    assert found == list(pieces(source(), split)), "deterministic"
    for part, share in enumerate(split):
        got = sum(piece.part == part for piece in found)
        assert abs(got - share * len(sizes)) <= 2
        assert share or not got
        assert list(pieces(source(), split, only=part)) == [piece for piece in found if piece.part == part]


def test_ten_equal_documents_split_eight_one_one() -> None:
    source = Source("x", "", lambda: iter([Document(5, ["12345"]) for _ in range(10)]))
    parts = [piece.part for piece in pieces(source, (0.8, 0.1, 0.1))]
    assert [parts.count(part) for part in range(3)] == [8, 1, 1]


@given(st.permutations([10] * 90 + [1000] * 10))
def test_a_documents_size_plays_no_part(sizes: list[int]) -> None:
    def parts(lengths: list[int]) -> list[int]:
        source = Source("x", "", lambda: iter([Document(n, ["x" * n]) for n in lengths]))
        return [piece.part for piece in pieces(source, (0.8, 0.1, 0.1))]

    assert parts(sizes) == parts([1] * len(sizes))


@pytest.mark.parametrize("split", [(0.8, 0.1, 0.1), (0.9, 0.1, 0.0), (1 / 3, 1 / 3, 1 / 3)])
def test_one_text_is_cut_at_its_shares(book: DataSpec, tmp_path: Path, split: tuple[float, float, float]) -> None:
    corpus = open_corpus(change(book, split=split), tmp_path / "c")
    parts = built(corpus)
    assert "".join(parts.values()) == TEXT
    size = len(TEXT.encode())
    edge = 0.0
    position = 0
    for part, share in zip(PARTS, split, strict=True):
        edge += share * size
        position += len(parts[part].encode())
        assert edge - 1 <= position <= edge + 3
    assert corpus.info.tokens == corpus.info.bytes == tuple(len(parts[p].encode()) for p in PARTS)
    assert corpus.info.documents == (0, 0, 0)
    assert len(corpus.tokens("test")) == corpus.info.tokens[2]


# --- what a corpus holds


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_an_end_of_text_stands_between_documents(shelf: DataSpec, tmp_path: Path, kind: str) -> None:
    corpus = open_corpus(change(shelf, tokenizer={"kind": kind}), tmp_path / "c")
    info = corpus.info
    assert info.documents == (16, 2, 2)
    texts = {part: text.split("<|endoftext|>") for part, text in built(corpus).items()}
    assert tuple(len(texts[part]) for part in PARTS) == info.documents
    assert tuple(sum(len(t.encode()) for t in texts[part]) for part in PARTS) == info.bytes
    together = sorted(text for part in PARTS for text in texts[part])
    assert together == sorted(path.read_text() for path in tmp_path.glob("??.txt"))
    for part, count in zip(PARTS, info.tokens, strict=True):
        tokens = corpus.tokens(part)
        assert (len(tokens), tokens.dtype) == (count, np.dtype("<u2"))
        assert int(tokens.max()) < info.vocab
        with pytest.raises(ValueError, match="read-only"):
            tokens[0] = 1


def test_a_char_vocabulary_comes_from_the_training_part_alone(tmp_path: Path) -> None:
    data = text_spec(tmp_path / "t.txt", "ab" * 400 + "xyz" * 40, tokenizer={"kind": "char"}, split=(0.8, 0.2, 0))
    corpus = open_corpus(data, tmp_path / "c")
    assert corpus.info.vocab == 3, "a, b and unknown; one text has no end"
    assert set(built(corpus)["val"]) == {"a", "b", "\ufffd"}


def test_a_large_vocabulary_takes_four_bytes_a_token(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {f"w{number}": number for number in range(65_537)}
    library = Tokenizer(models.WordLevel(words, unk_token="w0"))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    library.save(str(tmp_path / "large.json"))
    for name in list(words)[65_536:]:
        del words[name]
    library = Tokenizer(models.WordLevel(words, unk_token="w0"))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    library.save(str(tmp_path / "small.json"))
    text = " ".join(f"w{number}" for number in range(65_000, 65_537)) + " "
    for name, kind, last in (("large", "<u4", 65_536), ("small", "<u2", 0)):
        tokenizer = {"kind": "file", "path": str(tmp_path / f"{name}.json")}
        data = text_spec(tmp_path / "t.txt", text * 9, tokenizer=tokenizer)
        corpus = open_corpus(data, tmp_path / "c")
        tokens = np.concatenate([corpus.tokens(part) for part in PARTS])
        assert tokens.dtype == np.dtype(kind)
        assert tokens.tolist()[:537] == [*range(65_000, 65_536), last]


def test_rows_become_a_corpus_and_unknown_sizes_are_told_in_megabytes(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"body": f"row {i} says hello"}) for i in range(200)))
    told: list[Preparing] = []
    data = DataSpec(
        source="json", path=str(tmp_path / "rows.jsonl"), column="body", context=16, tokenizer={"kind": "bpe"}
    )
    corpus = open_corpus(data, tmp_path / "c", told.append)
    assert sum(corpus.info.documents) == 200
    assert told[-1].fraction is None
    assert told[-1].task.endswith("0 MB")


# --- once, and whole


def test_the_key_is_what_decides_the_tokens(book: DataSpec, tmp_path: Path) -> None:
    root = tmp_path / "c"
    assert corpus_info(book, root) is None
    assert not root.exists(), "asking creates nothing"
    corpus = open_corpus(book, root)
    info = corpus.info
    assert corpus_info(book, root) == info == open_corpus(change(book, context=8, val_tokens=64), root).info
    assert Path(info.folder) == root / info.fingerprint
    assert len(info.fingerprint) == len(info.tokenizer_fingerprint) == 16
    others = [change(book, split=(0.9, 0.1, 0)), change(book, tokenizer={"kind": "char"})]
    Path(book.path or "").write_text(TEXT + "more")
    others.append(book)
    keys = {open_corpus(other, root).info.fingerprint for other in others}
    assert len(keys | {info.fingerprint}) == 4
    assert corpus.tokens("val").tolist() == list(built(corpus)["val"].encode()), "an old corpus is left as it was"


def test_progress_is_told_by_bytes_and_never_goes_back(tmp_path: Path) -> None:
    text = "".join(f"{number} hares and hounds ran over hill and dale.\n" for number in range(300_000))
    data = text_spec(tmp_path / "t.txt", text, tokenizer={"kind": "char"})
    told: list[Preparing] = []
    open_corpus(data, tmp_path / "c", told.append)
    reading = [p.fraction for p in told if "for the tokenizer" in p.task]
    writing = [p.fraction for p in told if "tokenising" in p.task]
    for fractions in (reading, writing):
        assert len(fractions) >= 2
        assert fractions == sorted(fractions, key=lambda f: f or 0.0)
    assert writing[-1] == 1.0
    told.clear()
    open_corpus(data, tmp_path / "c", told.append)
    assert told == []


@pytest.mark.parametrize("damage", ["meta", "no meta", "short", "missing", "tokenizer", "format"])
def test_a_damaged_corpus_is_built_again(book: DataSpec, tmp_path: Path, damage: str) -> None:
    root = tmp_path / "c"
    whole = open_corpus(book, root)
    before = built(whole)
    folder = Path(whole.info.folder)
    match damage:
        case "meta":
            (folder / "meta.json").write_text('{"format": 1, "fil')
        case "no meta":
            (folder / "meta.json").unlink()
        case "short":
            with (folder / "val.bin").open("r+b") as file:
                file.truncate(10)
        case "missing":
            (folder / "test.bin").unlink()
        case "tokenizer":
            (folder / "tokenizer_state.json").write_text("")
        case "format":
            meta = json.loads((folder / "meta.json").read_text())
            (folder / "meta.json").write_text(json.dumps({**meta, "format": 0}))
    assert corpus_info(book, root) is None
    assert built(open_corpus(book, root)) == before
    assert folders(root) == [folder]


BUILDER = """
import sys, time
from pathlib import Path
from tuner.spec.parts.data import DataSpec
from tuner.train.text.corpus import open_corpus
data = DataSpec.model_validate_json(sys.argv[1])
sys.stdin.readline()
told = []
def progress(p):
    told.append(p.task.split()[0])
    if sys.argv[3] == "stall" and told[-1] == "tokenising":
        print("stalled", flush=True)
        time.sleep(60)
corpus = open_corpus(data, Path(sys.argv[2]), progress)
print(corpus.info.fingerprint, corpus.tokens("train").sum(), *sorted(set(told)))
"""


def builder(data: DataSpec, root: Path, how: str = "plain") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILDER, data.model_dump_json(), str(root), how]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_four_processes_at_once_build_once(tmp_path: Path) -> None:
    data = text_spec(tmp_path / "t.txt", TEXT * 100, tokenizer={"kind": "bpe"})
    crowd = [builder(data, tmp_path / "c") for _ in range(4)]
    for process in crowd:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=30)[0].split() for process in crowd]
    assert [process.returncode for process in crowd] == [0] * 4
    assert len({tuple(words[:2]) for words in said}) == 1
    assert sum("tokenising" in words for words in said) == 1
    assert len(folders(tmp_path / "c")) == 1


def test_a_killed_builder_leaves_nothing_half_and_the_next_call_succeeds(book: DataSpec, tmp_path: Path) -> None:
    root = tmp_path / "c"
    process = builder(book, root, "stall")
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "stalled\n"
    other = open_corpus(change(book, split=(0.9, 0.1, 0)), root)
    assert len(list(root.glob(".*.building"))) == 1, "the work of a living builder is not touched"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert corpus_info(book, root) is None
    open_corpus(change(book, tokenizer={"kind": "char"}), root)
    assert list(root.glob(".*.building")) == [], "any builder sweeps up after the dead"
    assert "".join(built(open_corpus(book, root)).values()) == TEXT
    assert read_corpus(Path(other.info.folder)) == other


def test_waiting_for_another_process_is_told(book: DataSpec, tmp_path: Path) -> None:
    root = tmp_path / "c"
    corpus = open_corpus(book, root)
    (Path(corpus.info.folder) / "meta.json").unlink()
    code = "import sys, filelock\nwith filelock.FileLock(sys.argv[1]):\n    print(1, flush=True)\n    input()"
    lock = str(root / f"{corpus.info.fingerprint}.lock")
    holder = subprocess.Popen(
        [sys.executable, "-c", code, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "1\n"
    told: list[str] = []

    def progress(preparing: Preparing) -> None:
        told.append(preparing.task)
        if len(told) == 1:
            holder.communicate("\n")

    assert built(open_corpus(book, root, progress)) == built(corpus)
    assert told[0] == "waiting for another process that builds the corpus"


def test_a_failed_build_leaves_no_folder_and_no_lock_held(tmp_path: Path) -> None:
    root = tmp_path / "c"
    data = text_spec(tmp_path / "t.txt", TEXT)
    (tmp_path / "t.txt").write_bytes(TEXT.encode() + b"\xff")
    with pytest.raises(DataError, match="not UTF-8 at byte"):
        open_corpus(data, root)
    assert folders(root) == []
    for path in root.glob("*.lock"):
        FileLock(path).acquire(timeout=0).lock.release(force=True)


# --- mistakes


def test_a_corpus_too_short_says_what_there_is_and_what_is_needed(book: DataSpec, tmp_path: Path) -> None:
    root = tmp_path / "c"
    tokens = open_corpus(book, root).info.tokens
    most = min(tokens) - 1
    assert open_corpus(change(book, context=most), root).info.tokens == tokens
    have = f"train {tokens[0]:,}, val {tokens[1]:,}, test {tokens[2]:,}"
    with pytest.raises(DataError, match=rf"context {most + 1}: .*least {most + 2:,} tokens .*{have}"):
        open_corpus(change(book, context=most + 1), root)
    corpus = open_corpus(change(book, split=(0.5, 0.5, 0), context=most + 1), root)
    assert corpus.tokens("test").size == 0


def test_too_few_documents_are_named_as_the_reason(shelf: DataSpec, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"only 3 documents, and each goes whole to one part"):
        open_corpus(change(shelf, path=str(tmp_path / "0[0-2].txt")), tmp_path / "c")


def test_rows_without_text_are_no_corpus(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,b\n,1\n,2\n")
    data = DataSpec(source="csv", path=str(tmp_path / "t.csv"), column="text", tokenizer={"kind": "byte"})
    with pytest.raises(DataError, match="holds no text"):
        open_corpus(data, tmp_path / "c")


def test_a_root_that_cannot_be_written_is_one_sentence(book: DataSpec, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write the corpus in .*file"):
        open_corpus(book, tmp_path / "file" / "c")


def test_reading_what_is_built_loads_no_heavy_library(book: DataSpec, tmp_path: Path) -> None:
    open_corpus(book, tmp_path / "c")
    code = """
import sys
from pathlib import Path
from tuner.spec.parts.data import DataSpec
from tuner.train.text.corpus import corpus_info, open_corpus
data = DataSpec.model_validate_json(sys.argv[1])
assert corpus_info(data, Path(sys.argv[2])) == open_corpus(data, Path(sys.argv[2])).info
print([name for name in ("torch", "lightning", "datasets", "tokenizers", "pandas") if name in sys.modules])
"""
    command = [sys.executable, "-W", "error", "-c", code, book.model_dump_json(), str(tmp_path / "c")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


# --- what a vocabulary cannot spell


@pytest.mark.parametrize("kind", ["char", "byte"])
def test_what_the_vocabulary_cannot_spell_is_counted_and_said(tmp_path: Path, kind: str) -> None:
    """All of it is one token that is soon foretold: a loss on it praises nobody."""
    data = text_spec(
        tmp_path / "book.txt", "the cat sat on the mat. " * 300 + "漢字かな " * 120, tokenizer={"kind": kind}
    )
    found = corpus_report(Path(open_corpus(data, tmp_path / "corpora").info.folder))["unknown"]
    if kind == "byte":
        assert found == {"train": 0, "val": 0, "test": 0}
        assert strangeness(found) is None
        return
    assert found["train"] == 0
    assert found["test"] > 0.5
    assert "of the test part is in characters or words that the vocabulary does not have" in str(strangeness(found))
    assert strangeness({"val": 0.0009}) is None
