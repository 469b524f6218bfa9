"""The candidate: a frozen record of the checkpoint that somebody wants to promote; its hash is its identity.
Made from a study's records; nothing here looks at a file, a model or a registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tuner.search.history import StudyRecord, TrialRecord
from tuner.search.repeats import REPEAT, families, family, looked_at, pooled, seed_of, trained_as, winner
from tuner.spec.errors import StoreError
from tuner.spec.parts.scalars import digest
from tuner.spec.records import Value
from tuner.spec.study import StudySpec

NAMED = ("mlflow_run", "checkpoint", "checkpoint_sha256")
"""Facts that have a field of their own."""


@dataclass(frozen=True)
class Candidate:
    """Which checkpoint, of which trial, and all that its judgement stands on.

    ``values`` are the final values of complete trials that differ from it in nothing but the seed, by seed, its own
    among them; ``others`` those of them for which nobody chose it: neither its own, nor the one that was why its
    settings ran again (None in a record from before that was told). ``looked_at`` is how many different settings it
    was chosen from; ``noise`` the deviation between the repeats of any settings in its study, from ``repeats`` of them
    beyond the first, None where there are none.
    """

    model: str
    study: str
    trial: int
    state: str
    run: str | None
    checkpoint: str | None
    sha256: str | None
    metric: str
    value: float | None
    values: Mapping[str, float]
    looked_at: int
    noise: float | None
    repeats: int
    budget: str
    spec: Mapping[str, Any]
    point: Mapping[str, Value]
    facts: Mapping[str, Value]
    others: Mapping[str, float] | None = None

    @property
    def record(self) -> str:
        """16 hex digits: the same checkpoint of the same trial for the same model is the same record."""
        return digest([self.model, self.study, self.trial, self.run, self.checkpoint, self.sha256])[:16]

    def as_data(self) -> dict[str, Any]:
        """JSON-ready data that ``read`` reads back."""
        return {**asdict(self), "values": dict(self.values), "spec": dict(self.spec), "facts": dict(self.facts)}

    @property
    def spent(self) -> str:
        """What it was trained with, in words: its budget, or less where it had stopped to get better."""
        tokens = self.facts.get("tokens")
        if self.spec.get("early_stop") is None or not isinstance(tokens, int | float):
            return self.budget
        return f"{tokens:,.0f} tokens (of {self.budget} at most)"

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Candidate:
        return cls(**data)


def choose(record: StudyRecord, number: int | None) -> TrialRecord:
    """The trial with ``number``, or the one to ship where it is None: the best, by its repeats where there are some.

    Raises:
        StoreError: there is none.
    """
    if number is None:
        best = winner(record)
        if best is None:
            raise StoreError(f"study '{record.name}' has no complete trial; run its search first.")
        return best
    return record.find(number)


def nominate(record: StudyRecord, trial: TrialRecord) -> Candidate:
    """The candidate record of a trial."""
    study = StudySpec.stored(record.spec)
    spec, repeated = trained_as(record, trial), families(record)
    values = repeated.get(family(trial.point), {})
    chosen = {seed_of(record, trial)}  # for its own value, or the first one's, which is why there are repeats at all
    if (first := trial.facts.get(REPEAT)) is not None:
        chosen.add(seed_of(record, record.find(int(first))))
    facts = {name: value for name, value in trial.facts.items() if name not in NAMED}
    spread, repeats = pooled(repeated.values())
    return Candidate(
        model=study.promotion.model or record.name,
        study=record.name,
        trial=trial.number,
        state=trial.state,
        run=_text(trial.facts.get("mlflow_run")),
        checkpoint=_text(trial.facts.get("checkpoint")),
        sha256=_text(trial.facts.get("checkpoint_sha256")),
        metric=record.metric,
        value=trial.value,
        values=values,
        others={seed: value for seed, value in values.items() if seed not in chosen},
        looked_at=looked_at(record),
        noise=spread,
        repeats=repeats,
        budget=str(spec.budget),
        spec=spec.as_data(),
        point=dict(trial.point),
        facts=facts,
    )


def _text(value: Value) -> str | None:
    return None if value is None else str(value)
