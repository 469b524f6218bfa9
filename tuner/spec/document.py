"""YAML text as a plain tree in which every path knows its line and column, and ``--set`` changes to it.
Text and positions only: what a key means, and which type a value must have, is never decided here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from tuner.spec.errors import SpecError, nearest, said, short

Where = tuple[str | int, ...]
"""A place in the tree: keys and list indices from the top."""

MAX_BYTES = 1_000_000
MAX_NODES = 20_000  # values read, those behind an alias counted each time: what stops an anchor bomb
MAX_DEPTH = 50

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ODD = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_NULL = {"", "~", "null", "Null", "NULL"}


@dataclass(frozen=True)
class Document:
    """A tree of dict, list, str and None; every scalar is still the text it was.

    ``values`` and ``keys`` tell where the value or key of a path stands: ``base.yaml:3:5``, ``--set a.b``.
    """

    source: str
    tree: dict[str, Any]
    values: dict[Where, str]
    keys: dict[Where, str]

    def place(self, where: Where, key: bool = False) -> str:
        """The position of a value (or of its key), or of the nearest parent that exists."""
        if key and where in self.keys:
            return self.keys[where]
        while where not in self.values and where:
            where = where[:-1]
        return self.values[where]

    def find(self, where: Where) -> Any:
        """The value at a path.

        Raises:
            KeyError: where the path does not exist.
        """
        node: Any = self.tree
        for step in where:
            inside = step in node if isinstance(node, dict) else step in range(len(node or ()))
            if isinstance(node, str) or not inside:
                raise KeyError(where)
            node = node[step]
        return node

    def has(self, where: Where) -> bool:
        """Does a path exist?"""
        try:
            self.find(where)
        except KeyError:
            return False
        return True


def dotted(where: Where) -> str:
    """``("space", "optim.lr", "float", 0)`` -> ``space.optim.lr.float[0]``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{short(step)}" for step in where).removeprefix(".")


def read(text: str, source: str) -> Document:
    """Read one YAML document whose top level is a mapping.

    Raises:
        SpecError: with ``source:line:column``, for any mistake of syntax or beyond a limit.
    """
    reader = _Reader(text, source)
    values: dict[Where, str] = {}
    keys: dict[Where, str] = {}
    if not reader.events:
        raise SpecError(f"{source}:1:1: the file is empty; a study begins with 'name: ...'.")
    top = reader.node((), values, keys)
    if not isinstance(top, dict):
        raise SpecError(f"{values[()]}: expected settings such as 'name: base' at the top level, got {said(top)}.")
    return Document(source, top, values, keys)


SHORT: Mapping[Where, str] = {("trial", "init"): "source"}
"""Sections that may be written as one word, and which of their keys that is."""


def override(document: Document, changes: Sequence[str]) -> Document:
    """The document with ``PATH=VALUE`` changes applied, later ones winning; missing sections are made.

    What follows ``space.`` is one key, dots and all: ``space.optim.lr={float: [1e-4, 1e-2]}``.

    Raises:
        SpecError: with ``--set PATH``, where a change cannot be read or leads through a value without keys.
    """
    for change in changes:
        name, equals, text = change.partition("=")
        label = f"--set {short(name)}"
        where = _where(name.strip())
        if not equals or not all(where) or len(where) > MAX_DEPTH:
            raise SpecError(f"--set {short(change)}: expected PATH=VALUE such as trial.optim.lr=3e-4; write it so.")
        document = _replace(document, where, text, label)
    return document


def _where(name: str) -> Where:
    if name.startswith("space."):
        return ("space", name.removeprefix("space."))
    return tuple(name.split("."))


def _replace(document: Document, where: Where, text: str, label: str) -> Document:
    reader = _Reader(text, label, lines=False)
    fresh: dict[Where, str] = {}
    value = reader.node(where, fresh, {}) if reader.events else None

    def outside(old: dict[Where, str]) -> dict[Where, str]:
        return {path: place for path, place in old.items() if path[: len(where)] != where}

    values, keys = outside(document.values), outside(document.keys)
    for path in [where, *fresh]:
        values[path] = keys[path] = label
    tree = dict(document.tree)
    node: dict[str, Any] = tree
    for depth, step in enumerate(where[:-1], 1):
        below = node.get(str(step), {})
        if isinstance(below, str) and where[:depth] in SHORT:
            below = {SHORT[where[:depth]]: below}
        if not isinstance(below, dict):
            raise SpecError(f"{label}: {dotted(where[:depth])} is {said(below)}, it has no keys to set.")
        values.setdefault(where[:depth], label)
        keys.setdefault(where[:depth], label)
        node[str(step)] = node = dict(below)
    node[str(where[-1])] = value
    return Document(document.source, tree, values, keys)


def place_after(source: str, before: str) -> str:
    """``source:line:column`` of the character that follows the text ``before``."""
    lines = before.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return f"{source}:{len(lines)}:{len(lines[-1]) + 1}"


