"""Who trains the trials: this machine's hands, or a Ray cluster's; and what each trial may take there.
Choosing and ending them only; how they work is in run/hands/.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
def hired(spec: StudySpec, cluster: str | None, say: Callable[[str], None]) -> Iterator[Hired]:
    """Hands for a study; at the end none of their workers is left. ``cluster`` is a Ray address; ``say`` hears
    what is waited for.

    Raises:
        TunerError: this machine, or the cluster, cannot run one trial.
    """
    most = None if spec.study.workers == "auto" else spec.study.workers
    with contextlib.ExitStack() as stack:
        found = _here(spec, most) if cluster is None else _there(spec, most, cluster, stack, say)
        stack.callback(found.workers.kill)
        yield found


def _here(spec: StudySpec, most: int | None) -> Hired:
    from tuner.run.hands.local import LocalWorkers, plan_slots
    from tuner.study.prepare import probe_devices
    from tuner.train.machine.capacity import limit_of

    devices, kind = probe_devices()
    each = spec.trial.devices
    workers = LocalWorkers(*plan_slots(most, devices, spec.study.trials, each), each)
    return Hired(workers, kind, limit_of(spec.study.memory, workers.slots, bool(devices), each))


def _there(
    spec: StudySpec, most: int | None, cluster: str, stack: contextlib.ExitStack, say: Callable[[str], None]
) -> Hired:
    try:
        from tuner.run.hands.ray import RayWorkers
    except ImportError as error:
        raise TunerError(f"--ray needs Ray ({error}): pip install 'tuner[ray]', here and on every node.") from None
    asked, each = spec.study.resources, spec.trial.devices
    workers = RayWorkers(cluster, each, most, asked.cpus, asked.gpus, asked.memory)
    stack.callback(workers.close)
    return Hired(workers, workers.kind(say), None if workers.need.gpus else remote_limit(spec))
