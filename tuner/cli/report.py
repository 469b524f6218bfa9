"""The door to a report: one study as one HTML page, to send to a colleague.
Options and one call; the page is made in app/report/.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.options import Storage
from tuner.study.command import RUNS, errors_as_sentences


def report(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="the study's name")],
    html: Annotated[Path, typer.Option("--html", metavar="FILE", help="the page to write")],
    storage: Storage = None,
) -> None:
    """Write a study as one self-contained HTML page, to send to a colleague."""
    from tuner.search.store.url import storage_url

    with errors_as_sentences():
        from app.report.page import report

        report(storage_url(storage, None), study, html, RUNS)
        typer.echo(f"report of {study}: {html}")
