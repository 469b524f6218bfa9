"""What each field of a trial takes, in words and as a check: the leaf paths, their types and their bounds.
Read off the models themselves; no bound and no allowed word is ever written here a second time.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from tuner.spec.budget import Budget
from tuner.spec.errors import SpecError, nearest, said
from tuner.spec.parts.data import NAME, AuxiliarySpec, MixSpec
from tuner.spec.records import Value
from tuner.spec.trial import TrialSpec

_SINGLE = {int, float, str, bool, type(None)}


@dataclass(frozen=True)
class Leaf:
    """One field of TrialSpec. ``kinds`` are the Python types it takes; empty: it is no single value."""

    path: str
    annotation: Any

    @cached_property
    def kinds(self) -> frozenset[type]:
        kinds = frozenset(_kinds(self.annotation))
        return kinds if kinds <= _SINGLE else frozenset()

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The texts it takes, where they are listed."""
        return words_of(self.annotation)

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.annotation)

    def read(self, value: object) -> Value:
        """The value as the field's own type, inside the field's own bounds.

        Raises:
            ValueError: with a sentence, where the field would not take it.
        """
        try:
            return cast("Value", self._adapter.validate_python(value))
        except ValidationError:
            text = value if isinstance(value, str) else None if value is None else str(value)
            hint = near_word(value, self.words)
            raise ValueError(f"{self.path} takes {describe(self.annotation)}, got {said(text)}.{hint}") from None


def annotated(field: FieldInfo) -> Any:
    """The full annotation of a field, bounds included."""
    metadata = tuple(field.metadata)
    return Annotated[(field.annotation, *metadata)] if metadata else field.annotation


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[Leaf]:
    for name, field in model.model_fields.items():
        if section := model_of(field.annotation):
            yield from _leaves(section, f"{prefix}{name}.")
        else:
            yield Leaf(prefix + name, annotated(field))


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The model, where the annotation is one: a section with keys of its own."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def values_of(trial: TrialSpec) -> dict[str, Value]:
    """Dotted path -> value, for every field that holds a single value."""
    values: dict[str, Value] = {}
    for path, leaf in LEAVES.items():
        if leaf.kinds:
            node: Any = trial
            for name in path.split("."):
                node = getattr(node, name)
            values[path] = node
    for section, known in named_in(trial).items():
        field = _OF_NAMED[section][0]
        values |= {f"{section}.{name}.{field}": getattr(one, field) for name, one in known.items()}
    return values


def named_in(trial: TrialSpec) -> dict[str, Mapping[str, BaseModel]]:
    """Section -> what the trial has there by names of the user's own."""
    return {"data.mix": trial.data.mix, "data.auxiliary": trial.data.auxiliary}


def read_point(words: Iterable[str]) -> dict[str, Value]:
    """The point in texts such as ``optim.lr=3e-3``, each value as its field's own type.

    Raises:
        SpecError: a text has no ``=``, names no field, or its field would not take the value.
    """
    point: dict[str, Value] = {}
    for word in words:
        path, mark, text = word.partition("=")
        if not mark:
            raise SpecError(f"expected PATH=VALUE such as optim.lr=3e-3, got {said(word)}.")
        if path not in LEAVES:
            raise SpecError(unknown(path))
        try:
            point[path] = LEAVES[path].read(None if text == "null" else text)
        except ValueError as error:
            raise SpecError(str(error)) from None
    return point


def write_point(point: Mapping[str, Value]) -> list[str]:
    """The texts that ``read_point`` reads back as an equal point."""
    return [f"{path}={value if isinstance(value, str) else json.dumps(value)}" for path, value in point.items()]


def unknown(path: str) -> str:
    """The sentence for a path that is no field: a section, or the nearest right word."""
    if inside := [leaf for leaf in LEAVES if leaf.startswith(f"{path}.")]:
        return f"{path} is a section; name one field in it.{nearest(path, inside)}"
    for section, (field, _) in _OF_NAMED.items():
        if path.startswith(f"{section}."):
            return f"unknown path {said(path)}; of what has a name there it is {section}.NAME.{field}."
    last = path.rpartition(".")[2]
    same = [leaf for leaf in LEAVES if leaf.rpartition(".")[2] == last]
    return f"unknown path {said(path)}.{nearest(path, same or LEAVES, cutoff=0 if same else 0.6)}"


