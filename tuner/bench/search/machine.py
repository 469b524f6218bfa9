"""A real study of two workers for the search's benches, on what this machine has and within its memory.
Put together here once; what it shows is read by whoever runs it.
"""

from __future__ import annotations

from pathlib import Path

from tuner.bench.lab import CORPORA, fresh
from tuner.run.driver import Driver
from tuner.run.fitting import Fitting
from tuner.run.hands.local import LocalWorkers, devices, plan_slots
from tuner.run.watcher import Watcher
from tuner.search.asktell import Search
from tuner.search.store.storage import open_storage
from tuner.spec.study import StudySpec
from tuner.tracking.base import NullTracker
from tuner.train.machine.capacity import MACHINE, Capacity, limit_of


def real_driver(spec: StudySpec, vocab: int, watcher: Watcher) -> Driver:
    """A driver in a new folder of the workplace, ready to run; ``vocab`` is that of the text every trial has.

    Raises:
        TunerError: the devices could not be named.
    """
    folder, kinds = fresh(), devices()
    search = Search(spec, open_storage(f"sqlite:///{folder / 'tuner.db'}", create=True))
    accelerated = [device for device in kinds if device != "cpu"]
    hands = LocalWorkers(*plan_slots(2, accelerated, spec.study.trials))
    limit, kind = limit_of(spec.study.memory, hands.slots, bool(accelerated)), " and ".join(sorted(set(kinds.values())))
    fitting = Fitting(None if limit is None else Capacity(limit, kind, Path(MACHINE)), lambda _: vocab)
    return Driver(spec, search, hands, NullTracker(), watcher, folder, CORPORA, fitting=fitting)
