"""The door of the spec: a YAML file or text becomes a StudySpec, or one sentence that says where it is wrong.
Only reading, wording and writing back; which values are right is decided by the models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from tuner.spec.dimensions.dimension import DIMENSIONS, ChoiceDim
from tuner.spec.dimensions.fields import annotated, describe, model_of, near_word, words_of
from tuner.spec.dimensions.space import RECIPE
from tuner.spec.document import (
    MAX_BYTES,
    Document,
    Where,
    dotted,
    override,
    place_after,
    read,
)
from tuner.spec.errors import Mistakes, SpecError, nearest, said, short
from tuner.spec.parts.model import ModelSpec
from tuner.spec.parts.recipes import bare
from tuner.spec.records import Ancestor
from tuner.spec.study import StudySpec, lean

Ancestry = Callable[[StudySpec], Ancestor]
"""Finds the trained model that a study's ``trial.init.source`` names, or raises a TunerError."""


def load(path: str | Path, overrides: Sequence[str] = (), ancestry: Ancestry | None = None) -> StudySpec:
    """The study in a YAML file, with ``PATH=VALUE`` overrides applied. Where its trials begin with a trained model and
    there is ``ancestry``, they have that one's shape and vocabulary.

    Raises:
        SpecError: with file, line and column, for any mistake; nothing was created.
    """
    return parse(_read_file(Path(path)), str(path), overrides, ancestry)


def parse(
    text: str, source: str = "<text>", overrides: Sequence[str] = (), ancestry: Ancestry | None = None
) -> StudySpec:
    """The study in a YAML text; ``source`` names it in errors.

    Raises:
        SpecError: with source, line and column, for any mistake.
    """
    document = override(read(text, source), overrides)
    _ask_fixed(document, overrides)
    try:
        spec = StudySpec.model_validate(document.tree)
        if ancestry is None or spec.trial.init.source is None:
            return spec
        return _inheriting(document, spec, ancestry(spec))
    except ValidationError as error:
        raise SpecError(_sentence(document, error)) from None


def _inheriting(document: Document, spec: StudySpec, ancestor: Ancestor) -> StudySpec:
    """The study with what the weights of its ancestor decide; what is written besides may not contradict it."""
    trial, name, take = spec.trial.model_dump(), spec.trial.init.source, spec.trial.init.take
    if ancestor.classes and spec.trial.task == "generate":
        place = document.place(("trial", "init"))
        raise SpecError(f"{place}: {name} is a classifier and cannot go on with a text; set trial.task: classify.")
    data = trial["data"]
    parts = {"dropout", "depth", "heads", "head_width", "hidden"}
    own = {"all": {"dropout"}, "part": parts, "nothing": set(ancestor.model)}[take]
    decided = {("model", field): value for field, value in ancestor.model.items() if field not in own}
    if take == "part":
        decided |= _of_its_parts(document, spec, ancestor)
    decided |= {
        ("data", "tokenizer"): {"kind": "file", "vocab": None, "path": f"{ancestor.folder}/{ancestor.tokenizer}"}
    }
    decided |= {("init", "sha256"): ancestor.sha256, ("init", "folder"): ancestor.folder}
    if not document.has(("trial", "data", "context")):
        data["context"] = ancestor.context
    longest = max(data["context"], _greatest(spec, "data.context") if "data.context" in spec.space else 0)
    if ancestor.model["positions"] == "learned" and longest > ancestor.context:
        place = _place(document, spec, "data.context")
        raise SpecError(f"{place}: data.context is up to {longest}, and {name} has {ancestor.context} positions.")
    for (section, field), value in decided.items():
        if document.has(("trial", section, field)) and trial[section][field] != value:
            place = document.place(("trial", section, field), key=True)
            was = "" if isinstance(value, dict) else f", where it is {said(value)}"
            raise SpecError(f"{place}: {section}.{field} is decided by the weights of {name}{was}; remove it here.")
        trial[section][field] = value
    if RECIPE in spec.space:
        trial = bare(trial)
    return StudySpec.model_validate({**spec.model_dump(), "trial": trial})


def _of_its_parts(document: Document, spec: StudySpec, ancestor: Ancestor) -> dict[tuple[str, str], Any]:
    """What is decided of a model that begins with a part of its ancestor: all that is not said, and how wide a head is.

    Raises:
        SpecError: there is less than it is to have.
    """
    model = ModelSpec.model_validate(ancestor.model)
    has = {
        "depth": (model.depth, "layers"),
        "heads": (model.head_count, "heads"),
        "hidden": (model.hidden_size, "neurons"),
    }
    decided: dict[tuple[str, str], Any] = {}
    for field, (most, what) in has.items():
        path = f"model.{field}"
        if path not in spec.space and not document.has(("trial", "model", field)):
            decided["model", field] = ancestor.model[field]
        elif (asked := _greatest(spec, path)) > most:
            place = _place(document, spec, path)
            raise SpecError(
                f"{place}: {path} is up to {asked}, and {spec.trial.init.source} has {most} {what} to take."
            )
        elif field == "heads":
            decided["model", "head_width"] = model.head_size
    if not document.has(("trial", "model", "head_width")):  # said outright, it is what it is
        decided.setdefault(("model", "head_width"), ancestor.model["head_width"])
    else:
        decided["model", "head_width"] = model.head_size
    return decided


