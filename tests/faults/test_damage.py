"""Every file that is read again, cut short or with bytes changed: found or harmless, never believed, no traceback."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damage_models import checkpoints, corpus, package, saved, tokenizer
from damage_records import cursor, database, driver, history, notes, owner, spool
from damaging import Dose, Told, damaged

from tuner.spec.errors import CheckpointError
from tuner.spec.parts.data import DataSpec
from tuner.tracking.mirror import sync
from tuner.tracking.mlflow import CURSOR
from tuner.tracking.spool import SPOOL, encode
from tuner.tracking.store import create
from tuner.train import checkpoint
from tuner.train.text.corpus import open_corpus


def test_a_manifest_that_tells_of_other_steps_is_no_manifest(tmp_path: Path) -> None:
    """Its files are whole: without a seal a trial would go on with the wrong rest of its budget."""
    one = saved(tmp_path, 2)
    path = one.folder / checkpoint.MANIFEST
    text = path.read_text()
    for written, changed in (('"steps": 2', '"steps": 3'), ('"reached": 2', '"reached": 1'), ('"seal"', '"sell"')):
        path.write_text(text.replace(written, changed))
        with pytest.raises(CheckpointError, match="seal does not hold"):
            checkpoint.verify(one.folder)
    before = {key: value for key, value in json.loads(text).items() if key != "seal"}
    path.write_text(json.dumps(before))
    assert checkpoint.verify(one.folder) == one, "one from before there were seals"


def test_a_corpus_from_before_there_were_checksums_is_held_to_its_sizes(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("the cat sat on a mat. " * 60)
    data = DataSpec.model_validate(
        {"source": "text", "path": str(tmp_path / "t.txt"), "context": 8, "tokenizer": {"kind": "char"}}
    )
    first = open_corpus(data, tmp_path / "c")
    meta = Path(first.info.folder) / "meta.json"
    newer = ("seal", "sha256", "report")
    told = {key: value for key, value in json.loads(meta.read_text()).items() if key not in newer}
    meta.write_text(json.dumps(told))
    heard: list[Any] = []
    assert open_corpus(data, tmp_path / "c", heard.append) == first
    assert not heard
    meta.write_text(json.dumps({**told, "sha256": {}}))
    assert open_corpus(data, tmp_path / "c", heard.append) == first
    assert "are damaged: making them again" in heard[0].task


KINDS: dict[str, Callable[[Path, Dose], Told]] = {
    "checkpoints": checkpoints,
    "package": package,
    "corpus": corpus,
    "tokenizer": tokenizer,
    "spool": spool,
    "cursor": cursor,
    "notes": notes,
    "driver": driver,
    "owner": owner,
    "database": database,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_damages_are_found_or_harmless(kind: str, tmp_path: Path) -> None:
    assert KINDS[kind](tmp_path, Dose(4, 8)).total() >= 12


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_every_damage_is_found_or_harmless(kind: str, tmp_path: Path, figures: Callable[[str], None]) -> None:
    told = KINDS[kind](tmp_path, Dose(20, 200))
    figures(f"{kind}: {told.total()} damages, " + ", ".join(f"{count} {word}" for word, count in told.items()))


def in_mlflow(path: Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as store:
        return store.execute("SELECT key, step, value FROM metrics ORDER BY key, step, value").fetchall()


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_damaged_cursor_costs_mlflow_no_point_and_doubles_none(
    tmp_path: Path, figures: Callable[[str], None]
) -> None:
    create(tmp_path / "mlflow.db")
    folder = tmp_path / "runs" / "s" / "0"
    folder.mkdir(parents=True)
    lines = [encode(record) for record in history()]
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    (folder / SPOOL).write_bytes(b"".join(lines[:-8]))
    sync(folder.parent, uri)
    half = (folder / CURSOR).read_bytes()
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "half.db")
    (folder / SPOOL).write_bytes(b"".join(lines))
    sync(folder.parent, uri)
    expected = in_mlflow(tmp_path / "mlflow.db")
    damages = [*damaged(half, Dose(4, 20)), half.replace(b'"offset": ', b'"offset": 1')]
    for data in damages:
        shutil.copy(tmp_path / "half.db", tmp_path / "mlflow.db")
        (folder / CURSOR).write_bytes(data)
        sync(folder.parent, uri)
        assert in_mlflow(tmp_path / "mlflow.db") == expected
    figures(f"{len(damages)} damaged cursors: MLflow had every point once, each time")
