"""A study as tables: rows ready for JSON, a screen or a page; counts and the best few.
Reads the store through tuner.search; draws nothing and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tuner.search.history import StudyRecord, TrialRecord, read_study, study_names
from tuner.search.repeats import trained_as as trained_as
from tuner.search.store.storage import open_storage

STATE_ORDER = ("complete", "pruned", "infeasible", "diverged", "failed", "running", "queued")


def open_study(url: str, name: str) -> StudyRecord:
    """Read one study of the store at ``url``.

    Raises:
        StoreError: no store, no such study.
    """
    return read_study(open_storage(url), name)


def studies(url: str) -> list[str]:
    """Names of the studies in the store at ``url``.

    Raises:
        StoreError: no store.
    """
    return study_names(open_storage(url))


def counts(record: StudyRecord) -> dict[str, int]:
    """State -> trials, in a fixed order, only states that occur."""
    found = Counter(trial.state for trial in record.trials)
    return {state: found[state] for state in STATE_ORDER if found[state]}


def row(trial: TrialRecord) -> dict[str, Any]:
    """One trial as JSON-ready data."""
    return {
        "number": trial.number,
        "state": trial.state,
        "reason": trial.reason,
        "value": trial.value,
        "milestones": {str(k): v for k, v in sorted(trial.milestones.items())},
        "point": dict(trial.point),
        "started": trial.started.isoformat() if trial.started else None,
        "ended": trial.ended.isoformat() if trial.ended else None,
        "facts": dict(trial.facts),
    }


def rows(record: StudyRecord) -> list[dict[str, Any]]:
    """Every trial: ranked ones best first, then the others by number."""
    ranked = record.ranked()
    numbers = {trial.number for trial in ranked}
    return [row(trial) for trial in [*ranked, *(t for t in record.trials if t.number not in numbers)]]
