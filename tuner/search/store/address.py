"""Which store a URL names, and what its database says when it refuses; a password is never shown.
Opens nothing: that is done in storage.py, lock.py, and by the ledger.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import sqlalchemy

from tuner.spec.errors import StoreError

MEMORY_URL = "sqlite:///:memory:"
"""A store that ends with the process: for simulations."""


def sqlite_file(url: str) -> Path | None:
    """The file behind a SQLite URL; None for PostgreSQL and for the in-memory store.

    Raises:
        StoreError: the text is no SQLAlchemy URL, one of another database, or a SQLite URL that names no file.
    """
    try:
        parsed = sqlalchemy.engine.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        shown = re.sub(r":[^:@/]*@", ":***@", url)
        raise StoreError(
            f"storage {shown!r} is not a database URL; expected one such as 'sqlite:///tuner.db' or "
            "'postgresql+psycopg://user@host/name'."
        ) from error
    if (kind := parsed.get_backend_name()) not in ("sqlite", "postgresql"):
        raise StoreError(f"storage {said(parsed)!r} is of {kind}; studies are kept in sqlite or postgresql alone.")
    if kind != "sqlite" or url == MEMORY_URL:
        return None
    if parsed.database in (None, "", ":memory:"):
        raise StoreError(
            f"storage {url!r} names no file; a study needs a store that stays, such as sqlite:///tuner.db."
        )
    return Path(str(parsed.database))


_REFUSALS = (
    sqlalchemy.exc.SQLAlchemyError,
    optuna.exceptions.StorageInternalError,
    ImportError,  # of the driver
    OSError,
    UnicodeError,  # a damaged text; a name that no text can hold
    RuntimeError,  # Optuna: the schema of another version
    AssertionError,  # Optuna: no version at all
)


@contextmanager
def store_errors(url: str) -> Iterator[None]:
    """Turn what a database raises into a StoreError that names the store, never its password."""
    try:
        yield
    except _REFUSALS as error:
        raise StoreError(f"the trial store {said(url)} cannot be opened: {cause_of(error)}.") from error


def cause_of(error: Exception) -> str:
    """The database's own first line, under what Optuna and SQLAlchemy wrapped around it."""
    inner = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    said = str(getattr(inner, "orig", None) or inner or error).strip()
    return said.splitlines()[0] if said else type(error).__name__


def said(url: str | sqlalchemy.engine.URL) -> str:
    """A store's URL without its password."""
    return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)


def schema_of(connection: sqlalchemy.Connection) -> str | None:
    """The schema that a store's tables are in, or will be: what PostgreSQL's ``search_path`` leads to; None for
    databases without.

    Raises:
        StoreError: it leads to more than one, where Optuna would take another program's tables for its own.
    """
    if connection.dialect.name != "postgresql":
        return None
    path, user = connection.execute(sqlalchemy.text("SELECT current_setting('search_path'), current_user")).one()
    names = [str(user) if name == "$user" else name for name in re.findall(r'[^\s",]+', str(path))]
    if "$user" in path and not sqlalchemy.inspect(connection).has_schema(str(user)):
        names.remove(str(user))
    if len(names) > 1:
        raise StoreError(
            f"the trial store {said(connection.engine.url)}: expected one schema, got {', '.join(names)}; name the one "
            f"that the trials are to be in: options=-csearch_path%3D{names[0]} in the URL."
        )
    return names[0] if names else "public"
