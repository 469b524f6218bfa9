"""StudySettings: how a study is searched, how long, and where its records go.
Fields and their limits only; what they do is done in search/, run/ and tracking/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tuner.spec.errors import short
from tuner.spec.parts.scalars import Count, Float, Flops, Frozen, Int, Positive, Seconds, Size, Tokens

Metric = Literal[
    "val_loss",
    "val_bpb",
    "val_error",
    "val_precision_error",
    "val_recall_error",
    "val_f1_error",
    "val_f1_weighted_error",
]

METRICS: Mapping[str, tuple[Metric, ...]] = {
    "generate": ("val_loss", "val_bpb"),
    "classify": (
        "val_loss",
        "val_error",
        "val_precision_error",
        "val_recall_error",
        "val_f1_error",
        "val_f1_weighted_error",
    ),
}
"""trial.task -> what a study may make low: ``val_error`` is 1 - accuracy, and so on, as a search minimises."""


def _url(value: str) -> str:
    if not re.match(r"[A-Za-z][A-Za-z0-9+]*://.", value):
        raise ValueError(
            f"expected a URL such as sqlite:///tuner.db or postgresql+psycopg://user@host/db, got {short(value)!r}"
        )
    return value


class RepeatSettings(Frozen):
    """The winner run again: the ``top`` settings of a finished search, until each has ``seeds`` seeds."""

    top: Annotated[Count, Field(le=100)] = 3
    seeds: Annotated[Count, Field(ge=2, le=100)] = 3

    @property
    def most(self) -> int:
        """Trials that it adds at most."""
        return self.top * (self.seeds - 1)


class TotalSettings(Frozen):
    """What the whole study may spend, over all its trials, workers and restarts; what is not said is not limited."""

    tokens: Tokens | None = None  # trained on
    flops: Flops | None = None
    seconds: Seconds | None = None  # of the clock, while the study runs: '25 min'
    device_hours: Positive | None = None  # of training, all devices together


class StopSettings(Frozen):
    """When a search no longer pays: the best has gained less than ``gain`` over so many finished trials."""

    gain: Literal["seed noise"] | Positive = "seed noise"  # or in units of the metric
    over: Annotated[Count, Field(le=100_000)] = 10  # trials


class ResourceSettings(Frozen):
    """What one trial asks of a Ray cluster (``--ray``); Ray puts it where there is so much."""

    cpus: Positive | None = None  # its threads; None: one a device
    gpus: Annotated[Float, Field(ge=0)] | None = None  # None: trial.devices where the cluster has GPUs
    memory: Size | None = None  # None: nothing is said


class StudySettings(Frozen):
    """How to search. ``trials`` is a total: the same study again goes on. What a trial is, is no part."""

    trials: Count = 24
    totals: TotalSettings | None = None  # beside ``trials``: what comes first ends the study
    stop: StopSettings | None = None  # None: all ``trials`` are run
    milestones: Annotated[Count, Field(le=10_000)] = 10  # reports, pruning and comparison happen only here
    metric: Metric = "val_loss"
    sampler: Literal["bayes", "tpe", "gp", "random", "cmaes", "grid", "qmc"] = "bayes"
    pruner: Literal["forecast", "hyperband", "asha", "median", "none"] = "forecast"
    prior: Literal["steplaw", "none"] | Mapping[str, tuple[Float, Positive]] = "steplaw"  # the first guess
    against: Literal["parameters", "flops", "latency_ms", "bytes"] | None = (
        None  # a second objective: the least loss for each
    )
    seed: Annotated[Int, Field(ge=0, lt=2**32)] = 1
    workers: Literal["auto"] | Annotated[Count, Field(le=1024)] = "auto"
    resources: ResourceSettings = ResourceSettings()  # of a trial on a Ray cluster
    depot: Annotated[str, Field(min_length=1)] | None = None  # fsspec URL, for Ray's nodes that share no folder
    storage: Annotated[str, AfterValidator(_url)] | None = None  # None: sqlite:///tuner.db
    tracking: Annotated[str, Field(min_length=1)] | None = None  # an MLflow URI; None: sqlite:///mlflow.db
    repeats: RepeatSettings | None = None  # beyond ``trials``, once those are done; None: the winner is seen once
    keep: Count = 3  # the best so many trials keep their checkpoints
    memory: Literal["auto"] | Size = "auto"  # bytes one trial may take; auto: its share of what is free
    disk: Size | None = None  # bytes all checkpoints of the study may take
    max_failures: Count = 5  # so many in a row stop the study
    patience: Seconds = 1800.0  # a worker that does no step for so long is ended; its trial goes on in another
    samples: Annotated[Int, Field(ge=0, le=16)] = 2  # texts a trial writes at its milestones; 0: none

    @property
    def at_once(self) -> int | None:
        """Workers as written; None where what there is decides."""
        return None if self.workers == "auto" else self.workers

    @property
    def most(self) -> int:
        """Trials in all, repeats included."""
        return self.trials + (0 if self.repeats is None else self.repeats.most)
