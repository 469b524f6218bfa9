"""Which checkpoints a study keeps: of every unfinished trial, of the best K, and within the disk cap, which is given
out before a trial begins. Deletes checkpoint folders only; metrics, specs and error texts of every trial stay.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tuner.run.folder import CHECKPOINTS, checkpoints_folder, trial_folder
from tuner.search.history import IMPORTED, QUEUED, RUNNING, StudyRecord
from tuner.search.repeats import shippable
from tuner.spec.budget import size_text
from tuner.spec.disk import bytes_in, held
from tuner.spec.errors import InfeasibleError, StudyStoppedError, TunerError


class Retention:
    """Keeps the checkpoints below ``study`` to the best ``keep`` trials, its front, and ``disk`` bytes (None: no cap).

    A trial is given all that it may ever take before it begins, so that the cap holds while it runs. ``crowded``: the
    last one that asked got nothing, and nobody has left since.
    """

    def __init__(self, study: Path, keep: int, disk: int | None) -> None:
        self.study, self.keep, self.disk, self.crowded = study, keep, disk, False
        self._given: dict[int, int] = {}
        self._bare: set[int] = set()

    def admit(self, number: int, needed: Callable[[], int], must: bool, record: Callable[[], StudyRecord]) -> bool:
        """Give a trial the bytes it needs, for which spare checkpoints go; False where others must end first.

        Raises:
            InfeasibleError: nobody else runs, and there is no room.
            StudyStoppedError: the same, of a trial that ``must`` run: the study cannot do without it.
        """
        if self.disk is None:
            return True
        given = {**self._given, number: needed()}
        if _taken(self.study, given) > self.disk:
            spare = _spare(self.study, record(), self.keep, self._bare)
            could_go = sum(bytes_in(checkpoints_folder(self.study, one)) for one in spare)
            self.crowded = _taken(self.study, given) - could_go > self.disk
            if not self.crowded:
                _make_room(self.study, spare, self.disk, given)
        if not self.crowded:
            self._given = given
        elif not self._given:
            self.crowded = False
            raise _no_room(given[number], self.disk, must)
        return not self.crowded

    def leave(self, number: int) -> None:
        """The trial has ended, or its worker has: it takes no more than it has."""
        self._given.pop(number, None)
        self.crowded = False

    def tidy(self, record: StudyRecord) -> list[str]:
        """As ``retain_best``, with the room that the running trials were given."""
        return retain_best(self.study, record, self.keep, self.disk, self._given, self._bare)


def retain_best(
    study: Path,
    record: StudyRecord,
    keep: int,
    disk: int | None,
    given: Mapping[int, int] | None = None,
    bare: set[int] | None = None,
) -> list[str]:
    """Delete the checkpoints of finished trials beyond the best ``keep`` and the front of a study that weighs a cost;
    worst first, more until under ``disk`` bytes.

    Never those of a running or a promoted trial, and never one that may be the winner's (see repeats.shippable).
    Trials that run take what they were ``given``. ``bare`` remembers the finished trials that have none left, which
    need not be looked at again. Returns sentences about a cap that cannot be held.
    """
    spare = _spare(study, record, keep, set() if bare is None else bare)
    if disk is None:
        return []
    if (used := _make_room(study, spare, disk, given or {})) > disk:
        return [
            f"{study} holds {used / 1e9:.2f} GB of checkpoints, above study.disk ({disk / 1e9:.2f} GB), though only "
            "the best, the promoted and the running trials are kept; raise the cap or make the models smaller."
        ]
    return []


def _no_room(needed: int, disk: int, must: bool) -> TunerError:
    why = (
        f"its checkpoints may take {needed / 1e6:.1f} MB while it trains; study.disk is {size_text(disk)}, and there "
        "is not so much beside what must be kept"
    )
    return StudyStoppedError(f"{why}. Raise it and run the command again.") if must else InfeasibleError(why)


def _spare(study: Path, record: StudyRecord, keep: int, bare: set[int]) -> list[int]:
    """Delete what is beyond the best ``keep`` and the front; those of them that a cap may want as well, best first."""
    alive = {trial.number for trial in record.trials if trial.state in (RUNNING, QUEUED)}
    own = [trial for trial in record.ranked() if IMPORTED not in trial.facts]  # another study's are kept by that one
    needed = [number for number in shippable(record) if IMPORTED not in record.find(number).facts]
    needed = needed or [trial.number for trial in own[:1]]
    best = [trial.number for trial in own if trial.number not in needed][: max(0, keep - len(needed))]
    front = replace(record, trials=tuple(own)).front()
    others = list(dict.fromkeys(number for number in [*best, *front] if number not in needed))
    kept = alive | {*needed, *others} | bare
    for number in [trial.number for trial in record.trials if trial.number not in kept]:
        if _delete(study, number):
            bare.add(number)
    return [number for number in others if not held(trial_folder(study, number))]


def _make_room(study: Path, spare: list[int], disk: int, given: Mapping[int, int]) -> int:
    """Delete of the spare, the last first, until all fits under ``disk`` bytes; what is taken then."""
    while (used := _taken(study, given)) > disk and spare:
        _delete(study, spare.pop())
    return used


def _taken(study: Path, given: Mapping[int, int]) -> int:
    """Bytes of all checkpoints, those of running trials as they were given or, if that is more, as they are."""
    found = {place.parent.name: bytes_in(place) for place in study.glob(f"*/{CHECKPOINTS}")}
    for number, size in given.items():
        found[str(number)] = max(size, found.get(str(number), 0))
    return sum(found.values())


def _delete(study: Path, number: int) -> bool:
    """Whether the trial has no checkpoint now; one that is held keeps it."""
    if held(trial_folder(study, number)):
        return False
    shutil.rmtree(checkpoints_folder(study, number), ignore_errors=True)
    return not checkpoints_folder(study, number).exists()
