"""Beginning a study with another's trials: the command, and what it says of them.
Which trials are the same is decided in search/fork.py.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tuner.search.asktell import Search
from tuner.search.fork import Forked, fork, require_forkable
from tuner.search.history import read_study, study_names
from tuner.search.store.storage import open_storage
from tuner.spec.errors import StoreError
from tuner.spec.study import StudySpec

REASONS = 5
"""Different reasons that are named; the others are counted."""


def begin_with(console: Console, spec: StudySpec, storage: Any, old: str, fingerprint: str) -> Search:
    """Take over or queue what fits of study ``old``, and say so; the study has no trial yet. Returns it opened anew.

    ``storage`` is the open store of both.

    Raises:
        StoreError: there is no such study.
        SpecError: the new study is a grid, or the old one itself.
    """
    _say(console, spec, old, fork(storage, spec, old, fingerprint))
    return Search(spec, storage)


def require_source(spec: StudySpec, url: str, old: str) -> None:
    """Hold what ``--from`` says to the store, before anything is made.

    Raises:
        SpecError: the new study is a grid, or the old one itself.
        StoreError: there is no study ``old``, and the new one has not begun with it yet.
    """
    require_forkable(spec, old)
    opened = open_storage(url)
    if spec.name not in study_names(opened):
        read_study(opened, old)


def fork_study(yaml: Path, overrides: list[str], storage: str | None, old: str, runs: Path) -> None:
    """Make the study of a YAML file and begin it with another's trials, without running any.

    Raises:
        TunerError: the file, the text or the store is no good, or the study has trials already.
    """
    from tuner.run.folder import claim, pin
    from tuner.search.store.lock import study_lock
    from tuner.search.store.url import storage_url
    from tuner.spec.load import load
    from tuner.study.prepare import ancestry, prepare_data
    from tuner.study.show.screen import Screen
    from tuner.tracking.store import location

    console = Console()
    spec = load(yaml, overrides, ancestry(runs, storage))
    url = storage_url(storage, spec.study.storage)
    require_source(spec, url, old)
    with study_lock(url, spec.name, runs / spec.name):
        opened = open_storage(url, create=True)
        search = Search(spec, opened)
        if search.begun:
            raise StoreError(f"study '{spec.name}' has trials already; give the new study a name of its own.")
        claim(runs / spec.name, search.origin, location(spec.study.tracking))
        pin(runs / spec.name, spec.trial.init)
        info = prepare_data(spec, runs / ".corpora", Screen(spec, console, 0, None))
        search.hold_text(info.texts)
        begin_with(console, spec, opened, old, info.texts)
    words = ["tuner", "study", str(yaml), *(word for said in overrides for word in ("--set", said))]
    words += ["--storage", storage] if storage else []
    console.print(Text(f"next: {shlex.join(words)}"), soft_wrap=True)


def _say(console: Console, spec: StudySpec, old: str, forked: Forked) -> None:
    if forked.imported:
        console.print(
            f"{len(forked.imported)} trials of {old} are trials of {spec.name} too: taken over", highlight=False
        )
    if forked.queued:
        numbers = ", ".join(map(str, forked.queued))
        console.print(f"none of {old}'s results counts here; its best points are tried first: trials {numbers}")
    reasons: dict[str, list[int]] = {}
    for number, why in forked.refused.items():
        reasons.setdefault(why, []).append(number)
    for why, those in list(reasons.items())[:REASONS]:
        who = f"trial {those[0]}" if len(those) == 1 else f"{len(those)} trials, such as {those[0]},"
        console.print(Text(f"  {who} not taken over: {why}"), soft_wrap=True)
    if len(reasons) > REASONS:
        console.print(f"  and others, for {len(reasons) - REASONS} more reasons", highlight=False)
