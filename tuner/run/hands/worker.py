"""What runs inside a worker process: one job, then the process ends.
The only room of this wing that calls the trainer; torch is loaded here, never in the driver.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import logging
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import ParamSpec

from tuner.run.hands.link import (
    DataJob,
    DevicesJob,
    ExamineJob,
    Exhausted,
    Job,
    KeepJob,
    PipeLink,
    ProveJob,
    TrialJob,
    WeighJob,
    WriteJob,
)
from tuner.spec.errors import DataError, TunerError, UnreadableError
from tuner.spec.records import Outcome, Seat, State

P = ParamSpec("P")

AWAY = (errno.EIO, errno.ESTALE, errno.EROFS, errno.ETIMEDOUT, errno.ENOTCONN, errno.EREMOTEIO)
"""What a file system says that has a problem of its own: a trial goes on once it is back."""

PRELOAD = ["tuner.train.fit"]
"""Imported once by the fork server, so that a worker starts in milliseconds."""


def work(job: Job, pipe: Connection, device: str, threads: int | None, seat: Seat | None = None) -> None:
    """Do ``job`` and send what comes of it; the last message is its Outcome or the answer its job names."""
    # These reach the whole process group, or every process of a service; only the driver decides what they mean.
    # Blocked, not ignored: Lightning would put a handler of its own on SIGTERM.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP, signal.SIGTERM})
    _end_with_parent()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    link = PipeLink(pipe)
    match job:
        case TrialJob():
            link.send(_train(job, link, device, threads, seat))
        case DataJob():
            link.send(_prepare(job, link))
        case DevicesJob():
            from tuner.train.machine.device import devices

            link.send(devices())
        case ExamineJob():
            from tuner.train.use.examine import examine

            link.send(examine(job.checkpoint, job.corpora, job.champion, job.test_tokens))
        case ProveJob():
            link.send(_prove(job))
        case WriteJob():
            link.send(_write(job))
        case KeepJob():
            link.send(_keep(job))
        case WeighJob():
            link.send(_weigh(job))
    pipe.close()


def _end_with_parent() -> None:
    """Have the kernel end this process when its driver is gone: one that hangs would not notice, and hold its trial's
    folder for ever (Linux; prctl(2), PR_SET_PDEATHSIG).

    Its parent is the fork server, which ends with the last process that could ask it for another: not this one.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        os.close(forkserver._forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]
        forkserver._forkserver._forkserver_alive_fd = None  # type: ignore[attr-defined]
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def _train(job: TrialJob, link: PipeLink, device: str, threads: int | None, seat: Seat | None) -> Outcome | Exhausted:
    from tuner.train.fit import Place, fit
    from tuner.train.machine.capacity import TooLargeError
    from tuner.train.machine.device import is_out_of_memory

    place = Place(job.folder, job.corpora, device, threads, memory=job.memory, parts=job.parts, seat=seat)
    try:
        return fit(job.spec, job.milestones, place, link, job.code_version, job.samples, job.metric)
    except UnreadableError as error:  # it was there before
        return Outcome(State.INTERRUPTED, str(error))
    except DataError as error:  # the text as written was read before: what was searched does not fit it
        return Outcome(State.INFEASIBLE, str(error))
    except TooLargeError as error:
        return Exhausted(str(error), known=True)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Outcome(State.INTERRUPTED, f"no room on the disk for {error.filename or job.folder}")
        if isinstance(error, OSError) and error.errno in AWAY:
            return Outcome(State.INTERRUPTED, f"{error.filename or job.folder}: {os.strerror(error.errno)}")
        if is_out_of_memory(error):
            return Exhausted(f"out of memory on {device}: {_first_line(error)}", known=False)
        with contextlib.suppress(OSError):  # the reason itself goes to the store
            job.folder.mkdir(parents=True, exist_ok=True)
            (job.folder / "error.txt").write_text(traceback.format_exc())
        return Outcome(State.FAILED, f"{type(error).__name__}: {_first_line(error)}")


def _answering(work: Callable[P, object]) -> Callable[P, object]:
    """A job whose answer may be the TunerError that says why there is none."""

    @functools.wraps(work)
    def answer(*args: P.args, **kwargs: P.kwargs) -> object:
        try:
            return work(*args, **kwargs)
        except TunerError as error:
            return error

    return answer


@_answering
def _prepare(job: DataJob, link: PipeLink) -> object:
    from tuner.train.text.corpus import open_corpus
    from tuner.train.text.mixed.mixture import fingerprints, open_mixed, require_foreign

    corpus = open_corpus(job.data, job.corpora, link.preparing)
    mixed = open_mixed(job.data, corpus, job.corpora, link.preparing)
    if job.apart:
        require_foreign(job.data)
    return replace(corpus.info, mixed=fingerprints(mixed))


@_answering
def _prove(job: ProveJob) -> None:
    from tuner.train.use.examine import prove

    prove(job.folder)


@_answering
def _write(job: WriteJob) -> object:
    from tuner.train.use.trained import load_checkpoint

    return load_checkpoint(job.checkpoint, job.corpora).write(job.prompt, job.sampling, job.seconds)


@_answering
def _keep(job: KeepJob) -> object:
    from tuner.train.use.adopt import keep

    try:
        return keep(job.folder, job.corpora, job.root)
    except OSError as error:
        place, reason = error.filename or job.root, error.strerror or error
        raise TunerError(f"{place}: the model could not be kept ({reason}).") from error


@_answering
def _weigh(job: WeighJob) -> object:
    from tuner.train.use.examine import weigh

    return weigh(job.folders, job.data, job.corpora, job.test_tokens)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:500]
