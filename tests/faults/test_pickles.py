"""Pickles, tags and broken YAML in every place that is read: nothing is executed, each is refused in a sentence."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crashing import TRIAL, Point, run
from mutations import broken
from trial_job import trial

from tuner.spec.disk import seal, sha256, unseal
from tuner.spec.errors import CheckpointError, DataError, SpecError, TunerError
from tuner.spec.load import load, parse
from tuner.spec.parts.data import DataSpec
from tuner.spec.records import Spent
from tuner.train import checkpoint
from tuner.train.text.corpus import open_corpus
from tuner.train.text.split import PARTS


class Bomb:
    """Makes the folder ``made`` when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.made),)


def bombs(made: Path) -> list[bytes]:
    """Pickles old and new, as text and as binary, plain and in torch's own archive; each of which works."""
    found = [pickle.dumps(Bomb(made), protocol) for protocol in (0, 2, 5)]
    found += [pickle.dumps({"state": [Bomb(made)]}, 4)]
    for payload in found:
        pickle.loads(payload)
        made.rmdir()
    archive = io.BytesIO()
    torch.save({"state": Bomb(made)}, archive)
    torch.load(io.BytesIO(archive.getvalue()), weights_only=False)
    made.rmdir()
    return [*found, archive.getvalue()]


def told(folder: str, text: str) -> None:
    """A trial that is to fail: its sentence is in the file ``said``, its exit code 3."""
    try:
        trial(folder, text)
    except TunerError as error:
        (Path(folder) / "said").write_text(str(error))
        os._exit(3)


def put(saved: Path, name: str, payload: bytes) -> None:
    """A file in a checkpoint, with a manifest that vouches for it."""
    (saved / name).write_bytes(payload)
    manifest = unseal(json.loads((saved / checkpoint.MANIFEST).read_text()))
    manifest["files"][name] = sha256(saved / name)
    (saved / checkpoint.MANIFEST).write_text(json.dumps(seal(manifest)))


