"""Who trains the trials: this machine's hands, or a Ray cluster's; and what each trial may take there.
Choosing and ending them only; how they work is in run/hands/.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tuner.run.folder import owner_of
from tuner.run.hands.workers import Workers
from tuner.spec.errors import TunerError
from tuner.spec.study import StudySpec
from tuner.study.plan import remote_limit


@dataclass(frozen=True)
class Hired:
    """The hands, the kind of device that trials run on, and the bytes that each process of a trial may take (None: a
    GPU's own memory decides, or nobody has said).
    """

    workers: Workers
    kind: str
    limit: int | None


@contextlib.contextmanager
def hired(spec: StudySpec, folder: Path, cluster: str | None, say: Callable[[str], None]) -> Iterator[Hired]:
    """Hands for the study in ``folder``; at the end none of their workers is left. ``cluster`` is a Ray address;
    ``say`` hears what is waited for.

    Raises:
        TunerError: this machine, or the cluster, cannot run one trial.
    """
    with _here(spec) if cluster is None else _there(spec, folder, cluster, say) as found:
        try:
            yield found
        finally:
            found.workers.kill()


@contextlib.contextmanager
def _here(spec: StudySpec) -> Iterator[Hired]:
    from tuner.run.hands.local import LocalWorkers, plan_slots
    from tuner.study.prepare import probe_devices
    from tuner.train.machine.capacity import limit_of

    devices, kind = probe_devices()
    each = spec.trial.devices
    workers = LocalWorkers(*plan_slots(spec.study.at_once, devices, spec.study.most, each), each)
    yield Hired(workers, kind, limit_of(spec.study.memory, workers.slots, bool(devices), each))


@contextlib.contextmanager
def _there(spec: StudySpec, folder: Path, cluster: str, say: Callable[[str], None]) -> Iterator[Hired]:
    try:
        from tuner.run.hands.cluster.ray import RayWorkers
        from tuner.run.hands.cluster.slot import Place
    except ImportError as error:
        raise TunerError(f"--ray needs Ray ({error}): pip install 'tuner[ray]', here and on every node.") from None
    study, place = spec.study, Place(Path.cwd(), owner_of(folder) or spec.name, spec.study.depot)
    workers = RayWorkers(cluster, spec.trial.devices, study.at_once, study.resources, place)
    with contextlib.closing(workers):
        yield Hired(workers, workers.kind(say), None if workers.need.gpus else remote_limit(spec))
