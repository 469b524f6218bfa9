"""The study that makes one trained model smaller, as YAML to run or to edit: what may be left of it, and how.
Text only; it is run like any other study.
"""

from __future__ import annotations

import math

import yaml

from tuner.spec.budget import Budget
from tuner.spec.parts.model import ModelSpec
from tuner.spec.trial import TrialSpec

SHARE = 0.2
"""Of what the model was trained with: a trial's budget, in which what is left of it recovers."""


def compress_yaml(name: str, source: str, trial: TrialSpec) -> str:
    """The study ``name`` of what ``source`` can be made into: ``trial`` is the one that it comes from."""
    data = trial.data.model_dump(mode="json", exclude_defaults=True, exclude={"tokenizer", "context"})
    names = trial.task == "classify"
    told = {
        **({"task": "classify", "classify": trial.classify.model_dump()} if names else {}),
        "init": {"source": source, "take": "part"},
        "model": {"width": trial.model.width, "head_width": trial.model.head_size},  # so that fewer heads are possible
        "data": data,
        "optim": {"kind": trial.optim.kind, **({} if names else {"distil": {"weight": 0.5}})},
        "batch": trial.batch,
        "budget": str(Budget(trial.budget.amount * SHARE, trial.budget.unit)),
    }
    space = {
        **_parts(trial.model),
        "compress.bits": {"choice": [32, 8, 4]},
        "compress.sparsity": {"choice": [0.0, 0.5]},
    }
    rates = {"optim.lr": trial.optim.lr}
    if trial.optim.kind == "muon":
        rates["optim.muon.lr"] = trial.optim.muon.lr
    for path, rate in rates.items():
        space[path] = {"float": [float(f"{rate * share:.2g}") for share in (0.05, 1.0)], "log": True}
    study = {"trials": 24, "against": "bytes"}
    return (
        f"# What {source} can be made into, and what that costs. Edit it as you like; the same command goes on.\n"
        + yaml.safe_dump({"name": name, "trial": told}, sort_keys=False, allow_unicode=True)
        + "space:\n"
        + "".join(f"  {path}: {_line(dimension)}\n" for path, dimension in space.items())
        + f"study: {_line(study)}\n"
    )


def _parts(model: ModelSpec) -> dict[str, object]:
    """Layers, neurons and heads: from half of each to all."""
    found: dict[str, object] = {}
    if model.depth > 1:
        found["model.depth"] = {"int": [math.ceil(model.depth / 2), model.depth]}
    found["model.hidden"] = {"choice": sorted({model.hidden_size * part // 4 for part in (2, 3, 4)})}
    if model.head_count > 1 and model.kv_head_count == model.head_count:
        found["model.heads"] = {"choice": sorted({math.ceil(model.head_count * part / 4) for part in (2, 3, 4)})}
    return found


def _line(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000).strip()
