"""A lock inside PostgreSQL, which dies with the session that holds it: also when the server restarts or a line is cut.
So whoever holds it for long asks for it again when the server is back.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import sqlalchemy
from sqlalchemy import text

from tuner.search.store.address import schema_of, store_errors

_LINGER = 5.0
"""Seconds for the server to end a session of ours whose line was cut."""

_TAKE = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
_OURS = text("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
_END = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = :pid AND backend_start = :backend_start"
)


class Advisory:
    """The advisory lock ``name`` of a store, which is a schema; true while it is ours, as far as we have heard.

    Raises:
        StoreError: the server cannot be reached.
    """

    def __init__(self, url: str, name: str) -> None:
        self._engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool, isolation_level="AUTOCOMMIT")
        self._taken = False
        with store_errors(url):
            self._begin()
            self._name = f"tuner:{schema_of(self._connection)}:{name}"

    def __bool__(self) -> bool:
        return self._taken

    def take(self, wait: float) -> None:
        """Try for so many seconds, once at least."""
        self._taken = self._try(wait)

    def renew(self) -> bool:
        """Take the lock again if the session has died; False, from then on, where another process has it by now.

        True while the server is away: nobody else can take it either. Ask again when it is back.
        """
        former = self._session
        with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError):
            if self._heard() == former:  # and not a new one, which SQLAlchemy makes by itself
                return self._taken
        try:
            with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError):
                self._connection.close()
            self._begin()
            self._taken = self._try(0)
            if not self._taken:  # perhaps for our own former session, of which the server has heard no end
                self._connection.execute(_END, former)
                self._taken = self._try(_LINGER)
            return self._taken
        except sqlalchemy.exc.DBAPIError:
            return True

    def close(self) -> None:
        """Give it back."""
        self._connection.close()

    def _begin(self) -> None:
        self._connection = self._engine.connect()
        self._session = self._heard()

    def _heard(self) -> dict[str, Any]:
        """Which session of the server's this connection is."""
        return dict(self._connection.execute(_OURS).mappings().one())

    def _try(self, wait: float) -> bool:
        until = time.monotonic() + wait
        while not self._connection.execute(_TAKE, {"name": self._name}).scalar():
            if time.monotonic() >= until:
                return False
            time.sleep(0.1)
        return True
