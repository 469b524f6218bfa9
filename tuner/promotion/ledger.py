"""The ledger: who promoted what, when, why and on which evidence; rows are added, never changed, by the database's law.
SQLAlchemy alone, in the database of the trial store, in a table of its own; no registry is known here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from tuner.promotion.gates import Answer, Result
from tuner.search.store.address import sqlite_file, store_errors
from tuner.search.store.lock import store_lock
from tuner.spec.errors import StoreError
from tuner.spec.parts.scalars import digest


class Stage(StrEnum):
    """How far an operation came: begun, announced once its version stands, then done, stopped by what was found, or
    undone.
    """

    BEGUN = "begun"
    INTENT = "intent"
    DONE = "done"
    STOPPED = "stopped"
    UNDONE = "undone"


@dataclass(frozen=True)
class Entry:
    """One row. ``record`` is the candidate's hash; ``before`` and ``after`` are versions of the registered model, None
    for no champion and for a version not yet registered.
    """

    actor: str
    model: str
    action: str  # promote or rollback
    stage: Stage
    before: int | None
    after: int | None
    record: str
    reason: str
    overridden: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    candidate: Mapping[str, Any] = field(default_factory=dict)
    at: str = ""
    id: int = 0
    seal: str = ""


_TABLE = sa.Table(
    "tuner_ledger",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False, index=True),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("version_before", sa.Integer),
    sa.Column("version_after", sa.Integer),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),  # JSON: candidate, answers, overridden gates
    sa.Column("seal", sa.Text, nullable=False),
)

_SQLITE = [
    *(
        f"CREATE TRIGGER IF NOT EXISTS tuner_ledger_{word} BEFORE {verb} ON tuner_ledger {when} "
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
        for word, verb, when in (
            ("kept", "DELETE", ""),
            ("fixed", "UPDATE", ""),
            # INSERT OR REPLACE deletes a row without asking a DELETE trigger
            ("added", "INSERT", "WHEN EXISTS (SELECT 1 FROM tuner_ledger WHERE id = NEW.id)"),
        )
    )
]

_POSTGRESQL = [
    "CREATE OR REPLACE FUNCTION tuner_ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$",
    "CREATE OR REPLACE TRIGGER tuner_ledger_fixed BEFORE UPDATE OR DELETE ON tuner_ledger "
    "FOR EACH ROW EXECUTE FUNCTION tuner_ledger_refuse()",
    "CREATE OR REPLACE TRIGGER tuner_ledger_kept BEFORE TRUNCATE ON tuner_ledger "
    "FOR EACH STATEMENT EXECUTE FUNCTION tuner_ledger_refuse()",
]


def promotion_lock(model: str) -> str:
    """The name of the lock under which a model's history is written."""
    return f"promotion.{model}"


