"""The doors to a running study: enqueue, stop, prune, from another terminal.
Options and one call each; the work is done in tuner/run/control/study.py.
"""

from __future__ import annotations

from typing import Annotated

import typer

from tuner.cli.options import Reason, Storage, Who
from tuner.study.command import errors_as_sentences

Study = Annotated[str, typer.Argument(metavar="STUDY", help="the study's name")]


def add_control(app: typer.Typer) -> None:
    """Hang these doors into ``app``."""
    for command in (enqueue, stop, prune):
        app.command()(command)


def enqueue(
    study: Study,
    values: Annotated[list[str] | None, typer.Argument(metavar="[PATH=VALUE]...", help="such as optim.lr=3e-3")] = None,
    like: Annotated[int | None, typer.Option(help="start from the point of this trial")] = None,
    storage: Storage = None,
    who: Who = None,
) -> None:
    """Queue a point to be tried next; what it leaves out the sampler chooses."""
    from tuner.promotion.promote import actor
    from tuner.run.control.study import enqueue
    from tuner.search.store.url import storage_url
    from tuner.spec.dimensions.fields import read_point

    with errors_as_sentences():
        number = enqueue(storage_url(storage, None), study, read_point(values or []), who or actor(), like)
        typer.echo(f"queued as trial {number} of {study}; a running search takes it next")


def stop(study: Study, reason: Reason = "", storage: Storage = None, who: Who = None) -> None:
    """Stop a running search; every trial writes a checkpoint, and the same command goes on."""
    from tuner.promotion.promote import actor
    from tuner.run.control.study import stop
    from tuner.search.store.url import storage_url

    with errors_as_sentences():
        typer.echo(stop(storage_url(storage, None), study, who or actor(), reason))


def prune(
    study: Study,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", help="a running trial's number")],
    reason: Reason = "",
    storage: Storage = None,
    who: Who = None,
) -> None:
    """End one running trial where it is."""
    from tuner.promotion.promote import actor
    from tuner.run.control.study import prune
    from tuner.search.store.url import storage_url

    with errors_as_sentences():
        typer.echo(prune(storage_url(storage, None), study, trial, who or actor(), reason))
