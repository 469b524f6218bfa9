"""Sources: order, content keys, blocks that never cut a character, and a sentence for each mistake."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuner.spec.errors import DataError
from tuner.spec.parts.data import DataSpec
from tuner.train.text.reading import blocks
from tuner.train.text.reading.blocks import file_blocks, text_blocks
from tuner.train.text.source import SOURCE, Source, open_source, require_unchanged


def texts(source: Source) -> list[str]:
    assert source.documents is not None
    found = []
    for document in source.documents():
        text = "".join(document.blocks)
        assert document.size == len(text.encode())
        found.append(text)
    return found


def spec(source: str, path: Path | str | None = None, **fields: Any) -> DataSpec:
    return DataSpec(source=source, path=None if path is None else str(path), **fields)  # type: ignore[arg-type]


def test_the_table_holds_the_sources_of_the_spec() -> None:
    assert set(SOURCE) == set(get_args(DataSpec.model_fields["source"].annotation))


def test_stdlib_is_the_library_without_its_tests() -> None:
    source = open_source(DataSpec())
    parts = [path.parts for path in source.files]
    assert parts == sorted(parts)
    assert not {"test", "tests", "idle_test", "site-packages", "__pycache__"} & {p for path in parts for p in path}
    assert source.size is not None
    assert 8e6 < source.size < 20e6
    assert source.documents is not None
    first, again = source.documents(), source.documents()
    assert ["".join(next(first).blocks) for _ in range(5)] == ["".join(next(again).blocks) for _ in range(5)]
    assert open_source(DataSpec()).key == source.key


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("ab \n\r\té漢🎈"), max_size=300), block=st.integers(4, 40), data=st.data())
def test_file_blocks_are_the_file_cut_between_characters(
    text: str, block: int, data: st.DataObject, tmp_path: Path
) -> None:
    path = tmp_path / "t.txt"
    raw = text.encode()
    path.write_bytes(raw)
    start = blocks.character_start(path, data.draw(st.integers(0, len(raw))))
    before, blocks.BLOCK = blocks.BLOCK, block
    try:
        found = list(file_blocks(path, start, len(raw)))
        cut = list(text_blocks(text))
    finally:
        blocks.BLOCK = before
    assert "".join(found) == raw[start:].decode()
    assert all(0 < len(piece.encode()) <= 2 * block for piece in found)
    assert "".join(cut) == text
    assert all(0 < len(piece) <= block for piece in cut)


def test_undecodable_bytes_are_named_with_their_offset(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("é漢 line\n".encode() * 60_000 + b"caf\xe9 au lait")
    offset = path.read_bytes().index(b"\xe9 au")
    with pytest.raises(DataError, match=rf"latin\.txt is not UTF-8 at byte {offset}: .*0xe9.*iconv"):
        list(file_blocks(path, 0, path.stat().st_size))
    path.write_bytes(b"ends inside a character \xf0\x9f\x8e")
    with pytest.raises(DataError, match="at byte 24"):
        list(file_blocks(path, 0, path.stat().st_size))


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("one")
    source = open_source(spec("text", path))
    require_unchanged(source)
    path.write_text("longer")
    with pytest.raises(DataError, match="changed while it was read"):
        require_unchanged(source)
    path.unlink()
    with pytest.raises(DataError, match="changed while it was read"):
        require_unchanged(source)
    with pytest.raises(DataError, match=r"cannot read .*t\.txt: No such file"):
        list(file_blocks(path, 0, 3))


def test_one_file_has_no_documents_and_several_are_documents_in_sorted_order(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.txt", "a.txt", "deep/c.txt", "deep/er/d.txt", "deep/empty.txt", "other.md"):
        (tmp_path / name).write_text("" if "empty" in name else name)
    assert open_source(spec("text", tmp_path / "b.txt")).documents is None
    assert open_source(spec("text", tmp_path / "*.md")).documents is None
    source = open_source(spec("text", tmp_path / "**" / "*.txt"))
    assert texts(source) == ["a.txt", "b.txt", "deep/c.txt", "deep/er/d.txt"]


def test_the_key_follows_the_content_and_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "b[1].txt").write_text("hello")
    key = open_source(spec("text", tmp_path / "a.txt")).key
    assert open_source(spec("text", tmp_path / "b[1].txt")).key == key
    (tmp_path / "a.txt").write_text("hellO")
    assert open_source(spec("text", tmp_path / "a.txt")).key != key


def test_each_wrong_path_has_its_own_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text("x")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "empty.csv").touch()
    (tmp_path / "none").mkdir()
    for data, message in (
        (spec("text", "bok.txt"), r"no file bok\.txt .*Did you mean 'book\.txt'"),
        (spec("text", "nowhere/b.txt"), r"no file nowhere/b\.txt .*folder is missing"),
        (spec("text", "none"), r"none is a folder: .*none/\*\*/\*\.txt"),
        (spec("text", "*.rst"), r"no file matches \*\.rst"),
        (spec("text", "empty.txt"), r"empty\.txt is empty"),
        (spec("text", "e*.txt"), r"e\*\.txt is empty"),
        (spec("csv", "empty.csv", column="text"), r"empty\.csv is empty: .*column 'text'"),
        (spec("json", "book.jsonl", column="text"), r"no file book\.jsonl"),
    ):
        with pytest.raises(DataError, match=message):
            open_source(data)


ROWS = [
    {"id": 7, "text": "one, two\nthree"},
    {"id": 8, "text": None},
    {"id": 9, "text": "NA"},
    {"id": 10, "text": ""},
]


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "rows.csv").write_text('id,text\n007,"one, two\nthree"\n8,\n9,NA\n10,""\n')
    (tmp_path / "rows.json").write_text("\n".join(map(json.dumps, ROWS)))
    (tmp_path / "array.json").write_text(json.dumps(ROWS))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    return tmp_path


@pytest.mark.parametrize("name", ["rows.csv", "rows.json", "array.json", "rows.parquet"])
def test_rows_are_documents(tables: Path, name: str) -> None:
    kind = "json" if "json" in name else name.split(".")[1]
    assert texts(open_source(spec(kind, tables / name, column="text"))) == ["one, two\nthree", "NA"]
    numbers = texts(open_source(spec(kind, tables / name, column="id")))
    assert numbers == ["007" if kind == "csv" else "7", "8", "9", "10"]
    with pytest.raises(DataError, match=r"no column 'txt'; its columns are: id, text\. Did you mean 'text'"):
        texts(open_source(spec(kind, tables / name, column="txt")))
    one, other = (open_source(spec(kind, tables / name, column=c)).key for c in ("id", "text"))
    assert one != other


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gz"])
def test_rows_of_json_may_have_keys_that_others_lack(tmp_path: Path, compressed: bool) -> None:
    """Of a thousand rows: the keys of the first ones bind nobody, and values need no one type."""
    rows: list[dict[str, Any]] = [{"text": f"row {number}"} for number in range(900)]
    rows += [{"lang": "en", "text": "row 900"}, {"text": 901, "when": "2024-01-01", "more": {"a": [1]}}, {"lang": "de"}]
    path = tmp_path / ("log.jsonl.gz" if compressed else "log.jsonl")
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(lines) if compressed else lines)
    assert texts(open_source(spec("json", path, column="text"))) == [*(f"row {n}" for n in range(901)), "901"]
    assert texts(open_source(spec("json", path, column="when"))) == ["2024-01-01"]
    with pytest.raises(DataError, match="no column 'nope'; its columns are: text, lang, when, more"):
        texts(open_source(spec("json", path, column="nope")))
    (tmp_path / "list.json").write_text('{"text": "fine"}\n["text"]\n')
    with pytest.raises(DataError, match=r"list\.json, line 2: expected an object"):
        texts(open_source(spec("json", tmp_path / "list.json", column="text")))


def test_rows_that_end_with_a_comma_are_read_as_headed(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,url\nHello world,http://a,\nMore,http://b,\n")
    assert texts(open_source(spec("csv", path, column="text"))) == ["Hello world", "More"]
    uneven = open_source(spec("csv", path, column="text")).key
    path.write_text("text,url\nHello world,http://a\nMore,http://b\n")
    assert texts(open_source(spec("csv", path, column="url"))) == ["http://a", "http://b"]
    assert open_source(spec("csv", path, column="text")).key != uneven


def test_several_tables_are_read_in_order(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number} [x].csv").write_text(f"text,other{number}\nrow {number},1\n")
    assert texts(open_source(spec("csv", tmp_path / "*.csv", column="text"))) == ["row 0", "row 1", "row 2"]


def test_damaged_tables_are_named_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_bytes(b"text\nfine\ncaf\xe9\n")
    (tmp_path / "bad.json").write_bytes(b'{"text": "fine"}\n{"text": "caf\xe9"}\n')
    (tmp_path / "torn.json").write_text('{"text": "fine"}\n{"text": "to')
    (tmp_path / "bad.parquet").write_text("not a parquet file")
    for name, message in (
        ("bad.csv", r"bad\.csv is not UTF-8 at byte 13"),
        ("bad.json", r"bad\.json is not UTF-8 at byte 30"),
        ("torn.json", r"torn\.json as json: .*JSON parse error"),
        ("bad.parquet", r"bad\.parquet as parquet: .*Parquet magic bytes not found"),
    ):
        with pytest.raises(DataError, match=message):
            texts(open_source(spec(name.split(".")[1], tmp_path / name, column="text")))


def test_a_data_set_folder_is_read_as_from_the_hub_up_to_the_cap(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for part in ("train", "validation"):
        (folder / f"{part}.jsonl").write_text("\n".join(json.dumps({"body": f"{part} {i} é"}) for i in range(40)))

    def hub(**fields: Any) -> Source:
        return open_source(DataSpec(source="hf", name=str(folder), column="body", **fields))

    assert texts(hub())[:2] == ["train 0 é", "train 1 é"]
    assert texts(hub(part="validation"))[-1] == "validation 39 é"
    assert texts(hub(cap=23)) == ["train 0 é", "train 1 é", "tra"]
    assert texts(hub(cap=10)) == ["train 0 é"]
    assert texts(hub(cap=9)) == ["train 0 "], "a cap inside a character leaves it out"
    assert len({hub().key, hub(part="validation").key, hub(cap=25).key}) == 3
    key = hub().key
    (folder / "train.jsonl").write_text('{"body": "new"}\n')
    assert hub().key != key, "a local data set is known by its content"
    for data, message in (
        ({"part": "nope"}, r"Bad split: nope\. Available splits: \['train', 'validation'\]; check name"),
        ({"subset": "nope"}, r"'nope' not found"),
    ):
        with pytest.raises(DataError, match=message):
            texts(hub(**data))
    with pytest.raises(DataError, match="its columns are: body"):
        texts(open_source(DataSpec(source="hf", name=str(folder), column="text")))


def test_without_a_network_the_cause_is_one_sentence_and_the_cache_stays_small(tmp_path: Path) -> None:
    (tmp_path / "big.csv").write_text("text\n" + "a line of some length\n" * 100_000)
    code = """