def _greatest(spec: StudySpec, path: str) -> int:
    """The most that a whole number of the trial may be, searched or written."""
    section, name = path.split(".")
    if path not in spec.space:
        value = getattr(getattr(spec.trial, section), name)
        return value if isinstance(value, int) else 0
    dimension = spec.space[path]
    if isinstance(dimension, ChoiceDim):
        return max((value for value in dimension.choice if isinstance(value, int)), default=0)
    return int(dimension.high)


def _place(document: Document, spec: StudySpec, path: str) -> str:
    return document.place(("space", path) if path in spec.space else ("trial", *path.split(".")))


def dump(spec: StudySpec) -> str:
    """YAML that ``parse`` reads back as an equal study: every field written out, but for what is absent.

    What a searched recipe sets is left to it.
    """
    trial = _present(spec.trial)
    if RECIPE in spec.space:
        trial = bare(trial)
    data = {
        "name": spec.name,
        "trial": trial,
        "space": {path: _Line(lean(dimension)) for path, dimension in spec.space.items()},
        "forbid": list(spec.forbid),
        "study": _present(spec.study),
        "promotion": _present(spec.promotion),
    }
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None))


class _Line(dict[str, Any]):
    """A mapping to be written on one line."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    _Line, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True)
)


def _present(model: BaseModel) -> dict[str, Any]:
    """JSON-ready data without the fields that are absent by default; a null that means something stays."""
    data = model.model_dump(mode="json")
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            data[name] = _present(value)
        elif value is None and field.default is None:
            del data[name]
    return data


def _read_file(path: Path) -> str:
    name = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        near = [str(p) for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise SpecError(f"{name}: there is no such file.{nearest(name, near)}") from None
    except IsADirectoryError:
        raise SpecError(f"{name}: expected a YAML file, got a folder; name a file in it.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(f"{short(repr(name), 300)}: the file cannot be read: {reason}.") from None
    if len(raw) > MAX_BYTES:
        raise SpecError(f"{name}: expected a study of at most 1 MB, got a larger file; is it the right one?")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        place = place_after(name, raw[: error.start].decode("utf-8"))
        byte = f"0x{raw[error.start]:02x}"
        raise SpecError(f"{place}: expected UTF-8 text, got the byte {byte}; save the file as UTF-8.") from None


def _ask_fixed(document: Document, overrides: Sequence[str]) -> None:
    """A field fixed by ``--set`` but still searched would be set in vain: say so instead."""
    space = document.tree.get("space")
    for change in overrides:
        path = change.partition("=")[0].strip().removeprefix("trial.")
        if change.strip().startswith("trial.") and isinstance(space, dict):
            dimension = space.get(path)
            if dimension is not None and not (isinstance(dimension, dict) and dimension.get("when")):
                raise SpecError(
                    f"--set trial.{path}: {path} is searched ({document.place(('space', path), key=True)}), "
                    f"so this value would never be used; fix it with --set 'space.{path}={{choice: [...]}}'."
                )


@dataclass(frozen=True)
class _Found:
    """One mistake at its place in the YAML; no ``sentence``: the value is simply of the wrong type."""

    where: Where
    key: bool
    sentence: str | None


def _sentence(document: Document, error: ValidationError) -> str:
    """The first mistake in file order, and how many more there are."""
    found: dict[Where, _Found] = {}
    for mistake in _all(document, error):
        found.setdefault(mistake.where, mistake)  # a union complains once for each of its members
    placed = [(document.place(m.where, m.key), m) for m in found.values()]
    place, first = min(placed, key=lambda pair: _order(pair[0]))
    sentence = first.sentence or _wrong_type(document, first.where)
    path = dotted(first.where)
    head = place if not path or place == f"--set {path}" or sentence.startswith(path) else f"{place}: {path}"
    end = "" if sentence.endswith((".", "?")) else "."
    more = len(found) - 1
    tail = f" (and {more} more mistake{'s' if more > 1 else ''})" if more else ""
    return f"{head}: {sentence}{end}{tail}"


def _order(place: str) -> tuple[bool, list[int]]:
    """File order; what the command line said comes first, it is what was changed last."""
    _, line, column = place.rsplit(":", 2) if place.count(":") >= 2 else (place, "", "")
    return (line.isdigit(), [int(line), int(column)]) if line.isdigit() and column.isdigit() else (False, [0])


def _all(document: Document, error: ValidationError, above: Where = ()) -> Iterator[_Found]:
    for item in error.errors(include_url=False):
        loc = (*above, *item["loc"])
        cause = item.get("ctx", {}).get("error")
        where = _follow(document, loc)
        if isinstance(cause, Mistakes):
            for mistake in cause.items:
                yield _Found(_follow(document, (*where, *mistake.where)), mistake.key, mistake.sentence)
        elif item["type"] == "extra_forbidden":
            yield _Found(where, True, _unknown_key(document, where))
        elif item["type"] == "missing":
            yield from _missing(document, where, loc[-1])
        elif item["type"] == "dimension":
            value = document.find(where)
            got = "the keys " + ", ".join(map(short, value)) if isinstance(value, dict) and value else said(value)
            yield _Found(where, False, f"{item['msg']}, got {got}")
        elif item["type"] == "value_error":
            yield _Found(_pointed(document, where, str(cause)), False, str(cause))
        else:
            yield _Found(where, False, None)


def _follow(document: Document, loc: Where) -> Where:
    """pydantic's location as a path of the YAML: without the names of union members, as far as it exists."""
    where: Where = ()
    for step in loc:
        if document.has((*where, step)):
            where = (*where, step)
    return where


