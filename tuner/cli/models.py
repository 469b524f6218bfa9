"""The doors to a good model: promote, rollback, history, champion, export, generate, evaluate, compress.
Options and one call each; the work is done in tuner/ship/ and tuner/study/compress/.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.options import AsJson, Reason, Storage, Tracking, Who
from tuner.study.command import errors_as_sentences

Model = Annotated[str, typer.Argument(metavar="MODEL", help="the registered model's name")]
Found = Annotated[
    str, typer.Argument(metavar="MODEL", help="MODEL, MODEL@alias, MODEL:version, STUDY/TRIAL or a folder")
]


def add_models(app: typer.Typer) -> None:
    """Hang these doors into ``app``."""
    for command in (promote, rollback, history, champion, export, generate, classify, evaluate, compress):
        app.command()(command)


def promote(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="the study (with --resume, --undo: the model)")],
    trial: Annotated[int | None, typer.Argument(metavar="[TRIAL]", help="a trial's number")] = None,
    best: Annotated[bool, typer.Option("--best", help="the best complete trial")] = False,
    reason: Reason = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="judge and print; write nothing")] = False,
    override: Annotated[bool, typer.Option("--override", help="promote against closed gates; marked for ever")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted promotion")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="take an interrupted promotion back")] = False,
    storage: Storage = None,
    tracking: Tracking = None,
    who: Who = None,
) -> None:
    """Make a trial's checkpoint champion, once every gate has passed it."""
    from rich.console import Console

    from tuner.promotion.promote import required
    from tuner.ship.commands import end_interrupted, run_promote
    from tuner.ship.desk import open_desk

    with errors_as_sentences():
        desk = open_desk(storage, tracking, who, study)
        if resume or undo:
            _one(resume, undo, names="--resume, --undo")
            _one(True, trial is not None, best, dry_run, override, names="--resume or --undo, alone")
            end_interrupted(Console(), desk, study, undo, reason)
            return
        _one(trial is not None, best, names="a TRIAL, --best")
        if not dry_run:
            required(reason)
        run_promote(Console(), desk, study, trial, reason, override, dry_run)


def rollback(
    model: Model,
    to: Annotated[int | None, typer.Option(help="version [default: the champion before this one]")] = None,
    reason: Reason = "",
    storage: Storage = None,
    tracking: Tracking = None,
    who: Who = None,
) -> None:
    """Make a former champion champion again, if it still verifies."""
    from rich.console import Console

    from tuner.ship.commands import run_rollback
    from tuner.ship.desk import open_desk

    with errors_as_sentences():
        run_rollback(Console(), open_desk(storage, tracking, who, model), model, to, reason)


def history(model: Model, storage: Storage = None, tracking: Tracking = None, as_json: AsJson = False) -> None:
    """Every promotion of a model: when, who, from which version to which, why."""
    from rich.console import Console

    from tuner.ship.commands import print_history
    from tuner.ship.desk import open_desk

    with errors_as_sentences():
        print_history(Console(), open_desk(storage, tracking, None, model), model, as_json)


def champion(model: Model, storage: Storage = None, tracking: Tracking = None, as_json: AsJson = False) -> None:
    """The champion of a model, with its record and every gate's answer."""
    from rich.console import Console

    from tuner.ship.commands import print_champion
    from tuner.ship.desk import open_desk

    with errors_as_sentences():
        print_champion(Console(), open_desk(storage, tracking, None, model), model, as_json)


def export(
    model: Found,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a new or empty folder")],
    gpt2: Annotated[bool, typer.Option("--gpt2", help="as a GPT-2 in Hugging Face's format, for transformers")] = False,
    storage: Storage = None,
    tracking: Tracking = None,
) -> None:
    """Write a model to a plain folder: weights, tokenizer, spec, card; or as a GPT-2 for transformers."""
    from rich.console import Console

    from tuner.ship.commands import run_export
    from tuner.ship.desk import open_desk

    with errors_as_sentences():
        run_export(Console(), open_desk(storage, tracking, None, model), model, folder, gpt2)


def generate(
    model: Found,
    prompt: Annotated[str, typer.Option(help="the text to continue")] = "",
    max_tokens: Annotated[int, typer.Option(help="tokens to write")] = 200,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="draw from the so many likeliest")] = None,
    top_p: Annotated[float | None, typer.Option(help="draw from the likeliest of this probability")] = None,
    seed: Annotated[int, typer.Option(help="the same seed writes the same text")] = 1,
    storage: Storage = None,
    tracking: Tracking = None,
) -> None:
    """Write text with a model, as it comes."""
    from tuner.ship.desk import open_desk
    from tuner.ship.use import run_generate, sampling

    with errors_as_sentences():
        drawn = sampling(max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
        run_generate(open_desk(storage, tracking, None, model), model, prompt, drawn)


def classify(
    model: Found,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="texts, each in quotes")],
    storage: Storage = None,
    tracking: Tracking = None,
    as_json: AsJson = False,
) -> None:
    """Say what texts are with a classifier: the likeliest classes of each."""
    from rich.console import Console

    from tuner.ship.desk import open_desk
    from tuner.ship.use import run_classify

    with errors_as_sentences():
        run_classify(Console(), open_desk(storage, tracking, None, model), model, texts, as_json)


def evaluate(
    model: Found,
    data: Annotated[str, typer.Argument(metavar="DATA", help="a text file, or a glob")],
    storage: Storage = None,
    tracking: Tracking = None,
    as_json: AsJson = False,
) -> None:
    """Score text with a model: nats a token, bits a byte."""
    from rich.console import Console

    from tuner.ship.desk import open_desk
    from tuner.ship.use import run_evaluate

    with errors_as_sentences():
        run_evaluate(Console(), open_desk(storage, tracking, None, model), model, data, as_json)


def compress(
    model: Found,
    yaml: Annotated[
        Path | None, typer.Option(metavar="YAML", help="the study [default: one is written, from half to all of it]")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="override a field")] = None,
    storage: Storage = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and stop")] = False,
) -> None:
    """Make a model smaller: search fewer layers, heads, neurons, bits and non-zero weights; print before and after."""
    from tuner.study.compress.command import compress as run_compress

    with errors_as_sentences():
        raise typer.Exit(run_compress(model, yaml, set_ or [], storage, dry_run))


def _one(*given: bool, names: str) -> None:
    """Exactly one of the options that ``names`` lists.

    Raises:
        SpecError: none, or more.
    """
    from tuner.spec.errors import SpecError

    if sum(given) != 1:
        raise SpecError(f"give exactly one of: {names}.")