import sys
from tuner.spec.errors import DataError
from tuner.spec.parts.data import DataSpec
from tuner.train.text.source import open_source
print(sum(d.size for d in open_source(DataSpec(source="csv", path="big.csv", column="text")).documents()))
try:
    list(open_source(DataSpec(source="hf", name="nobody/nothing", column="text")).documents())
except DataError as error:
    print(error)
"""
    home = tmp_path / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not re.match("HF_|XDG_|HUGGINGFACE", k)}
    environment = kept | {"HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    size, message = done.stdout.splitlines()
    assert int(size) == 21 * 100_000
    assert re.search(r"cannot read the data set nobody/nothing: \w+: .*check name.*the network", message)
    assert sum(path.stat().st_size for path in home.rglob("*") if path.is_file()) < 100_000


@pytest.mark.parametrize(
    ("text", "line", "fields"),
    [("label,text\npos,Hello, world\n", 2, 3), ("text\nfine\nhello, world\n", 3, 2), ("text,x\na,b,\n\nc,d,e\n", 4, 3)],
)
def test_a_comma_without_quotes_cuts_no_text_off(tmp_path: Path, text: str, line: int, fields: int) -> None:
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(DataError, match=rf"rows\.csv has {fields} fields in line {line}, and .* needs \"quotes\""):
        texts(open_source(spec("csv", tmp_path / "rows.csv", column="text")))


def test_a_cell_is_what_it_says_and_never_how_python_shows_it(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    def read(values: list[Any]) -> list[str]:
        pyarrow.parquet.write_table(pyarrow.table({"text": values}), tmp_path / "rows.parquet")
        return texts(open_source(spec("parquet", tmp_path / "rows.parquet", column="text")))

    assert read(["caf\u00e9".encode(), b"two"]) == ["caf\u00e9", "two"]
    assert read([1.5, float("nan"), None]) == ["1.5"]
    with pytest.raises(DataError, match=r"'text' of .* is not UTF-8 in row 2 at byte 1"):
        read([b"fine", b"a\xff"])
    with pytest.raises(DataError, match="has several values in row 1; expected one text"):
        read([["x", "y"]])
