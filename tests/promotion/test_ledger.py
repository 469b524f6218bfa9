"""The ledger keeps every row as it was written, on SQLite and on a real PostgreSQL alike."""

from __future__ import annotations

import multiprocessing
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from histories import ENTRY

from tuner.promotion.ledger import Ledger, Stage
from tuner.spec.errors import StoreError


@pytest.fixture(autouse=True)
def _store() -> None:
    """A store that is there, but for the ledger."""
    sqlite3.connect("tuner.db").execute("CREATE TABLE other (x)").close()


def test_rows_come_back_as_written(url: str) -> None:
    ledger = Ledger(url)
    first = ledger.write(ENTRY)
    second = ledger.write(replace(ENTRY, stage=Stage.DONE, answers=(), candidate={}))
    ledger.write(replace(ENTRY, model="other"))
    assert Ledger(url).history("base") == [first, second]
    assert replace(first, id=0, at="", seal="") == ENTRY
    assert ledger.broken("base") is None
    assert ledger.history("nobody") == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tuner_ledger SET reason = 'nothing happened'",
        "DELETE FROM tuner_ledger",
        "DELETE FROM tuner_ledger WHERE id = 1",
        "TRUNCATE tuner_ledger",
        "INSERT OR REPLACE INTO tuner_ledger SELECT id, at, 'them', model, action, stage, version_before, "
        "version_after, record, reason, details, seal FROM tuner_ledger",
        "INSERT INTO tuner_ledger SELECT * FROM tuner_ledger WHERE true ON CONFLICT (id) DO UPDATE SET actor = 'them'",
    ],
)
def test_no_statement_changes_what_is_written(url: str, statement: str) -> None:
    ledger = Ledger(url)
    ledger.write(ENTRY)
    before = ledger.history("base")
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with pytest.raises(sa.exc.SQLAlchemyError) as caught, engine.begin() as connection:
        connection.execute(sa.text(statement))
    if not statement.startswith(("TRUNCATE", "INSERT OR")):  # words that one of the two does not know
        assert "append-only" in str(caught.value)
    assert ledger.history("base") == before


def test_a_row_changed_behind_the_databases_back_shows(tmp_path: Path) -> None:
    path = tmp_path / "tuner.db"
    ledger = Ledger(f"sqlite:///{path}")
    rows = [ledger.write(replace(ENTRY, reason=f"reason {n}")) for n in range(3)]
    with sqlite3.connect(path) as database:
        database.execute("DROP TRIGGER tuner_ledger_fixed")
        database.execute("UPDATE tuner_ledger SET reason = 'another' WHERE id = ?", (rows[1].id,))
    database.close()
    assert ledger.broken("base") == rows[1].id


def _write(url: str, name: str) -> None:
    ledger = Ledger(url)
    for _ in range(5):
        ledger.write(replace(ENTRY, model=name))


def test_processes_that_begin_at_once_lose_no_row(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(url, f"model{n}")) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    for n in range(3):
        assert len(Ledger(url).history(f"model{n}")) == 5
        assert Ledger(url).broken(f"model{n}") is None


def test_without_a_store_there_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="run a study first"):
        Ledger(f"sqlite:///{tmp_path}/none.db")
