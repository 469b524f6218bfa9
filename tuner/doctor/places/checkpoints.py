"""The checkpoints of a study on this disk: whole by their checksums, those that the store names, none beyond its rule.
Reading only; what the rule deletes is learned from the rule itself, on a shadow of the folder.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tuner.analysis.words import size
from tuner.doctor.findings import Case, Finding, Mend, Place, some
from tuner.doctor.places.folder import ended, foreign, own
from tuner.run.folder import checkpoints_folder, trial_folder
from tuner.run.retention import retain_best
from tuner.search.history import RUNNING, TrialRecord
from tuner.spec.disk import bytes_in, held, hold
from tuner.spec.errors import CheckpointError
from tuner.spec.study import StudySpec

QUIET = 30.0
"""Seconds without a write after which half a checkpoint is one for good: workers leave soon after their driver."""


def whole(case: Case) -> Iterator[Finding]:
    """Every checkpoint against its checksums, and the one that the store names against what it says of it."""
    if foreign(case):
        return
    expected: set[int] | None = None
    for trial in own(case):
        root = checkpoints_folder(case.folder, trial.number)
        if trial.state == RUNNING and case.driven:
            continue
        hashes = {}
        for folder in sorted(root.glob("step-*")):
            from tuner.train import checkpoint  # torch, where there is something to verify

            try:
                hashes[folder.name] = checkpoint.verify(folder).sha256
            except CheckpointError as error:
                hashes[folder.name] = ""
                where, _, what = str(error).rstrip(".").partition(": ")
                yield Finding(Place.CHECKPOINT, where, what, _instead(case, trial, folder))
        name, sha256 = (trial.facts.get(key) for key in ("checkpoint", "checkpoint_sha256"))
        if name is None or trial.state == RUNNING or not root.parent.is_dir():
            continue
        if (got := hashes.get(Path(str(name)).name)) is None:
            if expected is None:
                expected = kept(case, certainly=True)
            if trial.number in expected:
                what = "the store names it as the trial's checkpoint and study.keep keeps it, but it is gone"
                yield Finding(Place.CHECKPOINT, str(root / Path(str(name)).name), what, _again(case, trial))
        elif got and got != sha256:
            what = f"its weights have the sha256 {got[:12]}, the store says {str(sha256)[:12]}"
            yield Finding(Place.CHECKPOINT, str(root / Path(str(name)).name), what, "one of the two was changed")


def beyond(case: Case) -> Iterator[Finding]:
    """What lies there that the study's own rule would delete."""
    if foreign(case) or case.driven or not case.folder.is_dir():
        return
    there = [t.number for t in ended(case) if any(checkpoints_folder(case.folder, t.number).glob("*"))]
    if extra := set(there) - kept(case):
        bytes_ = size(sum(bytes_in(checkpoints_folder(case.folder, number)) for number in extra))
        settings = StudySpec.stored(case.record.spec).study
        rule = f"study.keep ({settings.keep})" + ("" if settings.disk is None else f" and study.disk ({settings.disk})")
        yield Finding(
            Place.RETENTION,
            str(case.folder),
            f"checkpoints of {some(extra)} ({bytes_}) are kept beyond {rule}",
            "`tuner doctor --fix` deletes them as the study's command would",
            Mend.RETAIN,
        )


def leftovers(case: Case) -> Iterator[Finding]:
    """What a worker that died in the middle of a checkpoint left behind."""
    if foreign(case) or case.driven:
        return
    for path in temporary(case):
        yield Finding(
            Place.LEFTOVER,
            str(path),
            "half a checkpoint, left by a worker that died while it wrote it",
            "nothing reads it, it may go",
            Mend.REMOVE,
        )


def temporary(case: Case) -> list[Path]:
    """The half-written checkpoints of a study that nobody runs, and no worker that outlives its driver writes."""
    found = sorted(case.folder.glob("[0-9]*/checkpoints/.tmp-*"))
    return [path for path in found if time.time() - _touched(path) > QUIET]


def kept(case: Case, certainly: bool = False) -> set[int]:
    """The trials whose checkpoints the study's own rule leaves alone.

    The rule is run on a shadow of the folder: the same names, files of the same size without content. ``certainly``
    asks for those that it can never have deleted, if each trial had one: under a cap on bytes that is but the best.
    """
    settings = StudySpec.stored(case.record.spec).study
    with tempfile.TemporaryDirectory(prefix="tuner-doctor-") as place:
        shadow = Path(place)
        for trial in own(case):
            folder = checkpoints_folder(shadow, trial.number)
            folder.mkdir(parents=True)
            with (folder / "all").open("wb") as file:
                file.truncate(1 if certainly else bytes_in(checkpoints_folder(case.folder, trial.number)))
            if held(trial_folder(case.folder, trial.number)):
                hold(folder.parent)
        disk = 0 if certainly and settings.disk is not None else settings.disk
        record = case.record
        if certainly:  # another rule let a front's go, and one may be set that was not
            record = replace(record, spec={**record.spec, "study": {**record.spec["study"], "against": None}})
        retain_best(shadow, record, settings.keep, disk)
        return {trial.number for trial in own(case) if checkpoints_folder(shadow, trial.number).is_dir()}


def counted(case: Case) -> int:
    """How many checkpoints there are to verify."""
    return 0 if foreign(case) else sum(1 for _ in case.folder.glob("[0-9]*/checkpoints/step-*"))


def _instead(case: Case, trial: TrialRecord, folder: Path) -> str:
    """What follows from a damaged checkpoint."""
    if trial.state == RUNNING:
        return "the trial goes on from the one before it, or from its beginning"
    if Path(str(trial.facts.get("checkpoint"))).name != folder.name:
        return "the trial's own is another one; this folder may be deleted"
    return _again(case, trial)


def _again(case: Case, trial: TrialRecord) -> str:
    return f"bring it back from a copy, or train it again: `tuner enqueue {case.name} --like {trial.number}`"


def _touched(path: Path) -> float:
    """When something in a folder was written last."""
    times = [0.0]
    for one in (path, *path.glob("*")):
        with contextlib.suppress(OSError):  # deleted meanwhile
            times.append(one.stat().st_mtime)
    return max(times)
