"""Simulated studies of any size in a store of our own shape, for measuring whatever reads one.
Nothing here is trained: losses are a made-up function of the point, and every trial's device says "simulated".
"""

from __future__ import annotations

import bisect
import json
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from tuner.search.asktell import Search
from tuner.search.store.reader import engine_of
from tuner.search.store.storage import open_storage
from tuner.spec.dimensions.dimension import ChoiceDim, Dimension, FloatDim, IntDim
from tuner.spec.dimensions.fields import values_of
from tuner.spec.load import parse
from tuner.spec.parts.scalars import digest
from tuner.spec.records import Point, State, Value
from tuner.spec.study import StudySpec

STORE = "tuner.db"
BATCH = 5_000
"""Trials held in memory at a time."""
BEGAN = datetime(2026, 1, 5, 8)
START, FLOOR = 6.2, 3.2  # nats a token: before training, and what no point falls under

_STORED = {
    State.COMPLETE: "COMPLETE",
    State.PRUNED: "PRUNED",
    State.INFEASIBLE: "PRUNED",
    State.DIVERGED: "PRUNED",
    State.FAILED: "FAIL",
}
_ROWS = {
    "trials": "trial_id, number, study_id, state, datetime_start, datetime_complete",
    "trial_params": "trial_id, param_name, param_value, distribution_json",
    "trial_values": "trial_id, objective, value, value_type",
    "trial_intermediate_values": "trial_id, step, intermediate_value, intermediate_value_type",
    "trial_user_attributes": "trial_id, key, value_json",
    "trial_system_attributes": "trial_id, key, value_json",
}


def simulated_spec(trials: int, name: str = "simulated") -> StudySpec:
    """A study of ``trials`` trials of ten milestones, over numbers, a choice, a condition and a rule."""
    return parse(f"""
name: {name}
trial: {{budget: 1M tokens}}
space:
  optim.lr:      {{float: [1e-4, 3e-2], log: true}}
  optim.warmup:  {{float: [0.0, 0.2]}}
  batch:         {{choice: [8, 16, 32, 64]}}
  model.depth:   {{int: [2, 8]}}
  model.width:   {{int: [64, 256], step: 32}}
  optim.kind:    {{choice: [adamw, muon]}}
  optim.muon.lr: {{float: [1e-3, 1e-1], log: true, when: {{optim.kind: muon}}}}
forbid: ["model.depth > 6 and model.width > 128"]
study: {{trials: {trials}, milestones: 10, sampler: tpe, pruner: median}}
""")


def make_study(place: Path | str, trials: int, spec: StudySpec | None = None, seed: int = 1) -> StudySpec:
    """Append ``trials`` finished trials to the study of ``spec`` in the store ``place``, a URL or a folder with a
    ``tuner.db``; both are made if needed.

    The same seed makes the same trials: mostly complete and pruned ones (of the worst third at a milestone), a few
    failed and diverged, infeasible where a rule holds, later ones nearer to the optimum as a sampler's are. 10,000
    trials take seconds, since they go past Optuna into its tables, many at once.

    Returns: the spec. Raises StoreError: the store holds another study of that name, or cannot be opened.
    """
    whole = spec or simulated_spec(trials)
    storage = open_storage(f"sqlite:///{place / STORE}" if isinstance(place, Path) else place, create=True)
    Search(whole, storage)
    engine = engine_of(storage)
    assert engine is not None
    with engine.begin() as store:
        study = storage.get_study_id_from_name(whole.name)
        known = storage.get_n_trials(study)
        last = store.exec_driver_sql("SELECT coalesce(max(trial_id), 0) FROM trials").scalar_one()
        maker = _Maker(whole, random.Random(seed), known + trials)
        for first in range(0, trials, BATCH):
            rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _ROWS}
            for position in range(first, min(first + BATCH, trials)):
                maker.make(last + 1 + position, study, known + position).into(rows)
            for table, columns in _ROWS.items():
                mark = "?" if engine.dialect.name == "sqlite" else "%s"
                marks = ", ".join([mark] * len(columns.split(",")))
                if not rows[table]:  # an empty list would be one row without values
                    continue
                store.exec_driver_sql(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows[table])
        if engine.dialect.name == "postgresql":  # the keys that it hands out itself begin after ours
            store.exec_driver_sql(f"SELECT setval(pg_get_serial_sequence('trials', 'trial_id'), {last + trials})")
    storage.remove_session()
    engine.dispose()
    return whole


