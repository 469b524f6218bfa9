"""Studies and the ledger of promotions copied to another store, such as a PostgreSQL for more machines.
What one study is, is said in search/store/storage.py; what a history is, in promotion/ledger.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from tuner.promotion.ledger import Ledger, promotion_lock
from tuner.search.history import read_study, study_names
from tuner.search.store.address import MEMORY_URL, said, sqlite_file, store_errors
from tuner.search.store.lock import store_lock
from tuner.search.store.storage import IDENTITY, Storage, copy_study, facts_of, open_storage
from tuner.spec.errors import StoreError, StudyLockedError


def copy_store(console: Console, source: str, target: str, names: Sequence[str]) -> None:
    """Copy studies (all where none is named) and every model's history from one store to another, and say so.

    What is there already stays, so that the same command goes on where one was cut off. In one folder ``runs/`` only
    one of the two stores may go on with a study (run/folder.py).

    Raises:
        StoreError: a store cannot be opened, has no such study, or the other one has another of that name.
        StudyLockedError: a driver, a promotion or another copy is at work.
    """
    old = open_storage(source)
    _require_two(source, target)
    for name in names:
        read_study(old, name)  # a wrong name is told before the first is copied
    new = open_storage(target, create=True)
    for name in names or study_names(old):
        if IDENTITY not in (facts_of(old, name) or {}):
            console.print(Text(f"study {name}: not made by this platform, left out"))
            continue
        with _both(source, target, f"study.{name}", f"study '{name}'"), store_errors(target):
            count = _copied(console, old, new, name)
        told = "there already" if count is None else f"{count} trials copied"
        console.print(Text(f"study {name}: {told}"))
    ledger, other = Ledger(source), Ledger(target)
    for model in ledger.models():
        with _both(source, target, promotion_lock(model), f"the history of '{model}'"):
            console.print(Text(f"model {model}: {other.take_over(ledger, model)} rows of its history copied"))
    console.print(
        Text("next: the study's command with the new --storage, in this folder; from then on the old one is refused"),
        soft_wrap=True,
    )


def _require_two(source: str, target: str) -> None:
    """Raise StoreError unless the URLs name two stores that stay."""
    if MEMORY_URL in (source, target):
        raise StoreError("a store in memory ends with this command; name one that stays.")
    old, new = sqlite_file(source), sqlite_file(target)
    if source == target or (old is not None and new is not None and old.resolve() == new.resolve()):
        raise StoreError(f"{said(source)} would be copied onto itself; name another store.")


@contextlib.contextmanager
def _both(source: str, target: str, lock: str, what: str) -> Iterator[None]:
    """Hold a lock of both stores.

    Raises:
        StudyLockedError: somebody has one of them.
    """
    with store_lock(source, lock) as here, store_lock(target, lock) as there:
        if not (here and there):
            raise StudyLockedError(f"{what} is in use: by a driver (tuner stop ends it), a promotion or a copy.")
        yield


def _copied(console: Console, old: Storage, new: Storage, name: str) -> int | None:
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(f"copying {name}")
        return copy_study(old, new, name, lambda done, of: progress.update(bar, completed=done, total=of))