def near_word(value: object, words: tuple[str, ...]) -> str:
    """A hint, only where one word is near: the others stand in the sentence already."""
    hint = nearest(value, words) if isinstance(value, str) else ""
    return hint if hint.startswith(" Did") else ""


def describe(annotation: Any, bounds: tuple[Any, ...] = ()) -> str:
    """What an annotation takes, in words: ``a number above 0``, ``'auto' or a whole number from 1``."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe(args[0], (*args[1:], *bounds))
    if origin in (Union, types.UnionType):
        return " or ".join("null" if a is type(None) else describe(a, bounds) for a in args)
    if origin is Literal:
        words = [repr(word) for word in args]
        return words[0] if len(words) == 1 else "one of " + ", ".join(words)
    if origin is tuple:
        if args[-1] is Ellipsis:
            return "a list"
        return f"a list of {len(args)} values, each {describe(args[0])}"
    if origin is dict:
        return "a mapping (key: value)"
    if said_so := next((b.description for b in bounds if isinstance(b, FieldInfo) and b.description), None):
        return said_so
    if annotation is int:
        return "a whole number" + _range(bounds)
    if annotation is float:
        return "a number" + _range(bounds)
    if annotation is Budget:
        return "an amount with a unit such as '2M tokens'"
    if model_of(annotation):
        return "settings (key: value)"
    return {bool: "true or false", str: "text"}.get(annotation, "a value")


def _range(bounds: tuple[Any, ...]) -> str:
    found: dict[str, Any] = {}
    for bound in bounds:
        for item in bound.metadata if isinstance(bound, FieldInfo) else [bound]:
            found |= {name: v for name in ("ge", "gt", "le", "lt") if (v := getattr(item, name, None)) is not None}
    # the largest whole number whose neighbours a float tells apart is no bound to read about
    found = {name: bound for name, bound in found.items() if abs(bound) != 2**53}
    low = f" from {found['ge']}" if "ge" in found else f" above {found['gt']}" if "gt" in found else ""
    if "le" in found:
        return f"{low} to {found['le']}" if low.startswith(" from") else f"{low}, at most {found['le']}"
    return (
        f"{low}{' to' if low.startswith(' from') else ' and' if low else ''} below {found['lt']}"
        if "lt" in found
        else low
    )


def _kinds(annotation: Any) -> Iterator[type]:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _kinds(args[0])
    elif origin in (Union, types.UnionType):
        for arg in args:
            yield from _kinds(arg)
    elif origin is Literal:
        yield from {type(word) for word in args}
    else:
        yield origin or annotation


def words_of(annotation: Any) -> tuple[str, ...]:
    """The texts an annotation lists."""
    if get_origin(annotation) is Literal:
        return tuple(word for word in get_args(annotation) if isinstance(word, str))
    return tuple(word for arg in get_args(annotation) for word in words_of(arg))


class _Leaves(Mapping[str, Leaf]):
    """Every field by its path; also those of what has a name of the user's own."""

    def __init__(self) -> None:
        self._known = {leaf.path: leaf for leaf in _leaves(TrialSpec)}

    def __getitem__(self, path: str) -> Leaf:
        if path in self._known:
            return self._known[path]
        for section, (field, model) in _OF_NAMED.items():
            if re.fullmatch(rf"{re.escape(section)}\.{NAME}\.{field}", path):
                return Leaf(path, annotated(model.model_fields[field]))
        raise KeyError(path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


_OF_NAMED: Mapping[str, tuple[str, type[BaseModel]]] = {
    "data.mix": ("share", MixSpec),
    "data.auxiliary": ("weight", AuxiliarySpec),
}
"""Section of things with names of the user's own -> the field of each that may be searched, and whose it is."""

LEAVES: Mapping[str, Leaf] = _Leaves()
"""Every field of a trial by its dotted path, in the order of the models; and ``data.mix.NAME.share`` and
``data.auxiliary.NAME.weight``, of any name."""
