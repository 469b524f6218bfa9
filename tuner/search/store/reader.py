"""Optuna's tables, read straight: what ``Study.get_trials`` gives, without an object and a parse for every cell.
Reads only; how often they are read and what a trial means is said in history.py, who writes them in asktell.py.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from math import inf, nan
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Engine,
    Float,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    bindparam,
    func,
    literal,
    or_,
    select,
)

_META = MetaData()
_PARSER = json.JSONDecoder(strict=False)


def _table(name: str, **columns: type) -> Table:
    return Table(name, _META, *(Column(column, kind()) for column, kind in columns.items()))


STUDIES = _table("studies", study_id=Integer, study_name=String)
STUDY_FACTS = _table("study_user_attributes", study_id=Integer, key=String, value_json=String)
TRIALS = _table(
    "trials",
    trial_id=Integer,
    number=Integer,
    state=String,
    datetime_start=DateTime,
    datetime_complete=DateTime,
    study_id=Integer,
)
PARAMS = _table(
    "trial_params", trial_id=Integer, param_id=Integer, param_name=String, param_value=Float, distribution_json=String
)
VALUES = _table("trial_values", trial_id=Integer, objective=Integer, value=Float, value_type=String)
REPORTS = _table(
    "trial_intermediate_values",
    trial_id=Integer,
    step=Integer,
    intermediate_value=Float,
    intermediate_value_type=String,
)
FACTS = _table("trial_user_attributes", trial_id=Integer, key=String, value_json=String)
SYSTEM = _table("trial_system_attributes", trial_id=Integer, key=String, value_json=String)

BATCH = 500
"""Rows held at a time; of more, Python's garbage collector looks through each, and half the time is its."""

_NUMBERS = {"INF_POS": inf, "INF_NEG": -inf, "NAN": nan}

Ids = Collection[int] | Select[tuple[int]]
"""Trials by their ids, or by a query for them."""


@dataclass(frozen=True)
class Head:
    """A study's id in its store, and its user attributes."""

    study_id: int
    attributes: Mapping[str, Any]


def engine_of(storage: BaseStorage) -> Engine | None:
    """The database behind ``storage``, under Optuna's cache; None where it keeps no tables (a store in memory)."""
    backend = getattr(storage, "_backend", storage)
    return backend.engine if isinstance(backend, RDBStorage) else None


def read_names(connection: Connection) -> list[str]:
    """The studies, by name.

    Raises:
        SQLAlchemyError: the database refuses.
    """
    return sorted(connection.scalars(select(STUDIES.c.study_name)))


def read_head(connection: Connection, name: str) -> Head | None:
    """The study ``name``; None where there is none.

    Raises:
        SQLAlchemyError: the database refuses.
    """
    rows = connection.execute(
        select(STUDIES.c.study_id, STUDY_FACTS.c.key, STUDY_FACTS.c.value_json)
        .join_from(STUDIES, STUDY_FACTS, STUDIES.c.study_id == STUDY_FACTS.c.study_id, isouter=True)
        .where(STUDIES.c.study_name == name)
    ).all()
    return Head(rows[0][0], {key: json.loads(text) for _, key, text in rows if key is not None}) if rows else None


