"""Requests: what somebody asks of a running study from outside, kept in its store until the driver has answered.
Written by commands and pages, answered by the driver alone; what a request does is the driver's business.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import optuna
from optuna.storages import BaseStorage

from tuner.spec.dimensions.dimension import in_words
from tuner.spec.errors import InfeasibleError, SpecError, StoreError, nearest
from tuner.spec.records import Point, Value
from tuner.spec.study import StudySpec

DRAWS = 100
"""So many ways to fill a point are tried before it is taken to be impossible."""

_ASKED, _ANSWERED = "request:", "answer:"


class Wish(StrEnum):
    """Every trial writes a checkpoint and the driver leaves; or one trial ends where it is."""

    STOP = "stop"
    PRUNE = "prune"


@dataclass(frozen=True)
class Request:
    """What is asked, by whom and why; ``trial`` for PRUNE. ``at`` is in seconds since 1970."""

    wish: Wish
    actor: str
    reason: str
    trial: int | None = None
    at: float = 0.0
    id: str = ""

    @property
    def sentence(self) -> str:
        return f"by {self.actor}" + (f": {self.reason}" if self.reason else "")


def post(storage: BaseStorage, study: str, request: Request) -> Request:
    """Leave a request with a study; returns it with its id and time.

    Raises:
        StoreError: there is no such study.
    """
    whole = Request(request.wish, request.actor, request.reason, request.trial, time.time(), uuid.uuid4().hex)
    _loaded(storage, study).set_user_attr(_ASKED + whole.id, asdict(whole))
    return whole


def waiting(attributes: Mapping[str, Any]) -> list[Request]:
    """The requests among a study's user attributes that have no answer yet, oldest first."""
    asked = [
        Request(**{**data, "wish": Wish(data["wish"])})
        for name, data in attributes.items()
        if name.startswith(_ASKED) and _ANSWERED + name.removeprefix(_ASKED) not in attributes
    ]
    return sorted(asked, key=lambda request: request.at)


def answer(storage: BaseStorage, study: str, request: Request, sentence: str) -> None:
    """Say what became of a request; it is not asked again."""
    _loaded(storage, study).set_user_attr(_ANSWERED + request.id, sentence)


def dismiss(storage: BaseStorage, study: str) -> None:
    """Answer what was asked of a driver that is gone: for the next one, once it has the study's lock."""
    for request in waiting(_loaded(storage, study).user_attrs):
        answer(storage, study, request, "no driver was running")


def answered(storage: BaseStorage, study: str, request: Request) -> str | None:
    """What became of it; None while nobody has answered."""
    sentence = _loaded(storage, study).user_attrs.get(_ANSWERED + request.id)
    return None if sentence is None else str(sentence)


def enqueue(storage: BaseStorage, study: str, point: Point, actor: str) -> int:
    """Queue a point to be tried next; what it leaves out the sampler chooses, or chance where a rule forbids some of
    that. Returns the trial's number.

    Raises:
        SpecError: a path is no dimension of the study, or a value is none that it can take.
        StoreError: there is no such study, or it is a grid, which tries every point anyway.
    """
    loaded = _loaded(storage, study)
    spec = StudySpec.stored(loaded.user_attrs["spec"])
    if spec.study.sampler == "grid":
        raise StoreError(f"study '{study}' is a grid: it tries every point of its space anyway.")
    for path, value in point.items():
        if path not in spec.space:
            raise SpecError(
                f"{path}: no dimension of study '{study}'.{nearest(path, [name for name, _ in spec.space.items()])}"
            )
        if not spec.space[path].holds(value):
            raise SpecError(f"{path}: {value} is none of its values: {in_words(spec.space[path])}.")
    loaded.enqueue_trial(_filled(spec, point), user_attrs={"enqueued_by": actor})
    # a driver may have begun it by now
    return max(t.number for t in loaded.get_trials(deepcopy=False) if t.user_attrs.get("enqueued_by") == actor)


def _filled(spec: StudySpec, point: Point) -> dict[str, Value]:
    """The point as it is given; where what a sampler may add to it can make it impossible, with values that do not.

    Raises:
        SpecError: nothing that was tried makes it possible.
    """
    rng, wrong, found = random.Random(0), list[str](), list[dict[str, Value]]()
    for _ in range(DRAWS):
        whole = spec.draw(rng, point)
        try:
            spec.resolve(whole)
            found.append({**point, **whole})
        except InfeasibleError as error:
            wrong.append(str(error))
        if whole.keys() <= point.keys():
            break
    if not found:
        raise SpecError(f"this point cannot be a trial: {wrong[0]}")
    return found[0] if wrong else dict(point)


def _loaded(storage: BaseStorage, study: str) -> optuna.Study:
    try:
        loaded = optuna.load_study(study_name=study, storage=storage)
    except (KeyError, UnicodeEncodeError):  # the second of a name that no text can hold
        hint = nearest(study, optuna.get_all_study_names(storage))
        raise StoreError(f"no study '{study}' in the store.{hint}") from None
    if "spec" not in loaded.user_attrs:
        raise StoreError(f"study '{study}' was not made by this platform.")
    return loaded
