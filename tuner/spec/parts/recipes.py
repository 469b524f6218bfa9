"""Recipes: named sets of choices for the fields where two good ways of building a GPT differ.
A recipe fills fields that are not written; it adds no field, and no code elsewhere asks for its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.spec.parts.model import ModelSpec
from tuner.spec.parts.optim import OptimSpec
from tuner.spec.parts.scalars import Frozen
from tuner.spec.records import Value

_CLASSIC: Mapping[str, Value] = {
    "model.positions": "learned",
    "model.norm": "layer",
    "model.activation": "gelu",
    "model.head": "tied",
    "model.qk_norm": False,
    "model.zero_init": False,
    "model.conv": 0,
    "model.smear": False,
    "optim.kind": "adamw",
    "optim.lr": 1e-3,
    "optim.warmup": 0.05,
    "optim.floor": 0.1,
}
"""nanoGPT's block and its optimizer, which are GPT-2's."""

_SECTIONS: Mapping[str, type[Frozen]] = {"model": ModelSpec, "optim": OptimSpec}


def _default(path: str) -> Value:
    section, name = path.split(".")
    value: Value = _SECTIONS[section].model_fields[name].default
    return value


RECIPES: Mapping[str, Mapping[str, Value]] = {
    "modern": {path: _default(path) for path in _CLASSIC},
    "classic": _CLASSIC,
}
"""Name -> dotted path -> value; every recipe sets the same fields, ``modern`` to their defaults."""


def beneath(data: Mapping[str, Any], recipe: str) -> dict[str, Any]:
    """The data of a trial with the recipe's choices where it says nothing itself."""
    filled = dict(data)
    for path, value in RECIPES[recipe].items():
        section, name = path.split(".")
        written = filled.get(section, {})
        if isinstance(written, Mapping) and name not in written:
            filled[section] = {**written, name: value}
    return filled


def over(data: Mapping[str, Any], recipe: str) -> dict[str, Any]:
    """The data of a trial with the recipe's choices in place of its own."""
    changed = dict(data)
    for path, value in RECIPES[recipe].items():
        section, name = path.split(".")
        changed[section] = {**changed[section], name: value}
    return changed


def bare(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a trial without what a recipe sets."""
    return {
        section: {name: value for name, value in fields.items() if f"{section}.{name}" not in _CLASSIC}
        if isinstance(fields, Mapping)
        else fields
        for section, fields in data.items()
    }