def _pointed(document: Document, where: Where, sentence: str) -> Where:
    """The key of a section that the sentence names, so that the position is that of the value it is about."""
    section = document.find(where)
    if isinstance(section, dict):
        for word in sentence.replace(";", " ").replace(",", " ").split():
            if word in section:
                return (*where, word)
    return where


def _missing(document: Document, where: Where, name: str | int) -> Iterator[_Found]:
    if isinstance(name, int):  # a list that is too short
        yield _Found(where, False, None)
    else:
        here = f"{name} is missing" if not where else f"{dotted(where)}.{name} is missing"
        yield _Found(where, False, f"{here}; expected {describe(_annotation(document, (*where, name)))}")


def _wrong_type(document: Document, where: Where) -> str:
    annotation = _annotation(document, where)
    value = document.find(where)
    expected = describe(annotation)
    if where[-1] in ("float", "int") and len(where) == 3:
        expected = f"a pair [low, high], each {describe(get_args(annotation)[0])}"
    elif where[-1] == "choice":
        expected = "a list such as [8, 16, 32]"
    return f"expected {expected}, got {said(value)}.{near_word(value, words_of(annotation))}"


def _annotation(document: Document, where: Where) -> Any:
    """The annotation of the field at a YAML path."""
    model: type[BaseModel] | None = StudySpec
    annotation: Any = StudySpec
    for depth, step in enumerate(where):
        if where[0] == "space" and depth == 1:
            annotation, model = dict, _dimension(document, where)
        elif model and step in model.model_fields:
            annotation = annotated(model.model_fields[str(step)])
            model = model_of(annotation)
        elif args := _items(annotation):
            annotation = args[min(step, len(args) - 1) if isinstance(step, int) else -1]
            model = model_of(annotation)
    return annotation


def _items(annotation: Any) -> tuple[Any, ...]:
    """What the items of a tuple or the values of a mapping are annotated with."""
    if get_origin(annotation) not in (tuple, dict):
        return _items(get_args(annotation)[0]) if hasattr(annotation, "__metadata__") else ()
    return tuple(arg for arg in get_args(annotation) if arg is not Ellipsis)


def _dimension(document: Document, where: Where) -> type[BaseModel] | None:
    """The record of the dimension that a path below ``space`` leads into."""
    keys = document.find(where[:2])
    return next((kind for name, kind in DIMENSIONS.items() if isinstance(keys, dict) and name in keys), None)


def _unknown_key(document: Document, where: Where) -> str:
    key = str(where[-1])
    siblings = _siblings(document, where)
    hint = nearest(key, siblings)
    if not hint.startswith(" Did"):
        elsewhere = [path for path in _PATHS if path.rpartition(".")[2] == key]
        hint = f" Did you mean {elsewhere[0]!r}?" if elsewhere else hint
    return f"unknown key {short(key)!r}.{hint}"


def _siblings(document: Document, where: Where) -> list[str]:
    if where[0] == "space":
        kind = _dimension(document, where)
        return list(kind.model_fields) if kind else []
    model: type[BaseModel] = StudySpec
    named: type[BaseModel] | None = None  # what a mapping has under a name of the user's
    for step in where[:-1]:
        if named is not None:
            model, named = named, None
            continue
        field = model.model_fields.get(str(step))
        section = model_of(field.annotation) if field else None
        named = model_of(items[-1]) if field and (items := _items(field.annotation)) else None
        if section is None and named is None:
            return []
        model = section or model
    return list(model.model_fields)


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if section := model_of(field.annotation):
            yield from _paths(section, f"{prefix}{name}.")


_PATHS = [path for path in _paths(StudySpec) if not path.startswith("space.")]
