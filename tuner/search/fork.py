"""A study that begins with another's trials: those that are trials of the new study too, and its best points.
Reading the old study and writing the new one's first trials only; the old one stays as it is.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from tuner.search.bayes.sampler import distribution
from tuner.search.history import FINISHED, IMPORTED, StudyRecord, TrialRecord, read_study
from tuner.search.repeats import REPEAT
from tuner.spec.budget import Unit
from tuner.spec.dimensions.dimension import in_words
from tuner.spec.dimensions.fields import values_of
from tuner.spec.errors import InfeasibleError, SpecError
from tuner.spec.records import Point, State, texts_of
from tuner.spec.study import StudySpec, differences
from tuner.spec.trial import TrialSpec

BEST = 3
"""Points of the old study that are tried first where none of its results counts here."""


@dataclass(frozen=True)
class Forked:
    """What became of the old study's trials, by their numbers there: taken over with their results, queued to be run
    here, or neither, and why.
    """

    imported: tuple[int, ...]
    queued: tuple[int, ...]
    refused: Mapping[int, str]


def fork(storage: BaseStorage, spec: StudySpec, old: str, fingerprint: str) -> Forked:
    """Begin the study ``spec`` (in the store already, without a trial) with the trials of ``old``.

    A trial is taken over with its result where the new study has a point that is the very same trial: every field
    equal, on the same text (``fingerprint``), with the same milestones and metric. Where none is, the best points
    that lie in the new space are queued instead.

    Raises:
        StoreError: there is no study ``old``.
        SpecError: the new study is a grid, which tries every point anyway, or it is ``old`` itself.
    """
    require_forkable(spec, old)
    record = read_study(storage, old)
    study = optuna.load_study(study_name=spec.name, storage=storage)
    before, imported, refused = StudySpec.stored(record.spec), [], {}
    here = [one.user_attrs for one in study.get_trials(deepcopy=False)]
    done = {attributes.get(IMPORTED) for attributes in here}  # by a fork that was killed, or is made once more
    for trial in record.trials:
        if f"{record.name}/{trial.number}" in done:
            imported.append(trial.number)
            continue
        try:
            point = _same_trial(spec, before, record, trial, fingerprint)
        except InfeasibleError as error:
            refused[trial.number] = str(error)
            continue
        study.add_trial(_taken_over(spec, record.name, trial, point))
        imported.append(trial.number)
    asked = {attributes.get("enqueued_by") for attributes in here}
    queued = [] if imported else list(_queue(study, spec, before, record, asked))
    return Forked(tuple(imported), tuple(queued), {k: why for k, why in refused.items() if k not in queued})


def require_forkable(spec: StudySpec, old: str) -> None:
    """Raises SpecError where the study is a grid, which tries every point anyway, or ``old`` itself."""
    if spec.study.sampler == "grid" or spec.name == old:
        why = "it is the same study" if spec.name == old else "a grid tries every point of its space anyway"
        hint = "; give it a name of its own (--set name=...)" if spec.name == old else ""
        raise SpecError(f"study '{spec.name}' cannot begin with the trials of '{old}': {why}{hint}.")


def _same_trial(spec: StudySpec, before: StudySpec, record: StudyRecord, trial: TrialRecord, fingerprint: str) -> Point:
    """The point of the new study that is this trial.

    Raises:
        InfeasibleError: there is none; the message says why.
    """
    if REPEAT in trial.facts:
        raise InfeasibleError(f"it repeats trial {trial.facts[REPEAT]} with another seed")
    if trial.state not in FINISHED:
        raise InfeasibleError(f"it is {trial.state}")
    text = texts_of(trial.facts)
    if text not in (None, fingerprint):
        raise InfeasibleError(f"it was trained on another text (fingerprint {text}, here {fingerprint})")
    if spec.trial.budget.unit is Unit.SECONDS:
        raise InfeasibleError("its budget is in seconds, which do more on one machine than on another")
    for name, old, new in (
        ("study.milestones", before.study.milestones, spec.study.milestones),
        ("study.metric", before.study.metric, spec.study.metric),
    ):
        if old != new:
            raise InfeasibleError(f"{name}: {old} there, {new} here")
    whole = before.resolve(trial.point)
    point = _point(spec, whole)
    if changes := differences(whole.as_data(), spec.resolve(point).as_data(), ("there", "here")):
        raise InfeasibleError(changes[0])
    return point


def _point(spec: StudySpec, trial: TrialSpec) -> Point:
    """The point of the space that has the trial's values.

    Raises:
        InfeasibleError: one of them is outside.
    """
    values = values_of(trial)
    if unknown := [path for path in spec.space if path not in values]:
        raise InfeasibleError(f"{unknown[0]}: it has no such text or label")
    point = spec.walk(lambda path, _: values[path])
    for path, value in point.items():
        if not spec.space[path].holds(value):
            raise InfeasibleError(f"{path} = {value} is none of the values here: {in_words(spec.space[path])}")
    return point


def _taken_over(spec: StudySpec, old: str, trial: TrialRecord, point: Point) -> optuna.trial.FrozenTrial:
    complete = trial.state == "complete"
    taken = create_trial(
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        params=dict(point),
        distributions={path: distribution(spec.space[path]) for path in point},
        value=trial.value if complete else None,
        intermediate_values=dict(trial.milestones),
        user_attrs={**trial.facts, IMPORTED: f"{old}/{trial.number}"},
        constraints={"converges": 1.0} if trial.state == State.DIVERGED else None,
    )
    taken.datetime_start, taken.datetime_complete = trial.started, trial.ended
    return taken


def _queue(
    study: optuna.Study, spec: StudySpec, before: StudySpec, record: StudyRecord, asked: Container[Any]
) -> Iterator[int]:
    """Queue the best points of the old study that the new space has, each once; those ``asked`` already, by whom their
    trials are said to be, are queued.
    """
    queued: list[Point] = []
    for trial in record.ranked():
        try:
            point = _point(spec, before.resolve(trial.point))
            spec.resolve(point)
        except InfeasibleError:
            continue
        if point not in queued and len(queued) < BEST:
            queued.append(point)
            if (name := f"{record.name}/{trial.number}") not in asked:
                study.enqueue_trial(dict(point), user_attrs={"enqueued_by": name})
            yield trial.number