@pytest.mark.parametrize("name", [checkpoint.STATE, checkpoint.WEIGHTS, checkpoint.SPEC])
def test_a_pickle_in_a_checkpoint_is_not_executed(name: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    weights = {"a": torch.ones(2)}
    saved = checkpoint.save(tmp_path / "t", weights, {"rows": 1}, {"trial": {}, "facts": {}}, Spent(1), 1, None)
    others = [b"", b"\x80", b"junk" * 50, pickle.dumps(5), pickle.dumps([1])]
    for payload in [*bombs(made), *others]:
        put(saved.folder, name, payload)
        (found,) = checkpoint.sound(tmp_path / "t")
        with pytest.raises(CheckpointError):
            checkpoint.record(found) if name == checkpoint.SPEC else checkpoint.load(found)
        assert not made.exists()


def test_a_manifest_names_no_file_that_cannot_be(tmp_path: Path) -> None:
    saved = checkpoint.save(tmp_path / "t", {"a": torch.ones(2)}, {}, {}, Spent(1), 1, None)
    manifest = unseal(json.loads((saved.folder / checkpoint.MANIFEST).read_text()))
    for name in ("a\0b", "x" * 10_000, "../../../etc", ""):
        told = {**manifest, "files": {**manifest["files"], name: "0" * 64}}
        (saved.folder / checkpoint.MANIFEST).write_text(json.dumps(seal(told)))
        with pytest.raises(CheckpointError):
            checkpoint.verify(saved.folder)


@pytest.mark.faults
@pytest.mark.timeout(120)
def test_a_trial_with_a_pickle_for_its_state_ends_in_a_sentence(
    tmp_path: Path, text_file: Path, figures: Callable[[str], None]
) -> None:
    made, payloads = tmp_path / "made", bombs(tmp_path / "made")
    killed = run(trial, str(tmp_path), str(text_file), points=TRIAL, kill=Point("checkpoint", 2, False))
    assert killed == -signal.SIGKILL
    for payload in payloads:
        put(max((tmp_path / "trial" / "checkpoints").glob("step-*")), checkpoint.STATE, payload)
        assert run(told, str(tmp_path), str(text_file)) == 3
        assert "does not load" in (tmp_path / "said").read_text()
        assert not made.exists()
        assert not (tmp_path / "outcome.json").exists()
    figures(f"{len(payloads)} pickles as state.pt with a true manifest: none executed, the trial fails with a sentence")


def test_a_pickle_in_a_corpus_is_not_executed_and_not_a_token(tmp_path: Path) -> None:
    made = tmp_path / "made"
    (tmp_path / "t.txt").write_text("the cat sat on a mat. " * 60)
    data = DataSpec.model_validate(
        {"source": "text", "path": str(tmp_path / "t.txt"), "context": 8, "tokenizer": {"kind": "char"}}
    )
    first = open_corpus(data, tmp_path / "c")
    tokens = {part: np.array(first.tokens(part)) for part in PARTS}
    for payload in bombs(made):
        for path in sorted(Path(first.info.folder).iterdir()):
            size = path.stat().st_size
            path.write_bytes(payload.ljust(size, b"\0")[:size] if path.suffix == ".bin" else payload)
            again = open_corpus(data, tmp_path / "c")
            assert all(np.array_equal(again.tokens(part), tokens[part]) for part in PARTS), path.name
            assert again.tokenizer().fingerprint == first.info.tokenizer_fingerprint
    assert not made.exists()


@pytest.mark.parametrize("source", ["text", "csv", "json", "parquet", "hf"])
def test_a_pickle_as_a_text_is_not_executed(source: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    folder = tmp_path / "data"
    folder.mkdir()
    for number, payload in enumerate(bombs(made)):
        where: dict[str, Any] = {"path": str(folder / f"{number}.{source}"), "column": "text"}
        if source == "text":
            del where["column"]
        if source == "hf":
            where = {"name": str(folder), "column": "text"}
            (folder / "data.pkl").write_bytes(payload)
            (folder / "data.py").write_text(f"import os\nos.mkdir({str(made)!r})\n")
        else:
            head = b"text\n" if source == "csv" and number % 2 else b""
            Path(where["path"]).write_bytes(head + payload)
        data = DataSpec.model_validate({"source": source, "context": 8, "tokenizer": {"kind": "byte"}, **where})
        try:
            open_corpus(data, tmp_path / "c")
        except DataError:
            continue
        assert source == "text"
        assert payload.isascii(), "a pickle of the oldest kind is a text like any other"
    assert not made.exists()


def test_a_pickle_as_a_tokenizer_is_not_executed(tmp_path: Path) -> None:
    made, path = tmp_path / "made", tmp_path / "tokenizer.json"
    (tmp_path / "t.txt").write_text("the cat sat on a mat. " * 60)
    tokenizer = {"kind": "file", "path": str(path)}
    data = DataSpec.model_validate({"source": "text", "path": str(tmp_path / "t.txt"), "tokenizer": tokenizer})
    for payload in bombs(made):
        path.write_bytes(payload)
        with pytest.raises(DataError):
            open_corpus(data, tmp_path / "c")
    assert not made.exists()


def test_a_pickle_is_no_study(tmp_path: Path) -> None:
    for payload in bombs(tmp_path / "made"):
        (tmp_path / "study.yaml").write_bytes(payload)
        with pytest.raises(SpecError):
            load(tmp_path / "study.yaml")
    assert not (tmp_path / "made").exists()


# --- YAML


TAGGED = [
    "name: !!python/object/apply:os.mkdir [made]",
    "!!python/object/apply:os.mkdir [made]",
    "name: a\ntrial: !!python/object/new:os.mkdir {args: [made]}",
    "name: a\nforbid: [!!python/object/apply:os.system ['mkdir made']]",
    "name: a\nforbid: [\"__import__('os').mkdir('made') == 1\"]",
    "name: a\nforbid: [\"(lambda: 0).__globals__['os'].mkdir('made')\"]",
    "? !!python/name:os.mkdir\n: made",
    "!!python/module:os",
    'name: a\ntrial: {data: {source: text, path: "$(mkdir made)"}}',
]


def refused(text: str) -> str:
    """Why a YAML text is no study; empty where it is one. Anything else that is raised is what is looked for."""
    try:
        parse(text, "fuzz.yaml")
    except TunerError as error:
        return str(error)
    return ""


def fuzz(cases: int) -> Counter[str]:
    rng, told = random.Random(20), Counter[str]()
    before = set(Path().iterdir())
    for number in range(cases):
        text = broken(rng)
        sentence = refused(text)
        assert re.match(r"(fuzz\.yaml:\d+:\d+: \S.*)?$", sentence), (number, text)
        assert sentence.isprintable()
        told["refused" if sentence else "read"] += 1
    assert set(Path().iterdir()) == before
    return told


@pytest.mark.parametrize("text", TAGGED)
def test_a_tag_or_a_rule_executes_nothing(text: str) -> None:
    assert refused(text) or "$(" in text, "a path may look like that"
    assert not Path("made").exists()


def test_a_few_hundred_broken_files_are_read_or_refused_in_a_sentence() -> None:
    told = fuzz(300)
    assert min(told["read"], told["refused"]) > 20


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_ten_thousand_broken_files_are_read_or_refused_in_a_sentence(figures: Callable[[str], None]) -> None:
    told = fuzz(10_000)
    figures(f"10,000 broken YAML files: {told['read']} read, {told['refused']} refused in a sentence, none executed")
