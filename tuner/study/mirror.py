"""Mirroring after the fact: every study of this folder whose points MLflow still lacks; its store names the runs then.
It names the studies and says what was done; the mirroring itself lives in tracking/.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tuner.run.folder import is_mirrored, owner_of, tracking_of
from tuner.search.store.late import name_runs
from tuner.search.store.storage import open_storage
from tuner.spec.errors import StoreError, nearest
from tuner.tracking.mirror import sync, trial_folders
from tuner.tracking.mlflow import read_cursor
from tuner.tracking.store import location, shown


def sync_studies(name: str | None, tracking: str | None, store: str, runs: Path = Path("runs")) -> None:
    """Mirror one study of ``runs``, or all; safe to call again. ``store`` is the URL where their trials are.

    Raises:
        StoreError: no such study here, MLflow away, a running study that mirrors for itself, or runs that were deleted
            in MLflow; of several studies once all were looked at.
    """
    known = sorted(path.name for path in runs.glob("[!.]*") if path.is_dir() and is_mirrored(path))
    if name is not None and name not in known:
        hint = nearest(name, known) or " There is none."
        raise StoreError(f"no study '{name}' in {runs.absolute()}.{hint}")
    console, refused = Console(), list[str]()
    for study in [name] if name is not None else known:
        try:
            _sync(console, runs / study, tracking, store)
        except StoreError as error:  # the others are not to wait for it
            refused.append(str(error))
    if refused:
        raise StoreError("\n".join(refused))


def _sync(console: Console, folder: Path, tracking: str | None, store: str) -> None:
    uri = tracking or location(tracking_of(folder))
    report = sync(folder, uri)
    damaged = f", {report.damaged} damaged lines" if report.damaged else ""
    sentence = (
        f"{folder.name}: {report.points} points of {report.trials} trials mirrored to {shown(uri)}, "
        f"{report.already} were there already{damaged}"
    )
    console.print(Text(sentence), soft_wrap=True)
    _link(folder, uri, store, anew=tracking is None)
    if report.deleted:
        those = "1 trial is" if report.deleted == 1 else f"{report.deleted} trials are"
        raise StoreError(f"{folder.name}: {those} left out: {report.why}")


def _link(folder: Path, uri: str, store: str, anew: bool) -> None:
    """Have the study's trials name the runs that were made for them just now; the folder may be another store's."""
    known = {n: run for n, path in trial_folders(folder) if (run := read_cursor(path, uri).run) is not None}
    with suppress(StoreError):  # that the runs are there is what was asked for
        name_runs(open_storage(store), store, folder.name, owner_of(folder), known, anew)
