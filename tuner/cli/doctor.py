"""The door to the doctor: store, MLflow, spools, ledger and checkpoints laid beside each other.
Options and one call; the work is done in tuner/doctor/.
"""

from __future__ import annotations

from typing import Annotated

import typer

from tuner.cli.options import Storage
from tuner.study.command import RUNS, errors_as_sentences


def doctor(
    studies: Annotated[
        list[str] | None, typer.Argument(metavar="[STUDY]...", help="these studies [default: every one]")
    ] = None,
    storage: Storage = None,
    fix: Annotated[bool, typer.Option("--fix", help="mend what is safe: nothing is lost, no value changed")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of sentences")] = False,
) -> None:
    """Compare store, MLflow, spools, ledger and checkpoints, and say what disagrees."""
    from tuner.search.store.url import storage_url

    with errors_as_sentences():
        from tuner.doctor.command import run_doctor

        raise typer.Exit(run_doctor(storage_url(storage, None), RUNS, studies or [], fix, as_json))
