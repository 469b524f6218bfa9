"""A store that is away for a while: what is worth waiting for, how long, and what is said meanwhile.
Waiting only; that an operation may be done again is the business of whoever asks for it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

import optuna
import sqlalchemy

from tuner.search.store.address import cause_of
from tuner.spec.errors import StoreError

T = TypeVar("T")

PATIENCE = 600.0
"""Seconds that a store may be away before the study stops. Nothing is lost by either: rows are spooled before the store
hears of them, and workers wait at their milestones.
"""

_PAUSE = 0.5


class Outage:
    """Waits for a store; ``say`` hears when it goes and is back, ``hurried`` tells that nobody wants to wait.

    ``renew`` is called before each further try: what the store has forgotten meanwhile, a lock, is taken again.
    """

    def __init__(self) -> None:
        self.say: Callable[[str], None] = lambda sentence: None
        self.hurried: Callable[[], bool] = lambda: False
        self.renew: Callable[[], None] = lambda: None
        self._since: float | None = None

    def through(self, action: Callable[[], T], what: str) -> T:
        """What ``action`` gives, once the store has taken it; it is done again where the store was away.

        Raises:
            StoreError: the store refuses, stays away, or another program has changed it; ``what`` says what it is.
        """
        while True:
            try:
                result = action()
            except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
                if not self._wait(error):
                    raise StoreError(
                        f"{what} refused: {cause_of(error)}. Nothing finished is lost; mend the cause and run the "
                        "same command again."
                    ) from error
            except optuna.exceptions.UpdateFinishedTrialError as error:
                raise StoreError(
                    f"{what} was changed by another program while this driver had the study ({error}); end that one, "
                    "and run the same command again."
                ) from error
            else:
                self._over()
                return result

    def _wait(self, error: Exception) -> bool:
        """Sleep a moment before the next try; False where waiting is of no use, or has lasted long enough."""
        if not may_pass(error) or self.hurried():
            return False
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self.say(f"the trial store is away ({cause_of(error)}); the study waits for it, nothing is lost")
        if now - self._since > PATIENCE:
            return False
        time.sleep(_PAUSE)
        self.renew()
        return True

    def _over(self) -> None:
        """Hear that the store has answered."""
        if self._since is not None:
            self.renew()
            self.say(f"the trial store is back after {time.monotonic() - self._since:.0f} s")
            self._since = None


def may_pass(error: Exception) -> bool:
    """Whether the cause may go by itself: a lost connection, a lock of another's; not a full disk or a mistake."""
    inner = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    if not isinstance(inner, sqlalchemy.exc.DBAPIError):
        return False
    if inner.connection_invalidated or isinstance(inner, sqlalchemy.exc.InterfaceError):
        return True
    words = str(inner.orig)
    if not isinstance(inner, sqlalchemy.exc.OperationalError) or " full" in words or "No space" in words:
        return False
    return "locked" in words or not isinstance(inner.orig, sqlite3.Error)