@dataclass(frozen=True)
class _Made:
    """One trial as it goes into the tables."""

    id: int
    study: int
    number: int
    state: State
    began: datetime
    ended: datetime
    point: Point
    distributions: dict[str, BaseDistribution]
    milestones: tuple[float, ...]
    facts: dict[str, Value]
    system: dict[str, Value] = field(default_factory=dict)

    def into(self, rows: dict[str, list[tuple[Any, ...]]]) -> None:
        mine = self.id
        times = _moment(self.began), _moment(self.ended)
        rows["trials"].append((mine, self.number, self.study, _STORED[self.state], *times))
        rows["trial_params"] += [
            (mine, path, kind.to_internal_repr(self.point[path]), distribution_to_json(kind))
            for path, kind in self.distributions.items()
        ]
        if self.milestones and self.state is not State.FAILED:
            rows["trial_values"].append((mine, 0, self.milestones[-1], "FINITE"))
        rows["trial_intermediate_values"] += [
            (mine, k, value, "FINITE") for k, value in enumerate(self.milestones, start=1)
        ]
        rows["trial_user_attributes"] += _json(mine, self.facts)
        rows["trial_system_attributes"] += _json(mine, self.system)


def _moment(time: datetime) -> str:
    return time.isoformat(" ", "microseconds")


def _json(trial: int, values: dict[str, Value]) -> Iterable[tuple[int, str, str]]:
    return ((trial, key, json.dumps(value)) for key, value in values.items())


