"""What beginning with a trained model is worth: on another text against a fresh model, and for a student of half its
depth. Studies of the platform by its own command, as a user runs them; nothing here knows torch.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from tuner.bench.lab import workplace
from tuner.search.history import StudyRecord, read_study
from tuner.search.store.storage import open_storage
from tuner.search.store.url import DEFAULT_URL
from tuner.spec.budget import Budget
from tuner.spec.errors import TunerError

MILESTONES = 10
DISTIL = {"weight": 0.5, "temperature": 2.0}


def compare_descent(
    first: Path | None, second: Path, depth: int, width: int, budgets: tuple[str, str], seeds: int, students: bool
) -> None:
    """Print validation losses in nats a token, means of ``seeds`` with their deviation: the ancestor's on the text
    ``first`` (None: the standard library's source); on ``second`` those of models that go on from it and of fresh ones,
    after a fifth of the second budget and at its end; with ``students``, on ``first`` those of half-depth ones of the
    first budget: fresh, begun with the ancestor's layers, and taught by it as well.

    Raises:
        TunerError: a study does not end.
    """
    long, short = (Budget.parse(text) for text in budgets)
    fifth = str(Budget(short.amount / 5, short.unit))
    old = {"source": "stdlib"} if first is None else {"source": "text", "path": str(first)}
    new = {"source": "text", "path": str(second)}
    model, descent = {"depth": depth, "width": width}, {"source": "ancestor/0"}
    with workplace():
        value = study("ancestor", old, model, str(long), 1).trials[0].milestones[MILESTONES]
        print(f"ancestor: {depth} x {width}, {long} of {first or 'the standard library'}: {value:.4f}", flush=True)
        on = study("on", new, {}, str(short), seeds, init=descent)
        kept: dict[str, str] = on.spec["trial"]["data"]["tokenizer"]
        quick = study("quick", new, {}, fifth, seeds, init=descent)
        fresh = study("fresh", new, model, str(short), seeds, tokenizer=kept)
        print(f"on {second.name}, {short}: after a fifth, at the end", flush=True)
        for name, record in (("going on from it", on), ("fresh", fresh)):
            print(f"  {name:32} {mean(record, MILESTONES // 5)}   {mean(record, MILESTONES)}", flush=True)
        print(f"  {'going on, for a fifth in all':32} {mean(quick, MILESTONES)}", flush=True)
        if not students:
            return
        half = {"depth": max(1, depth // 2)}
        print(f"students of {half['depth']} layers, {long} of the first text; the teacher has {value:.4f}", flush=True)
        layers = {**descent, "take": "part"}
        alone = study("alone", old, {**model, **half}, str(long), seeds, tokenizer=kept)
        taken = study("taken", old, half, str(long), seeds, init=layers)
        taught = study("taught", old, half, str(long), seeds, init=layers, distil=DISTIL)
        for name, record in (("fresh", alone), ("its layers", taken), ("its layers, and taught by it", taught)):
            print(f"  {name:32} {mean(record, MILESTONES)}", flush=True)


def study(
    name: str,
    text: Mapping[str, object],
    model: Mapping[str, int],
    budget: str,
    seeds: int,
    init: dict[str, str] | None = None,
    tokenizer: dict[str, str] | None = None,
    distil: Mapping[str, float] | None = None,
    compress: Mapping[str, float] | None = None,
    settings: Mapping[str, float | str] | None = None,
    task: str = "generate",
    metric: str = "val_loss",
    milestones: int = MILESTONES,
) -> StudyRecord:
    """Run a study to its end and read it; ``settings`` are what else is set, by path.

    Raises:
        TunerError: it does not end.
    """
    data: dict[str, object] = {"context": 64, "val_tokens": 65_536, **text}
    if init is None:
        data["tokenizer"] = tokenizer or {"kind": "bpe", "vocab": 1024}
    tree = {
        "name": name,
        "trial": {
            "task": task,
            "data": data,
            "model": dict(model),
            "optim": {"distil": dict(distil)} if distil else {},
            **({"compress": dict(compress)} if compress else {}),
            "batch": 12,
            "precision": "fp32",
            "budget": budget,
            **({} if init is None else {"init": init}),
        },
        "space": {"seed": {"choice": list(range(1, max(seeds, 2) + 1))}},
        "study": {
            "trials": seeds,
            "milestones": milestones,
            "metric": metric,
            "sampler": "grid",
            "pruner": "none",
            "prior": "none",
            "samples": 0,
        },
    }
    Path(f"{name}.yaml").write_text(yaml.safe_dump(tree))
    words = [sys.executable, "-m", "tuner.study", f"{name}.yaml"]
    for path, value in (settings or {}).items():
        words += ["--set", f"trial.{path}={value}"]
    ended = subprocess.run(words, capture_output=True, text=True)
    if ended.returncode:
        raise TunerError(f"study {name} ended with {ended.returncode}: {ended.stderr.strip()[-500:]}")
    return read_study(open_storage(DEFAULT_URL), name)


def mean(record: StudyRecord, milestone: int) -> str:
    """The mean of the trials' losses there, with their deviation."""
    values = [trial.milestones[milestone] for trial in record.trials]
    spread = f" (+- {statistics.stdev(values):.4f})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{spread}"
