"""Trials beside each other: what differs between them, how far they are apart, whether that may be said at all.
Records and tables in, tables and sentences out.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from tuner.analysis.study.frame import MILESTONE
from tuner.search.history import StudyRecord, TrialRecord
from tuner.spec.errors import StoreError
from tuner.spec.records import Value

FACTS = (
    "parameters", "steps", "tokens", "flops", "seconds", "seed", "vocab", "precision", "compile", "accumulate",
    "generalization_gap", "bytes", "latency_ms", "threads", "device_kind", "code_version", "data_fingerprint",
    "tokenizer_fingerprint",
)  # fmt: skip
"""Facts of a trial that are compared; ids, hashes and folders always differ."""

_TEXT, _TOKENIZER = "data_fingerprint", "tokenizer_fingerprint"


def differences(record: StudyRecord, numbers: Sequence[int], base: int) -> pd.DataFrame:
    """One row for each path, fact or ``state`` whose values are not all equal: ``path``, then a column for each
    trial, named by its number as text, ``base`` first. None where inactive or unknown. The point comes first.

    Raises:
        StoreError: the study has no such trial.
    """
    order = list(dict.fromkeys([base, *numbers]))
    trials = [record.find(number) for number in order]
    points = dict.fromkeys([*record.spec["space"], *(path for trial in trials for path in trial.point)])
    rows: dict[str, list[Value]] = {path: [trial.point.get(path) for trial in trials] for path in points}
    rows["state"] = [trial.state for trial in trials]
    for name in FACTS:
        rows.setdefault(name, [trial.facts.get(name) for trial in trials])
    differ = {path: values for path, values in rows.items() if any(not _same(values[0], value) for value in values)}
    columns = {str(number): [values[i] for values in differ.values()] for i, number in enumerate(order)}
    return pd.DataFrame({"path": list(differ), **columns}, dtype=object)


def deltas(frame: pd.DataFrame, base: int) -> pd.DataFrame:
    """``number``, ``value`` and each ``m.<k>`` of every row minus those of ``base``; below 0 is better than it.

    Raises:
        StoreError: the base is not in the frame.
    """
    ours = frame[frame["number"] == base]
    if ours.empty:
        raise StoreError(f"trial {base} is not among those compared; choose a base that is.")
    columns = ["value", *(name for name in frame.columns if name.startswith(MILESTONE))]
    return pd.concat([frame["number"], frame[columns] - ours[columns].iloc[0]], axis=1)


def comparable(record: StudyRecord, numbers: Sequence[int]) -> str:
    """Why the losses of these trials do not compare, in a sentence; empty where they do, or where nothing is known.

    In bits a byte, or of classifiers, trials with other tokenizers compare (the fingerprint of the data has the
    tokenizer in it).

    Raises:
        StoreError: the study has no such trial.
    """
    trials = [record.find(number) for number in dict.fromkeys(numbers)]
    tokenizers, texts = _apart(trials, _TOKENIZER), _apart(trials, _TEXT)
    if tokenizers and (record.metric == "val_bpb" or record.task == "classify"):
        return ""
    for pair, what in ((tokenizers, "other tokenizers"), (texts, "other data")):
        if pair:
            (one, mark), (other, second) = pair
            return (
                f"Losses of trials {one} and {other} do not compare: they were trained on {what} "
                f"({mark} and {second}); compare each with trials of its own."
            )
    return ""


def _apart(trials: Sequence[TrialRecord], fact: str) -> tuple[tuple[int, Value], tuple[int, Value]] | None:
    """The first two trials in which a known fact differs."""
    known = [(trial.number, trial.facts[fact]) for trial in trials if trial.facts.get(fact) is not None]
    other = next((pair for pair in known if pair[1] != known[0][1]), None)
    return None if other is None else (known[0], other)


def _same(one: Value, other: Value) -> bool:
    """Equal and of one kind (true is not 1); NaN is NaN."""
    return isinstance(one, bool) == isinstance(other, bool) and (one == other or (one != one and other != other))