def read_trials(
    connection: Connection, study_id: int, above: int | None = None, among: Collection[int] = (), marks: bool = False
) -> list[FrozenTrial]:
    """Trials of a study by number, as Optuna gives them, but with system attributes only with ``marks``: all, or those
    with an id greater than ``above`` and those of the ids ``among``.

    A trial's row is read before what belongs to it, and nothing is added to a finished trial: one that is read as
    finished is read whole.

    Raises:
        SQLAlchemyError: the database refuses.
    """
    wanted = TRIALS.c.study_id == study_id
    if above is not None:
        wanted &= or_(TRIALS.c.trial_id > above, _in(TRIALS.c.trial_id, among))
    rows = connection.execute(select(TRIALS).where(wanted).order_by(TRIALS.c.number)).all()
    if not rows:
        return []
    ids = select(TRIALS.c.trial_id).where(TRIALS.c.study_id == study_id) if above is None else [row[0] for row in rows]
    params, spaces = _params(connection, ids)
    values, reports, facts = _values(connection, ids), _reports(connection, ids), _facts(connection, ids, FACTS)
    system = _facts(connection, ids, SYSTEM) if marks else {}
    return [
        FrozenTrial(
            number=number,
            state=TrialState[state],
            value=None,
            values=values.get(id_),
            datetime_start=_local(started),
            datetime_complete=_local(ended),
            params=params.get(id_, {}),
            distributions=spaces.get(id_, {}),
            user_attrs=facts.get(id_, {}),
            system_attrs=system.get(id_, {}),
            intermediate_values=reports.get(id_, {}),
            trial_id=id_,
        )
        for id_, number, state, started, ended, _ in rows
    ]


def _params(connection: Connection, ids: Ids) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any]]]:
    """By trial: its parameters in the order they were chosen, and what each was chosen from."""
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    spaces: dict[int, dict[str, BaseDistribution]] = defaultdict(dict)
    query = select(PARAMS).where(_in(PARAMS.c.trial_id, ids)).order_by(PARAMS.c.trial_id, PARAMS.c.param_id)
    for id_, _, path, value, text in _rows(connection, query):
        space = _distribution(text)
        spaces[id_][path] = space
        found[id_][path] = space.to_external_repr(value)
    return found, spaces


def _values(connection: Connection, ids: Ids) -> dict[int, list[float]]:
    found: dict[int, list[float]] = defaultdict(list)
    query = select(VALUES).where(_in(VALUES.c.trial_id, ids)).order_by(VALUES.c.trial_id, VALUES.c.objective)
    for id_, _, value, kind in _rows(connection, query):
        found[id_].append(_NUMBERS.get(kind, value))
    return found


def _reports(connection: Connection, ids: Ids) -> dict[int, dict[int, float]]:
    found: dict[int, dict[int, float]] = defaultdict(dict)
    query = select(REPORTS).where(_in(REPORTS.c.trial_id, ids)).order_by(REPORTS.c.trial_id, REPORTS.c.step)
    for id_, step, value, kind in _rows(connection, query):
        found[id_][step] = _NUMBERS.get(kind, value)
    return found


def _facts(connection: Connection, ids: Ids, table: Table) -> dict[int, dict[str, Any]]:
    """Attributes. The database puts a trial's JSON texts together to one object, so that 25 of them cost one row and
    one parse; the key is quoted as JSON quotes it, but for control characters, which the parser lets through.
    """
    quoted = func.replace(func.replace(table.c.key, "\\", "\\\\", type_=String), '"', '\\"', type_=String)
    pair = literal('"') + quoted + literal('":') + table.c.value_json
    query = (
        select(table.c.trial_id, func.aggregate_strings(pair, ","))
        .where(_in(table.c.trial_id, ids))
        .group_by(table.c.trial_id)
    )
    return {id_: _PARSER.decode(f"{{{text}}}") for id_, text in _rows(connection, query)}


def _rows(connection: Connection, query: Select[Any]) -> Iterator[Sequence[Any]]:
    for part in connection.execute(query).partitions(BATCH):
        yield from part


@lru_cache(maxsize=1024)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _in(column: ColumnElement[Any], ids: Ids) -> ColumnElement[bool]:
    if isinstance(ids, Select):
        return column.in_(ids)
    # written into the statement: a database takes some ten thousand parameters, not hundreds of thousands
    return column.in_(bindparam("ids", sorted(ids), expanding=True, literal_execute=True))


def _local(moment: datetime | None) -> datetime | None:
    """Stored in UTC, given in local time, neither says so: as Optuna has it."""
    return moment and moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
