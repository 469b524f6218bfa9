"""What the promotion commands do and print: promote, resume, undo, rollback, history, champion, export.
Words and exit codes; the deeds are promotion's.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.promotion.gates import Answer, Result
from tuner.promotion.ledger import Entry, Stage
from tuner.promotion.package.folder import MANIFEST, verify
from tuner.promotion.package.named import located
from tuner.promotion.promote import Desk, consider, promote, rollback, take_back, way_back
from tuner.promotion.truth import CHAMPION, announced, complaints, named
from tuner.spec.errors import PromotionError

MARKS = {Result.PASS: ("●", "green"), Result.FAIL: ("✕", "red"), Result.COULD_NOT_RUN: ("?", "yellow")}


def run_promote(
    console: Console, desk: Desk, study: str, number: int | None, reason: str, override: bool, dry_run: bool
) -> None:
    """Judge a trial, print every gate, and promote it where they are open.

    Raises:
        PromotionError: a gate is closed, or the ceremony cannot begin or end.
    """
    with console.status("looking at the checkpoint"):
        judged = consider(desk, study, number)
    one = judged.candidate
    if judged.crowned is not None:
        console.print(f"trial {one.trial} of {study} is the champion already: {one.model} version {judged.crowned}")
        return
    console.print(Text(f"trial {one.trial} of {study}, for the model {one.model}"))
    print_gates(console, judged.answers)
    closed = judged.blocking(override)
    if dry_run:
        console.print("dry run: nothing was written; " + (f"{len(closed)} gates closed" if closed else "it would pass"))
        if closed:
            raise PromotionError(f"trial {one.trial} of '{study}' would not be promoted.")
        return
    if closed:
        names = ", ".join(answer.gate for answer in closed)
        hint = "" if override else " `--override` with a --reason promotes it all the same, marked for ever."
        raise PromotionError(f"trial {one.trial} of '{study}' is not promoted; closed gates: {names}.{hint}")
    with console.status("packaging and registering"), _told_what_is_left(desk, one.model):
        version = promote(desk, judged, reason, override)
    before = "no champion before" if judged.champion is None else f"before: version {judged.champion.version}"
    console.print(f"{one.model} version {version} is champion now ({before})")
    console.print("next:", f'  tuner generate {one.model} --prompt "..."', f"  tuner history {one.model}", sep="\n")


def end_interrupted(console: Console, desk: Desk, model: str, undo: bool, reason: str) -> None:
    """End what a crash has left of a promotion: go on, or take it back.

    Raises:
        PromotionError: the model has no history, or there is nothing to go on with.
    """
    if not desk.ledger.history(model):
        raise PromotionError(f"the ledger knows no model '{model}'; `tuner promote STUDY --best` makes one.")
    with console.status("verifying"), _told_what_is_left(desk, model):
        if undo:
            ended = take_back(desk, model, reason or "undone after an interruption")
        else:
            ended = desk.ceremony.resume(model, desk.actor) is not None
    champion = named(desk.registry.champion(model))
    if not ended:
        console.print(f"no promotion of {model} was interrupted; the champion is {champion}")
    else:
        console.print(f"{'taken back' if undo else 'ended'}; the champion of {model} is {champion}")


def run_rollback(console: Console, desk: Desk, model: str, to: int | None, reason: str) -> None:
    with console.status("verifying the former champion"):
        back = way_back(desk, model, to)
        with _told_what_is_left(desk, model):
            rollback(desk, back, reason)
    console.print(f"{model}: version {back.to} is champion again (before: {named(back.now)})")


@contextmanager
def _told_what_is_left(desk: Desk, model: str) -> Iterator[None]:
    """Ctrl-C once aliases have moved leaves something to end: say so, for the same command would not go on."""
    try:
        yield
    except KeyboardInterrupt:
        if (pending := desk.ceremony.pending(model)) is None:
            raise
        raise PromotionError(f"interrupted: {pending.sentence}.") from None


def print_history(console: Console, desk: Desk, model: str, as_json: bool) -> None:
    """Every row of the ledger, and whether it still tells the truth.

    Raises:
        PromotionError: the model has no history.
    """
    history = desk.ledger.history(model)
    if as_json:
        console.print_json(json.dumps([asdict(entry) for entry in history]))
        return
    if not history:
        raise PromotionError(f"the ledger knows no model '{model}'; `tuner promote STUDY --best` makes one.")
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("when (UTC)", "who", "what", "version", "why"):
        table.add_column(name, overflow="fold")
    for entry in history:
        before = "-" if entry.before is None else str(entry.before)
        mark = f" OVERRIDDEN: {', '.join(entry.overridden)}" if entry.overridden else ""
        after = "?" if entry.after is None else str(entry.after)
        words = (f"{entry.action} {entry.stage}", f"{before} → {after}", f"{entry.reason}{mark}")
        table.add_row(entry.at[:16].replace("T", " "), Text(entry.actor), words[0], words[1], Text(words[2]))
    console.print(table)
    _complain(console, desk, model, history)


def _complain(console: Console, desk: Desk, model: str, history: list[Entry]) -> None:
    """Say where the two books do not agree."""
    busy = desk.ceremony.under_way(model)
    for sentence in complaints(history, desk.ledger.broken(model), desk.registry.aliases(model), busy):
        console.print(Text(sentence, style="red"), soft_wrap=True)


def print_champion(console: Console, desk: Desk, model: str, as_json: bool) -> None:
    """The champion with its record.

    Raises:
        PromotionError: there is none.
    """
    version = desk.registry.champion(model)
    if version is None:
        raise PromotionError(f"'{model}' has no champion; `tuner promote STUDY --best` makes one.")
    history = desk.ledger.history(model)
    told = announced(history, version)
    done = next((e for e in reversed(history) if e.stage is Stage.DONE and e.after == version), None)
    if as_json:
        facts = {"model": model, "version": version, "entry": asdict(told) if told else None}
        console.print_json(json.dumps(facts))
        return
    console.print(f"{model} version {version} (models:/{model}@{CHAMPION})", highlight=False)
    if done is not None:
        console.print(Text(f"since {done.at[:16].replace('T', ' ')} UTC by {done.actor}: {done.reason}"))
    if told is not None:
        one = told.candidate
        value = "no value" if one["value"] is None else f"{one['metric']} {one['value']:.4g}"
        console.print(Text(f"trial {one['trial']} of {one['study']}, {value}"))
        if told.overridden:
            console.print(Text(f"promoted against its gates: {', '.join(told.overridden)}", style="red"))
        print_gates(console, told.answers)
    _complain(console, desk, model, history)


def run_export(console: Console, desk: Desk, name: str, folder: Path, as_gpt2: bool = False) -> None:
    """Write the model called ``name`` to a plain folder, or as a GPT-2 in Hugging Face's format.

    Raises:
        PromotionError: there is no such model, or the folder has files.
        CheckpointError: it is damaged, or no GPT-2.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PromotionError(f"{folder}: expected a new or empty folder.")
    told = list[str]()
    draft = folder.absolute().with_name(f".{folder.absolute().name}.exporting")
    with (
        located(desk.store, desk.registry, name) as found,
        tempfile.TemporaryDirectory(prefix="tuner-export-") as place,
    ):
        plain = _plain(found, desk.corpora, Path(place) / "model")
        if as_gpt2:
            from tuner.train.use.gpt2 import write_gpt2

            _whole(folder, draft, lambda: told.extend(write_gpt2(plain, draft)))
        else:
            _whole(folder, draft, lambda: shutil.copytree(plain, draft, dirs_exist_ok=True))
    use = f"transformers.GPT2LMHeadModel.from_pretrained({str(folder)!r})" if as_gpt2 else f"tuner generate {folder}"
    for sentence in told:
        console.print(Text(f"note: {sentence}"), soft_wrap=True)
    console.print(Text(f"{name} is in {folder}; try: {use}"), soft_wrap=True)


def _whole(folder: Path, draft: Path, write: Callable[[], object]) -> None:
    """Have ``draft`` written and call it ``folder`` then, so that no half of a model stands there.

    Raises:
        OSError: the disk refused it; nothing of it is left.
    """
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        write()
        draft.replace(folder)
    except shutil.Error as error:  # of several files: source, target, why
        raise OSError(None, str(error.args[0][0][2]), str(folder)) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _plain(folder: Path, corpora: Path, into: Path) -> Path:
    """The plain model folder of what is in ``folder``: itself, or what is made of it in ``into``."""
    if (folder / MANIFEST).exists() and any(folder.glob("tokenizer*.json")):
        verify(folder)
        return folder
    from tuner.train.use.adopt import write_plain

    write_plain(folder, corpora, into)
    return into


def print_gates(console: Console, answers: Sequence[Answer]) -> None:
    for answer in answers:
        mark, style = MARKS[answer.result]
        line = Text.assemble((f"  {mark} ", style), (f"{answer.gate:<11}", "bold"), " ")
        told = f"{answer.result}: " if answer.result is Result.COULD_NOT_RUN else ""
        console.print(line + Text(told + answer.sentence), soft_wrap=True)
