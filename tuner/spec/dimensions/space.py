"""The space: the dimensions that may vary, each named by its dotted path in the trial, and the walk.
Which values are possible, never which are chosen: no sampler and no randomness of its own lives here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, RootModel

from tuner.spec.dimensions.dimension import AnyDimension, ChoiceDim, Dimension, FloatDim, in_words
from tuner.spec.dimensions.fields import LEAVES, Leaf, describe, unknown
from tuner.spec.errors import Mistake, Mistakes, said
from tuner.spec.parts.recipes import RECIPES
from tuner.spec.records import Value

RECIPE = "recipe"
"""The path whose value decides what other fields are fixed at; it comes first in every walk."""

_TRIALS_DIFFER = "trials would no longer be comparable"
NOT_SEARCHED: Mapping[str, str] = {
    "task": f"it decides what a trial is to learn: {_TRIALS_DIFFER}",
    "devices": "what a trial runs on is the same for all; it changes no result",
    "strategy": "what a trial runs on is the same for all; it changes no result",
    "budget": "every trial of a study gets the same budget, else the largest budget wins",
    **{
        f"init.{name}": "the trials of a study begin with one model, in one way; make a study for each"
        for name in ("source", "sha256", "folder", "take")
    },
    "data.val_tokens": f"it changes what the metric is measured on: {_TRIALS_DIFFER}",
} | {
    f"data.{name}": f"it changes which text is read: {_TRIALS_DIFFER}"
    for name in ("source", "path", "column", "label", "name", "revision", "subset", "part", "cap", "split")
}
"""path -> why it may not be searched."""


def _settle(dimensions: dict[str, Dimension]) -> dict[str, Dimension]:
    """Every value as its field's own type, and conditions before what depends on them."""
    found: list[Mistake] = []
    typed: dict[str, Dimension] = {}
    for path, dimension in dimensions.items():
        if path not in LEAVES:
            found.append(Mistake((path,), unknown(path), key=True))
        elif path in NOT_SEARCHED:
            found.append(Mistake((path,), f"{path} may not be searched: {NOT_SEARCHED[path]}", key=True))
        elif not LEAVES[path].kinds:
            takes = describe(LEAVES[path].annotation)
            found.append(Mistake((path,), f"{path} takes {takes}, which is no dimension to search", key=True))
        else:
            typed[path] = _typed(LEAVES[path], dimension, found)
    for path, dimension in typed.items():
        when = {name: _condition(path, name, values, typed, found) for name, values in dimension.when.items()}
        typed[path] = dimension.model_copy(update={"when": when})
    if found:
        raise Mistakes(found)
    return _ordered(typed)


def _typed(leaf: Leaf, dimension: Dimension, found: list[Mistake]) -> Dimension:
    if isinstance(dimension, ChoiceDim):
        if not dimension.choice:
            found.append(Mistake((leaf.path, "choice"), "there is nothing to choose from; list two values or more"))
        values: dict[tuple[type, Value], Value] = {}
        for index, raw in enumerate(dimension.choice):
            where = (leaf.path, "choice", index)
            before = len(found)
            value = _read(leaf, raw, where, found)
            if len(found) == before and (type(value), value) in values:
                found.append(Mistake(where, f"{said(value)} is listed twice; remove one"))
            values[type(value), value] = value
        return dimension.model_copy(update={"choice": tuple(values.values())})
    name = "float" if isinstance(dimension, FloatDim) else "int"
    if not leaf.kinds & {int, float}:
        takes = describe(leaf.annotation)
        found.append(Mistake((leaf.path, name), f"{leaf.path} takes {takes}; use choice: [...]", key=True))
    elif name == "float" and float not in leaf.kinds:
        found.append(Mistake((leaf.path, name), f"{leaf.path} takes whole numbers; use int: [low, high]", key=True))
    else:
        for index, end in enumerate((dimension.low, dimension.high)):
            _read(leaf, end, (leaf.path, name, index), found)
    return dimension


def _read(leaf: Leaf, raw: object, where: tuple[str | int, ...], found: list[Mistake]) -> Value:
    try:
        return leaf.read(raw)
    except ValueError as error:
        found.append(Mistake(where, str(error).rstrip(".")))
        return None


def _condition(
    path: str, name: str, raw: tuple[Value, ...], dimensions: Mapping[str, Dimension], found: list[Mistake]
) -> tuple[Value, ...]:
    where: tuple[str | int, ...] = (path, "when", name)
    if name not in LEAVES:
        found.append(Mistake(where, unknown(name), key=True))
    elif name == path:
        found.append(Mistake(where, f"{path} cannot depend on itself", key=True))
    elif not LEAVES[name].kinds:
        found.append(Mistake(where, f"{name} is not a single value, so nothing can depend on it", key=True))
    elif not raw:
        found.append(Mistake(where, "there is no value listed, so the dimension would never be active"))
    else:
        before = len(found)
        values = tuple(_read(LEAVES[name], value, where, found) for value in raw)
        if name in dimensions and len(found) == before:
            for value in values:
                if not dimensions[name].holds(value):
                    takes = in_words(dimensions[name])
                    found.append(Mistake(where, f"{name} never takes {said(value)}; it varies over {takes}"))
        return values
    return raw


def _ordered(dimensions: dict[str, Dimension]) -> dict[str, Dimension]:
    order: dict[str, Dimension] = {}

    def visit(path: str, above: tuple[str, ...]) -> None:
        if path in above:
            circle = " -> ".join((*above[above.index(path) :], path))
            raise Mistakes([Mistake((path, "when"), f"the conditions go in a circle: {circle}; remove one")])
        if path not in order and path in dimensions:
            for condition in dimensions[path].when:
                visit(condition, (*above, path))
            order[path] = dimensions[path]

    for path in sorted(dimensions, key=lambda path: path != RECIPE):
        visit(path, ())
    return order


class Space(RootModel[Annotated[dict[str, AnyDimension], AfterValidator(_settle)]]):
    """The dimensions by dotted path, each after those that its ``when`` names."""

    model_config = ConfigDict(frozen=True)

    def __len__(self) -> int:
        return len(self.root)

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        return iter(self.root)

    def __contains__(self, path: object) -> bool:
        return path in self.root

    def __getitem__(self, path: str) -> Dimension:
        return self.root[path]

    def items(self) -> Iterator[tuple[str, Dimension]]:
        """Path and dimension, conditions before what depends on them."""
        return iter(self.root.items())

    def walk(self, choose: Callable[[str, Dimension], Value], base: Mapping[str, Value]) -> dict[str, Value]:
        """A point: ``choose`` is called for each active dimension, in order, and for no other.

        ``base`` gives the fixed fields (``values_of(trial)``) that conditions may name. A dimension whose
        condition names an inactive dimension is inactive.
        """
        point: dict[str, Value] = {}
        for path, dimension in self.root.items():
            if all(self._met(name, values, point, base) for name, values in dimension.when.items()):
                point[path] = choose(path, dimension)
                if path == RECIPE:
                    base = {**base, **RECIPES[str(point[path])]}
        return point

    def _met(self, name: str, values: tuple[Value, ...], point: Mapping[str, Value], base: Mapping[str, Value]) -> bool:
        if name in self.root and name not in point:
            return False
        value = point[name] if name in self.root else base[name]
        return any(_same(value, allowed) for allowed in values)


def _same(one: Value, other: Value) -> bool:
    """Equal, but for the last digits of a stepped float."""
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return one == other
