"""Control of a study from outside: enqueue a point, stop the search, prune a trial; each with its actor.
For commands and pages; it loads no torch, starts nothing, and waits only for the driver's answer.
"""

from __future__ import annotations

import time

from tuner.search import requests
from tuner.search.history import read_study
from tuner.search.requests import Request, Wish
from tuner.search.store.storage import open_storage
from tuner.spec.errors import StoreError
from tuner.spec.records import Point, Value

PATIENCE = 8.0
"""Seconds to wait for the driver's answer: it listens once a second."""


def enqueue(url: str, study: str, point: Point, actor: str, like: int | None = None) -> int:
    """Queue a point, over that of trial ``like`` where one is given; returns the new trial's number.

    Raises:
        SpecError: the point does not fit the space.
        StoreError: no such study or trial.
    """
    storage = open_storage(url)
    base: dict[str, Value] = {}
    if like is not None:
        base = dict(read_study(storage, study).find(like).point)
    return requests.enqueue(storage, study, {**base, **point}, actor)


def stop(url: str, study: str, actor: str, reason: str = "", patience: float = PATIENCE) -> str:
    """Have every trial write a checkpoint and the driver leave; returns the driver's answer.

    Raises:
        StoreError: no such study, or no driver answers.
    """
    return _asked(url, study, Request(Wish.STOP, actor, reason), patience)


def prune(url: str, study: str, trial: int, actor: str, reason: str = "", patience: float = PATIENCE) -> str:
    """End a running trial where it is; returns the driver's answer.

    Raises:
        StoreError: no such study, or no driver answers.
    """
    return _asked(url, study, Request(Wish.PRUNE, actor, reason, trial), patience)


def _asked(url: str, study: str, request: Request, patience: float) -> str:
    storage = open_storage(url)
    posted, until = requests.post(storage, study, request), time.monotonic() + patience
    while time.monotonic() < until:
        if (sentence := requests.answered(storage, study, posted)) is not None:
            return sentence
        time.sleep(0.2)
    requests.answer(storage, study, posted, "nobody answered in time")
    raise StoreError(f"no driver of '{study}' answered in {patience:.0f} s; is the study running?")
