"""One slim table a study: one row a trial, its state, what it spent, its point, its value at every milestone.
Columns out, nothing judged: ranking, noise and progress are worked out from this table in the rooms beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import pandas as pd

from tuner.analysis import words
from tuner.search.history import IMPORTED, StudyRecord, TrialRecord
from tuner.search.repeats import REPEAT
from tuner.spec.budget import Budget
from tuner.spec.records import Value

SPENT = ("seconds", "tokens", "flops", "steps", "parameters", "seed", "latency_ms", "bytes")
"""Facts of a trial that are numbers, each a float column; NaN where unknown."""

POINT, MILESTONE = "point.", "m."
"""How the columns of searched paths and of milestones begin."""


def milestones(record: StudyRecord) -> int:
    """K: into how many equal shares the study divides the budget of a trial."""
    return int(record.spec["study"]["milestones"])


def budget_at(record: StudyRecord, k: int) -> str:
    """What a trial has spent at milestone ``k``, in words: ``267k tokens``."""
    return words.budget(_budget(record), k / milestones(record))


def frame(record: StudyRecord) -> pd.DataFrame:
    """One row a trial, by number.

    Columns: ``number`` (int), ``state``, ``reason`` (str), ``value`` (float, NaN unless complete), ``reached`` (int,
    the last milestone, 0 for none), ``last`` (float, the value there), ``seconds`` (training), ``tokens``, ``flops``,
    ``steps``, ``parameters``, ``seed``, ``latency_ms`` (a generated token), ``bytes`` (the weights; float, NaN
    unknown), ``started``, ``ended`` (datetime64, NaT unknown), ``run``, ``checkpoint`` (str or None), ``imported``
    (bool: of another study, which it cost), ``repeat`` (bool: of the best, once the search had ended);
    ``point.<path>`` for each searched path, numbers where all its values are numbers, missing where inactive;
    ``m.<k>`` (float, NaN where not reached) for each milestone 1 .. K.

    ``attrs`` holds ``milestones`` (K) and ``budget`` (of a trial, as text), for words about them.
    """
    trials = sorted(record.trials, key=lambda trial: trial.number)
    at, reached = _reports(trials, milestones(record))
    last = np.where(reached > 0, at[np.arange(len(trials)), reached - 1], np.nan)
    columns = {
        "number": np.array([trial.number for trial in trials], dtype=np.int64),
        "state": _texts(trial.state for trial in trials),
        "reason": _texts(trial.reason for trial in trials),
        "value": _numbers(trial.value for trial in trials),
        "reached": reached,
        "last": last,
        **{name: _numbers(trial.facts.get(name) for trial in trials) for name in SPENT},
        "started": np.array([trial.started for trial in trials], dtype="datetime64[us]"),
        "ended": np.array([trial.ended for trial in trials], dtype="datetime64[us]"),
        "run": _texts(trial.facts.get("mlflow_run") for trial in trials),
        "checkpoint": _texts(trial.facts.get("checkpoint") for trial in trials),
        "imported": np.array([IMPORTED in trial.facts for trial in trials], dtype=bool),
        "repeat": np.array([REPEAT in trial.facts for trial in trials], dtype=bool),
    }
    for path in dict.fromkeys([*record.spec["space"], *(path for trial in trials for path in trial.point)]):
        columns[POINT + path] = _settings([trial.point.get(path) for trial in trials])
    shares = pd.DataFrame(at, columns=[f"{MILESTONE}{k + 1}" for k in range(at.shape[1])])
    table = pd.concat([pd.DataFrame(columns), shares], axis=1)
    table.attrs = {"milestones": at.shape[1], "budget": str(_budget(record))}
    return table


def at_milestone(frame: pd.DataFrame, milestone: int | None) -> np.ndarray:
    """The value of each row at ``milestone``, or at the full budget of complete ones where it is None.

    NaN where it was not reached, and where the loss there was not finite: neither can be ranked.
    """
    column = frame["value"] if milestone is None else frame[f"{MILESTONE}{milestone}"]
    values = column.to_numpy(dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def budget_in(frame: pd.DataFrame, milestone: int | None) -> str:
    """What a trial has spent at ``milestone``, or in all, in words; from the frame alone."""
    share = 1.0 if milestone is None else milestone / frame.attrs["milestones"]
    return words.budget(Budget.parse(frame.attrs["budget"]), share)


def paths(frame: pd.DataFrame) -> list[str]:
    """The searched paths, in the order of the space."""
    return [name.removeprefix(POINT) for name in frame.columns if name.startswith(POINT)]


def numeric(frame: pd.DataFrame, path: str) -> np.ndarray | None:
    """The path's values as floats, NaN where inactive; None where they are no numbers."""
    column = frame[POINT + path]
    return column.to_numpy(dtype=np.float64) if column.dtype.kind in "if" else None


def _budget(record: StudyRecord) -> Budget:
    return Budget.parse(record.spec["trial"]["budget"])


def _reports(trials: Sequence[TrialRecord], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Trials x milestones, NaN where none was reported; and the last milestone of each trial, 0 for none."""
    rows = np.repeat(np.arange(len(trials)), [len(trial.milestones) for trial in trials])
    ks = np.fromiter(chain.from_iterable(trial.milestones for trial in trials), dtype=np.int64)
    values = chain.from_iterable(trial.milestones.values() for trial in trials)
    at, reached = np.full((len(trials), count), np.nan), np.zeros(len(trials), dtype=np.int64)
    at[rows, ks - 1] = np.fromiter(values, dtype=np.float64)
    np.maximum.at(reached, rows, ks)
    return at, reached


def _texts(values: Iterable[Value]) -> pd.Series:
    return pd.Series([value if value is None else str(value) for value in values], dtype=object)


def _numbers(values: Iterable[Value]) -> np.ndarray:
    found = [
        value if isinstance(value, int | float) and value is not True and value is not False else math.nan
        for value in values
    ]
    return np.array(found, dtype=np.float64)


def _settings(values: Sequence[Value]) -> pd.Series | np.ndarray:
    if all(type(value) is int for value in values):
        return np.array(values, dtype=np.int64)
    if all(value is None or _is_number(value) for value in values):
        return _numbers(values)
    return pd.Series(values, dtype=object)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
