"""The folder of a study beside the store: whose it is, which trials it holds, and what their spools say.
Reading only; checkpoints are looked at in checkpoints.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from tuner.doctor.findings import Case, Finding, Place, some
from tuner.run.folder import MODELS, RECORD, kept_model, owner_of, pins, read_record, trial_folder
from tuner.search.history import IMPORTED, QUEUED, RUNNING, TrialRecord
from tuner.spec.errors import StoreError
from tuner.tracking.spool import SPOOL, SpoolContent, read_spool


def own(case: Case) -> list[TrialRecord]:
    """The trials that have run here: neither another study's nor those that have not begun."""
    return [trial for trial in case.record.trials if IMPORTED not in trial.facts and trial.state != QUEUED]


def ended(case: Case) -> list[TrialRecord]:
    """Those of ``own`` that have ended."""
    return [trial for trial in own(case) if trial.state != RUNNING]


def foreign(case: Case) -> bool:
    """Whether the folder says that it belongs to another study, so that nothing in it can be laid beside this one."""
    return owner_of(case.folder) not in (None, case.attributes.get("id"))


def folder(case: Case) -> Iterator[Finding]:
    """Whose the folder is, and that store and folder have the same trials."""
    where = str(case.folder)
    if foreign(case):
        yield Finding(
            Place.FOLDER,
            str(case.folder / RECORD),
            f"expected the study {case.name} of this store, got another one: its store was deleted or is elsewhere",
            "name that store with --storage, or move the folder away",
        )
        return
    if not case.folder.is_dir():
        if ended(case):
            yield Finding(
                Place.FOLDER,
                where,
                f"expected the spools and checkpoints of {some(t.number for t in ended(case))}, got no such folder",
                "look where the study ran: the store, and MLflow where it was mirrored, have its values",
            )
        return
    there = {int(path.name) for path in case.folder.iterdir() if path.name.isdecimal() and path.is_dir()}
    if there and not case.driven and (sentence := _unsigned(case.folder / RECORD)):
        yield Finding(
            Place.FOLDER, str(case.folder / RECORD), sentence, "the study's command writes it when it goes on"
        )
    if gone := {trial.number for trial in ended(case)} - there:
        plural = "their folders were" if len(gone) > 1 else "its folder was"
        yield Finding(
            Place.FOLDER,
            where,
            f"expected a folder of {some(gone)}, got none: {plural} deleted",
            "nothing brings it back; the store, and MLflow where it was mirrored, have its values",
        )
    if strange := there - {trial.number for trial in case.record.trials}:
        yield Finding(
            Place.FOLDER,
            where,
            f"expected trials that the store has, got {some(strange)}, which it does not have",
            "move them away, or bring the store back that has them",
        )


def spools(case: Case) -> Iterator[Finding]:
    """That each spool is whole and says of milestones and of the end what the store says."""
    if foreign(case):
        return
    for trial in own(case):
        path = trial_folder(case.folder, trial.number) / SPOOL
        if not path.parent.is_dir() or (trial.state == RUNNING and case.driven):
            continue
        try:
            content = read_spool(path)
        except StoreError as error:
            if trial.state != RUNNING:  # it may not have begun to write
                yield Finding(Place.SPOOL, str(path), str(error).partition(": ")[2].rstrip("."), _lost(case, trial))
            continue
        yield from _beside(case, trial, path, content)


def models(runs: Path) -> Iterator[Finding]:
    """Models that were kept for studies to begin with, and no study's folder below ``runs`` names them any more."""
    named = {kept_model(runs, sha256) for path in runs.glob("[!.]*") for sha256 in pins(path).values()}
    for path in sorted((runs / MODELS).glob("[!.]*")):
        if path.is_dir() and path not in named:
            size = sum(file.stat().st_size for file in path.iterdir())
            what = f"a model of {size / 1e6:.1f} MB, kept for a study to begin with, and no study here does"
            yield Finding(Place.LEFTOVER, str(path), what, "remove it")


def _unsigned(path: Path) -> str | None:
    """What is wrong with ``study.json`` itself; None where it can be read."""
    try:
        read_record(path.parent)
    except OSError:
        return "expected a note whose folder this is, got none"
    except ValueError:
        return "expected a note whose folder this is, got a damaged one"
    return None


def _beside(case: Case, trial: TrialRecord, path: Path, content: SpoolContent) -> Iterator[Finding]:
    """One spool beside its trial."""
    if content.damaged:
        lines = "1 damaged line" if content.damaged == 1 else f"{content.damaged} damaged lines"
        hint = "the lines around it are read without it"
        if trial.state == RUNNING:
            hint = "a torn last line is cut off when the study goes on"
        yield Finding(Place.SPOOL, str(path), f"expected whole lines with their checksums, got {lines}", hint)
    told = {row.milestone: row.metrics.get(case.record.metric) for row in content.rows if row.milestone is not None}
    differ = []
    for milestone in sorted({*told, *trial.milestones} if trial.state in ("complete", "pruned") else trial.milestones):
        ours, theirs = trial.milestones.get(milestone), told.get(milestone)
        if milestone not in told and content.damaged:  # said already
            continue
        if not _same(ours, theirs):
            differ.append(f"milestone {milestone} is {_value(ours)} in the store and {_value(theirs)} here")
    if differ:
        more = f", and {len(differ) - 3} more" if len(differ) > 3 else ""
        hint = "one of the two was changed; the spool's lines carry checksums"
        yield Finding(Place.SPOOL, str(path), ", ".join(differ[:3]) + more, hint)
    if trial.state != RUNNING and not (content.finish is None and content.damaged):
        end = None if content.finish is None else content.finish.outcome.state.value
        if end != trial.state:
            what = f"the store says that trial {trial.number} is {trial.state}, its record ends "
            what += "without an end" if end is None else f"as {end}"
            yield Finding(Place.SPOOL, str(path), what, "one of the two was changed by other means than tuner")


def _same(ours: float | None, theirs: float | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return ours == theirs or (math.isnan(ours) and math.isnan(theirs))


def _value(value: float | None) -> str:
    return "missing" if value is None else f"{value:.9g}"


def _lost(case: Case, trial: TrialRecord) -> str:
    return f"its curve is lost here; `tuner show {case.name} {trial.number}` has its milestones"