class _Maker:
    """Draws trials one after another, as two workers would have ended them."""

    def __init__(self, spec: StudySpec, rng: random.Random, total: int) -> None:
        self.spec, self.rng, self.total = spec, rng, total
        self.rules, self.base = spec.rules, values_of(spec.trial)
        self.kinds = {path: _distribution(dimension) for path, dimension in spec.space.items()}
        self.grids = {path: dimension.grid() for path, dimension in spec.space.items()}
        self.optimum = {path: random.Random(path).uniform(0.25, 0.75) for path in spec.space}
        self.seen: list[list[float]] = [[] for _ in range(spec.study.milestones)]
        self.free = [BEGAN, BEGAN]

    def make(self, id: int, study: int, number: int) -> _Made:
        rng, spec = self.rng, self.spec
        places: dict[str, float] = {}

        def choose(path: str, dimension: Dimension) -> Value:
            places[path] = self._place(path, number)
            return _value(dimension, self.grids[path], places[path])

        point = spec.walk(choose)
        miss = sum((place - self.optimum[path]) ** 2 for path, place in places.items()) / max(1, len(places))
        state, reason, milestones = self._fate(point, FLOOR + 1.6 * miss)
        facts = self._facts(point, len(milestones), state)
        facts |= {"outcome": state.value, "reason": reason}
        system: dict[str, Value] = {}
        if number >= 10 and places:
            system["tpe:relative_params:0"] = json.dumps(dict(point))
        if state is State.INFEASIBLE:
            facts["infeasible"] = True
            system["constraints:fits"] = 1.0
        slot = self.free.index(min(self.free))
        began = self.free[slot]
        ended = began + timedelta(seconds=float(facts.get("seconds") or 0.0) + rng.uniform(0.2, 2.0))
        self.free[slot] = ended
        kinds = {path: self.kinds[path] for path in point}
        return _Made(id, study, number, state, began, ended, point, kinds, milestones, facts, system)

    def _place(self, path: str, number: int) -> float:
        """Where in the dimension, from 0 to 1: anywhere at first, later often near the best."""
        if self.rng.random() > 0.8 * number / self.total:
            return self.rng.random()
        return min(1.0, max(0.0, self.rng.gauss(self.optimum[path], 0.15)))

    def _fate(self, point: Point, floor: float) -> tuple[State, str, tuple[float, ...]]:
        values = {**self.base, **point}
        for forbidden in self.rules:
            if forbidden.holds(values.__getitem__):
                seen = ", ".join(f"{name} = {values[name]}" for name in forbidden.names)
                return State.INFEASIBLE, f"forbidden by {forbidden.text!r}: {seen}", ()
        total, luck, found = self.spec.study.milestones, self.rng.random(), list[float]()
        broken = self.rng.randrange(1, total + 1) if luck < 0.08 else None
        offset = self.rng.gauss(0, 0.006)  # what the seed does
        for k in range(1, total + 1):
            if k == broken and luck < 0.04:
                return State.FAILED, f"RuntimeError: simulated failure before milestone {k}", tuple(found)
            if k == broken:
                return State.DIVERGED, f"training loss nan at step {391 * k}", tuple(found)
            loss = floor + offset + (START - floor) * math.exp(-5 * (k / total) ** 0.7) + self.rng.gauss(0, 0.003)
            found.append(loss)
            known = self.seen[k - 1]
            bisect.insort(known, loss)
            if k < total and len(known) > 5 and loss > known[len(known) * 2 // 3]:
                return State.PRUNED, f"stopped by the pruner at milestone {k}", tuple(found)
        return State.COMPLETE, "the budget is spent", tuple(found)

    def _facts(self, point: Point, reached: int, state: State) -> dict[str, Value]:
        if state is State.INFEASIBLE:  # refused before a worker saw it
            return {}
        values = {**self.base, **point}
        depth, width = int(values["model.depth"] or 1), int(values["model.width"] or 1)
        parameters = 12 * depth * width**2 + 2 * 1024 * width
        tokens = int(self.spec.trial.budget.amount * reached / self.spec.study.milestones)
        of_step = int(values["batch"] or 1) * int(values["data.context"] or 1)
        facts: dict[str, Value] = {
            "seed": 1,
            "parameters": parameters,
            "flops_per_token": 6 * parameters,
            "vocab": 1024,
            "data_fingerprint": "simulated",
            "tokenizer_fingerprint": "simulated",
            "device": "simulated",
            "device_kind": "simulated",
            "threads": 1,
            "precision": "fp32",
            "compile": False,
            "accumulate": 1,
            "code_version": "simulated",
            "spec_hash": digest(dict(point))[:16],
            "steps": tokens // of_step,
            "tokens": tokens,
            "flops": 6.0 * parameters * tokens,
            "seconds": tokens * (2e-6 + parameters * 3e-11) * self.rng.uniform(0.95, 1.05),
            "mlflow_run": f"{self.rng.getrandbits(128):032x}",
        }
        if state is State.PRUNED:
            facts["stopped_at"] = reached
        if reached and state is not State.FAILED:
            facts["checkpoint"] = f"runs/{self.spec.name}/simulated/checkpoints/step-{tokens // of_step:08}"
            facts["checkpoint_sha256"] = f"{self.rng.getrandbits(256):064x}"
        return facts


def _value(dimension: Dimension, grid: tuple[Value, ...], place: float) -> Value:
    """The value at ``place`` (0 .. 1) of a dimension, on its own scale."""
    if grid:
        return grid[min(len(grid) - 1, int(place * len(grid)))]
    assert isinstance(dimension, FloatDim)  # every other kind has a grid
    low, high = dimension.low, dimension.high
    value = low * (high / low) ** place if dimension.log else low + (high - low) * place
    return min(high, max(low, value))  # the last digit may have gone over the end


def _distribution(dimension: Dimension) -> BaseDistribution:
    """What Optuna stores with a value that it suggested."""
    match dimension:
        case FloatDim():
            return FloatDistribution(dimension.low, dimension.high, step=dimension.step, log=dimension.log)
        case IntDim():
            return IntDistribution(dimension.low, dimension.high, step=dimension.step or 1, log=dimension.log)
        case ChoiceDim():
            return CategoricalDistribution(dimension.choice)
