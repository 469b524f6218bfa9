"""What ``--fix`` does to a study that nobody runs, under its lock: only what loses no record and changes no value.
Deeds of other rooms, called in order; whether they helped is seen by looking again.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection

from tuner.doctor.findings import Case, Finding, Mend, Place, some
from tuner.doctor.places.checkpoints import temporary
from tuner.doctor.places.mirrored import runs_to_link
from tuner.run.retention import retain_best
from tuner.search.store.late import name_runs
from tuner.search.store.storage import Storage
from tuner.spec.errors import TunerError
from tuner.spec.study import StudySpec
from tuner.tracking.mirror import sync

DOUBTS = {Place.STORE, Place.FOLDER, Place.SPOOL, Place.CHECKPOINT}
"""Where these disagree no checkpoint is deleted: the one that is too many may be the one that is needed."""


def mend(case: Case, found: Collection[Finding], storage: Storage, away: Collection[str]) -> list[str]:
    """Do what the findings allow; returns sentences about what could not be done. ``away``: MLflow's silent stores."""
    kinds, said = {finding.mend for finding in found}, []
    if Mend.REMOVE in kinds:
        for path in temporary(case):
            shutil.rmtree(path, ignore_errors=True)
    if Mend.RETAIN in kinds:
        if any(finding.place in DOUBTS for finding in found):
            said.append("no checkpoint is deleted while something else is wrong here")
        else:
            settings = StudySpec.stored(case.record.spec).study
            said += retain_best(case.folder, case.record, settings.keep, settings.disk)
    if case.uri is not None and case.uri not in away and kinds & {Mend.SYNC, Mend.LINK}:
        try:
            if synced := Mend.SYNC in kinds and case.folder.is_dir():
                sync(case.folder, case.uri)
            named = link(case, storage, anew=synced)
            if named and Mend.LINK not in kinds:
                said.append(f"the store names the MLflow runs of {some(named)} now")
        except TunerError as error:
            said.append(" ".join(str(error).split()))
    return said


def link(case: Case, storage: Storage, anew: bool) -> dict[int, str]:
    """Have the store name the runs of trials that were mirrored when their driver had left, with ``anew`` also of those
    whose run was lost and is made once more; which ones.

    Raises:
        StoreError: the store refuses.
    """
    return name_runs(storage, case.url, case.name, None, runs_to_link(case, anew), anew)
