"""What making a trained model smaller costs: bits, zeros, heads and neurons, layers; each with the loss it ends at.
Studies of the platform by its own command, as a user runs them; nothing here knows torch.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.bench.lab import measured, workplace
from tuner.bench.learning.descend import DISTIL, MILESTONES, mean, study
from tuner.search.history import StudyRecord
from tuner.spec.budget import Budget

WAYS: Mapping[str, Mapping[str, Any]] = {
    "nothing, trained on": {},
    "8 bits": {"compress": {"bits": 8}},
    "8 bits, computed in": {"compress": {"bits": 8, "compute": "int8"}},
    "4 bits": {"compress": {"bits": 4}},
    "4 bits, seen from the start": {"compress": {"bits": 4, "round_from": 0.0}},
    "half of the weights zero": {"compress": {"sparsity": 0.5}},
    "half zero, 8 bits": {"compress": {"sparsity": 0.5, "bits": 8}},
    "8 bits seen first, then half zero": {
        "compress": {"sparsity": 0.5, "prune_from": 0.3, "bits": 8, "round_from": 0.0}
    },
    "half of heads and neurons": {"half": ("heads", "hidden"), "distil": DISTIL},
    "half of the layers, taught": {"half": ("depth",), "distil": DISTIL},
    "all halves, half zero, 8 bits": {
        "half": ("depth", "heads", "hidden"),
        "distil": DISTIL,
        "compress": {"sparsity": 0.5, "bits": 8},
    },
}
"""What is done, in the words of a trial; ``half``: of which sizes of the model half is taken."""

RATES = {"optim.lr": 1e-3, "optim.muon.lr": 2e-3}
"""What has learned already is to be mended, not taught anew: a third to a fifth of the rates it was trained with."""


def compare_sizes(text: Path | None, depth: int, width: int, budgets: tuple[str, str], seeds: int) -> None:
    """Print for each way the validation loss (nats a token, mean of ``seeds`` with its deviation), its distance from
    the model as it was, the bytes of the file and milliseconds a token; and the loss of a fresh model of half the depth
    and the first budget. Ways that take a part have the first budget, others the second.

    Raises:
        TunerError: a study does not end.
    """
    long, short = (str(Budget.parse(text)) for text in budgets)
    source = {"source": "stdlib"} if text is None else {"source": "text", "path": str(text)}
    heads, model = 2 * max(1, width // 64), {"depth": depth, "width": width}
    sizes = {"depth": depth, "heads": heads, "hidden": 4 * width}
    with workplace():
        before = study("ancestor", source, {**model, "heads": heads}, long, 1)
        print(f"{depth} x {width}, {long} of {text or 'the standard library'}; {seeds} seeds", flush=True)
        print(f"{'':32} val_loss, against before; bytes; ms a token", flush=True)
        _tell("before", before, before)
        timed: dict[str, StudyRecord] = {}
        for name, way in WAYS.items():
            half = {size: max(1, sizes[size] // 2) for size in way.get("half", ())}
            if "heads" in half:
                half |= {"width": width, "head_width": width // heads}
            init = {"source": "ancestor/0", **({"take": "part"} if half else {})}
            told = study(
                name.replace(" ", "-").replace(",", ""),
                source,
                half,
                long if half else short,
                seeds,
                init=init,
                distil=way.get("distil"),
                compress=way.get("compress"),
                settings=None if half else RATES,
            )
            _tell(name, told, before)
            if half or "compute" in way.get("compress", {}):
                timed[name] = told
        kept = before.spec["trial"]["data"]["tokenizer"]
        less = {**model, "heads": heads, "depth": max(1, depth // 2)}
        fresh = study("fresh", source, less, long, seeds, tokenizer=kept)
        _tell("fresh, of half the layers", fresh, before)
        _pace({"before": before, **timed})


TURNS = 15


def _pace(records: Mapping[str, StudyRecord]) -> None:
    """What the shapes cost a generated token, one after the other and again: trials beside each other disturb the
    figures above.
    """
    asked = {"folders": [str(record.trials[0].facts["checkpoint"]) for record in records.values()], "turns": TURNS}
    print(f"{'ms a token, measured in turns':32} median, of before (least to most of {TURNS} turns)", flush=True)
    times: list[list[float]] = measured("folders", asked)
    for name, each in zip(records, times, strict=True):
        shares = sorted(one / base for one, base in zip(each, times[0], strict=True))
        print(
            f"{name:32} {statistics.median(each):.3f}, {statistics.median(shares):.2f} x "
            f"({shares[0]:.2f} to {shares[-1]:.2f})",
            flush=True,
        )


def _tell(name: str, record: StudyRecord, before: StudyRecord) -> None:
    value = before.trials[0].milestones[MILESTONES]
    found = statistics.fmean(trial.milestones[MILESTONES] for trial in record.trials)

    def of(study: StudyRecord, fact: str) -> float:
        return statistics.median(float(trial.facts[fact] or 0) for trial in study.trials)

    took, was = of(record, "bytes"), of(before, "bytes")
    pace, paced = of(record, "latency_ms"), of(before, "latency_ms")
    print(
        f"{name:32} {mean(record, MILESTONES)} {found - value:+.4f}; {took / 1e6:.2f} MB, {took / was:.2f} x; "
        f"{pace:.2f} ms, {pace / paced:.2f} x",
        flush=True,
    )
