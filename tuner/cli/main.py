"""The doors: every command of ``tuner``, each a few lines that call the room which does the work.
Nothing heavy is imported before a command needs it; ``tuner --help`` must be quick.
"""

from __future__ import annotations

import atexit
import gc
import json
from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.bench import bench
from tuner.cli.control import add_control
from tuner.cli.doctor import doctor
from tuner.cli.models import add_models
from tuner.cli.options import AsJson, Storage
from tuner.cli.report import report
from tuner.study.command import errors_as_sentences, leave, run_study, study

app = typer.Typer(
    name="tuner",
    help="Find the best way to train a GPT: search, look, promote, use, measure.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(bench, name="bench")
app.command()(study)
app.command()(report)
app.command()(doctor)

Name = Annotated[str, typer.Argument(metavar="STUDY", help="the study's name")]


@app.command()
def fork(
    name: Name,
    yaml: Annotated[Path, typer.Argument(metavar="YAML", help="the new study")],
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="override a field")] = None,
    storage: Storage = None,
) -> None:
    """Make a new study of a YAML file that begins with what fits of another's trials; runs none."""
    from tuner.study.command import RUNS
    from tuner.study.fork import fork_study

    with errors_as_sentences():
        fork_study(yaml, set_ or [], storage, name, RUNS)


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="a store's URL, such as sqlite:///tuner.db")],
    target: Annotated[str, typer.Argument(metavar="TO", help="another's; made if there is none")],
    studies: Annotated[list[str] | None, typer.Argument(metavar="[STUDY]...", help="[default: every one]")] = None,
) -> None:
    """Copy studies and the history of promotions to another store, to go on there."""
    from rich.console import Console

    from tuner.study.copy import copy_store

    with errors_as_sentences():
        copy_store(Console(), source, target, studies or [])


@app.command()
def check(
    yaml: Annotated[Path, typer.Argument(metavar="YAML", help="the search space to check")],
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="override a field")] = None,
) -> None:
    """Check a YAML file and print its plan; creates nothing."""
    with errors_as_sentences():
        raise typer.Exit(run_study(yaml, set_ or [], None, dry_run=True))


@app.command()
def data(
    yaml: Annotated[Path, typer.Argument(metavar="YAML", help="the study whose text is looked at")],
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="override a field")] = None,
    as_json: AsJson = False,
) -> None:
    """Build a study's corpus and tell of its text: documents, tokens, what filters left out, addresses and secrets."""
    from tuner.study.command import RUNS
    from tuner.study.show.text import tell_text

    with errors_as_sentences():
        tell_text(yaml, set_ or [], RUNS, as_json)


@app.command()
def trials(name: Name, storage: Storage = None, as_json: AsJson = False) -> None:
    """List the trials of a study, best first."""
    from rich.console import Console

    from tuner.analysis.table import open_study, rows
    from tuner.search.store.url import storage_url
    from tuner.study.show.summary import print_trials

    with errors_as_sentences():
        record = open_study(storage_url(storage, None), name)
        if as_json:
            typer.echo(json.dumps(rows(record), indent=1))
        else:
            print_trials(Console(), record)


@app.command()
def show(
    name: Name,
    number: Annotated[int, typer.Argument(metavar="TRIAL", help="the trial's number")],
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Tell one trial whole: how it ended, its point, its milestones, its facts."""
    from rich.console import Console

    from tuner.analysis.table import open_study, row
    from tuner.search.store.url import storage_url
    from tuner.study.show.summary import print_trial

    with errors_as_sentences():
        record = open_study(storage_url(storage, None), name)
        trial = record.find(number)
        if as_json:
            typer.echo(json.dumps(row(trial), indent=1))
        else:
            print_trial(Console(), record, trial)


@app.command()
def sync(
    name: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="one study [default: every one in runs/]")
    ] = None,
    tracking: Annotated[
        str | None, typer.Option(help="MLflow URI [default: MLFLOW_TRACKING_URI, else where the study was mirrored]")
    ] = None,
    storage: Storage = None,
) -> None:
    """Mirror to MLflow what it is missing of the studies in runs/."""
    from tuner.search.store.url import storage_url
    from tuner.study.mirror import sync_studies

    with errors_as_sentences():
        sync_studies(name, tracking, storage_url(storage, None))


@app.command()
def dashboard(
    port: Annotated[int, typer.Option(help="on 127.0.0.1")] = 8501,
    storage: Storage = None,
) -> None:
    """Open the dashboard of this folder's stores: compare trials, understand the search."""
    import os
    import sys
    from importlib.util import find_spec

    from tuner.spec.errors import TunerError

    with errors_as_sentences():
        if find_spec("app.serve") is None:
            raise TunerError("the dashboard's pages (the folder app/) are not installed; install from a checkout.")
        if storage is not None:
            os.environ["TUNER_STORAGE"] = storage
        words = ["-m", "app.serve", "--server.port", str(port)]
        os.execv(sys.executable, [sys.executable, *words])


add_control(app)
add_models(app)


def main() -> None:
    """Entry of the ``tuner`` script."""
    atexit.register(gc.freeze)  # else the collector's last rounds take a second where torch and MLflow are loaded
    leave(app)


if __name__ == "__main__":
    main()