class Ledger:
    """The ledger in the store at ``url``; its table is made at the first use.

    Each row carries a seal, the digest of its content and of the seal before it in its model's history: what is
    changed by other means, in the file itself, shows (see ``broken``).

    Raises:
        StoreError: the store cannot be reached or refuses.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        path = sqlite_file(url)
        if path is not None and not path.exists():
            raise StoreError(f"no trial store at {path}; run a study first, or name the store with --storage.")
        wait = {"timeout": 30} if path is not None else {}
        self._engine = sa.create_engine(url, poolclass=sa.pool.NullPool, connect_args=wait)
        self._ready = False

    def write(self, entry: Entry) -> Entry:
        """Append a row and return it with its id, time and seal. The model's lock is the caller's business."""
        self._prepare()
        details = {
            "candidate": dict(entry.candidate),
            "answers": [asdict(answer) for answer in entry.answers],
            "overridden": list(entry.overridden),
        }
        row: dict[str, Any] = {
            "at": entry.at or datetime.now(UTC).isoformat(timespec="milliseconds"),
            "actor": entry.actor,
            "model": entry.model,
            "action": entry.action,
            "stage": str(entry.stage),
            "version_before": entry.before,
            "version_after": entry.after,
            "record": entry.record,
            "reason": entry.reason,
            "details": json.dumps(details, sort_keys=True),
        }
        with self._begun() as connection:
            last = _TABLE.c.seal, _TABLE.c.model == entry.model
            before = connection.execute(sa.select(last[0]).where(last[1]).order_by(_TABLE.c.id.desc()).limit(1))
            row["seal"] = _seal(before.scalar() or "", row)
            added = connection.execute(sa.insert(_TABLE).values(**row)).inserted_primary_key
            assert added is not None
            return _entry({**row, "id": added[0]})

    def history(self, model: str) -> list[Entry]:
        """Every row of a model, oldest first; empty where there is none."""
        return [_entry(row) for row in self._rows(model)]

    def models(self) -> list[str]:
        """The models that have a history, by name."""
        with store_errors(self.url), self._engine.connect() as connection:
            if not sa.inspect(connection).has_table(_TABLE.name):
                return []
            return sorted(connection.scalars(sa.select(_TABLE.c.model).distinct()))

    def broken(self, model: str) -> int | None:
        """The id of the first row whose seal does not hold, None where all do."""
        before = ""
        for row in self._rows(model):
            if row["seal"] != _seal(before, row):
                return int(row["id"])
            before = row["seal"]
        return None

    def take_over(self, other: Ledger, model: str) -> int:
        """Append what another store's history of a model has beyond ours, each row as it is there; returns how many.
        The model's locks are the caller's business.

        Raises:
            StoreError: its seals do not hold, a promotion there has not ended, or the two histories are not one.
        """
        if (row := other.broken(model)) is not None:
            raise StoreError(f"the history of model '{model}' was changed at row {row} by other means; not copied.")
        theirs = other._rows(model)
        if theirs and theirs[-1]["stage"] in (Stage.BEGUN, Stage.INTENT):
            raise StoreError(
                f"a promotion of model '{model}' has not ended; not copied. "
                f"`tuner promote {model} --resume` goes on with it, --undo takes it back."
            )
        self._prepare()
        with self._begun() as connection:
            query = sa.select(_TABLE.c.seal).where(_TABLE.c.model == model).order_by(_TABLE.c.id)
            ours = list(connection.scalars(query))
            if ours != [row["seal"] for row in theirs[: len(ours)]]:
                raise StoreError(f"the two stores tell different histories of model '{model}'; not copied.")
            new = [{key: value for key, value in row.items() if key != "id"} for row in theirs[len(ours) :]]
            if new:
                connection.execute(sa.insert(_TABLE), new)
        return len(new)

    def _rows(self, model: str) -> Sequence[Mapping[str, Any]]:
        with store_errors(self.url), self._engine.connect() as connection:
            if not sa.inspect(connection).has_table(_TABLE.name):
                return []
            query = sa.select(_TABLE).where(_TABLE.c.model == model).order_by(_TABLE.c.id)
            return [dict(row) for row in connection.execute(query).mappings()]

    def _prepare(self) -> None:
        """Make the table and its law, once, however many processes ask."""
        if self._ready:
            return
        with store_errors(self.url), self._engine.connect() as connection:
            self._ready = sa.inspect(connection).has_table(_TABLE.name)  # made in one transaction with its law
        if self._ready:
            return
        law = _POSTGRESQL if self._engine.dialect.name == "postgresql" else _SQLITE
        with store_lock(self.url, "ledger", wait=30) as taken:
            if not taken:
                raise StoreError("the ledger is being made by another process for 30 s; run the same command again.")
            with self._begun() as connection:
                _TABLE.create(connection, checkfirst=True)
                for statement in law:
                    connection.execute(sa.text(statement))
        self._ready = True

    @contextmanager
    def _begun(self) -> Iterator[sa.Connection]:
        """A transaction that takes the right to write at once: one that reads first can be refused later."""
        with store_errors(self.url), self._engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection = connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.execute(sa.text("BEGIN IMMEDIATE"))
                try:
                    yield connection
                except BaseException:
                    connection.execute(sa.text("ROLLBACK"))
                    raise
                connection.execute(sa.text("COMMIT"))
            else:
                with connection.begin():
                    yield connection


def _seal(before: str, row: Mapping[str, Any]) -> str:
    return digest([before, *(row[column.name] for column in _TABLE.columns if column.name not in ("id", "seal"))])


def _entry(row: Mapping[str, Any]) -> Entry:
    details = json.loads(row["details"])
    answers = (Answer(one["gate"], Result(one["result"]), one["sentence"]) for one in details["answers"])
    return Entry(
        actor=row["actor"],
        model=row["model"],
        action=row["action"],
        stage=Stage(row["stage"]),
        before=row["version_before"],
        after=row["version_after"],
        record=row["record"],
        reason=row["reason"],
        overridden=tuple(details["overridden"]),
        answers=tuple(answers),
        candidate=details["candidate"],
        at=row["at"],
        id=row["id"],
        seal=row["seal"],
    )
