"""Which checkpoints a study keeps: of every unfinished trial, of the best K, and within the disk cap.
Deletes checkpoint folders only; metrics, specs and error texts of every trial stay.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tuner.run.folder import trial_folder
from tuner.search.history import IMPORTED, QUEUED, RUNNING, StudyRecord
from tuner.search.repeats import shippable
from tuner.spec.disk import bytes_in, held


def retain_best(study: Path, record: StudyRecord, keep: int, disk: int | None) -> list[str]:
    """Delete the checkpoints of finished trials beyond the best ``keep``; worst first, more until under ``disk`` bytes.

    Never those of a running or a promoted trial, and never one that may be the winner's (see repeats.shippable).
    Returns sentences about a cap that cannot be held.
    """
    alive = {trial.number for trial in record.trials if trial.state in (RUNNING, QUEUED)}
    own = [trial for trial in record.ranked() if IMPORTED not in trial.facts]  # another study's are kept by that one
    needed = [number for number in shippable(record) if IMPORTED not in record.find(number).facts]
    needed = needed or [trial.number for trial in own[:1]]
    others = [trial.number for trial in own if trial.number not in needed]
    best = needed + others[: max(0, keep - len(needed))]
    for trial in record.trials:
        if trial.number not in alive and trial.number not in best:
            _delete(study, trial.number)
    if disk is None:
        return []
    while (used := sum(map(bytes_in, study.glob("*/checkpoints")))) > disk and len(best) > len(needed):
        _delete(study, best.pop())
    if used > disk:
        return [
            f"{study} holds {used / 1e9:.2f} GB of checkpoints, above study.disk ({disk / 1e9:.2f} GB), though only "
            "the best, the promoted and the running trials are kept; raise the cap or make the models smaller."
        ]
    return []


def _delete(study: Path, number: int) -> None:
    folder = trial_folder(study, number)
    if not held(folder):
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