class _Reader:
    """Builds the tree from the parser's events, which come one by one, so that depth and size are
    limited before anything recurses; an alias is read again from the event its anchor stands on."""

    def __init__(self, text: str, source: str, lines: bool = True) -> None:
        self.source = source
        self.lines = lines  # a --set has no lines to tell
        self.events: list[Any] = []
        self._at = 0
        self._visited = 0
        self._open: list[str] = []
        self._anchors: dict[str, int] = {}
        if len(text) > MAX_BYTES:
            raise SpecError(f"{source}: expected at most 1 MB of text, got {len(text):,} characters.")
        text = text.removeprefix("\ufeff")
        if odd := _ODD.search(text):
            place = place_after(source, text[: odd.start()]) if lines else source
            raise SpecError(f"{place}: {_odd(odd[0])}.")
        try:
            self._collect(text)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self._mark(mark) if mark else source
            context = f" ({error.context})" if error.context else ""
            raise SpecError(
                f"{place}: this is not YAML: {error.problem}{context}; "
                "look at the indentation, brackets and quotes here and just above."
            ) from None
        except yaml.YAMLError as error:
            raise SpecError(f"{source}: this is not YAML: {short(str(error))}.") from None

    def _collect(self, text: str) -> None:
        depth = documents = 0
        for event in yaml.parse(text, Loader=_LOADER):
            match event:
                case yaml.StreamStartEvent() | yaml.StreamEndEvent() | yaml.DocumentEndEvent():
                    continue
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        raise SpecError(
                            f"{self._mark(event.start_mark)}: expected one document, got a second one "
                            "after '---'; a file holds one study."
                        )
                    continue
                case yaml.CollectionStartEvent():
                    depth += 1
                case yaml.CollectionEndEvent():
                    depth -= 1
            if depth > MAX_DEPTH:
                self._fail(event, f"nested deeper than {MAX_DEPTH} levels")
            self.events.append(event)
            if len(self.events) > 2 * MAX_NODES:
                self._fail(event, f"expected at most {MAX_NODES:,} values, got more")

    def node(self, where: Where, values: dict[Where, str], keys: dict[Where, str]) -> Any:
        """The value that begins at the next event; ``values`` and ``keys`` receive its positions."""
        event = self.events[self._at]
        self._at += 1
        self._visited += 1
        if self._visited > MAX_NODES:
            self._fail(event, f"expected at most {MAX_NODES:,} values, got more (aliases counted each time)")
        if len(where) > MAX_DEPTH:
            self._fail(event, f"nested deeper than {MAX_DEPTH} levels")
        values[where] = self._mark(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, where, values, keys)
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._fail(event, f"tags are not read; remove {short(tag)!r}")
        if event.anchor:
            self._anchors[event.anchor] = self._at - 1
            self._open.append(event.anchor)
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = []
            while not isinstance(self.events[self._at], yaml.SequenceEndEvent):
                value.append(self.node((*where, len(value)), values, keys))
            self._at += 1
        else:
            value = self._mapping(where, values, keys)
        if event.anchor:
            self._open.pop()
        return value

    def _mapping(self, where: Where, values: dict[Where, str], keys: dict[Where, str]) -> dict[str, Any]:
        value: dict[str, Any] = {}
        while not isinstance(event := self.events[self._at], yaml.MappingEndEvent):
            place = self._mark(event.start_mark)
            key = self.node((*where, "?"), {}, {})
            if not isinstance(key, str):
                self._fail(event, f"expected text as a key, got {said(key)}")
            if key == "<<" and not getattr(event, "style", None):
                self._fail(event, "merge keys ('<<') are not read; write the settings out")
            if key in value:
                self._fail(event, f"the key {short(key)!r} is here twice, first at {keys[*where, key]}; remove one")
            keys[*where, key] = place
            value[key] = self.node((*where, key), values, keys)
        self._at += 1
        return value

    def _alias(self, event: Any, where: Where, values: dict[Where, str], keys: dict[Where, str]) -> Any:
        if event.anchor in self._open:
            self._fail(event, f"the alias '*{short(event.anchor)}' contains itself")
        if event.anchor not in self._anchors:
            hint = nearest(event.anchor, self._anchors)
            self._fail(event, f"the alias '*{short(event.anchor)}' has no anchor before it", hint)
        back, self._at = self._at, self._anchors[event.anchor]
        place = values[where]
        value = self.node(where, values, keys)
        self._at = back
        values[where] = place
        return value

    def _scalar(self, event: Any) -> str | None:
        text: str = event.value
        if odd := _ODD.search(text):
            self._fail(event, _odd(odd[0]))
        return None if not event.style and text in _NULL else text

    def _mark(self, mark: Any) -> str:
        return f"{self.source}:{mark.line + 1}:{mark.column + 1}" if self.lines else self.source

    def _fail(self, event: Any, sentence: str, hint: str = "") -> NoReturn:
        raise SpecError(f"{self._mark(event.start_mark)}: {sentence}.{hint}")


def _odd(character: str) -> str:
    return f"expected printable text, got the control character U+{ord(character):04X}; remove it"
