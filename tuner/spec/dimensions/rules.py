"""Forbid rules: ``"model.depth > 6 and batch > 32"`` read against an allow-list and asked of one trial.
Words, numbers, comparisons and arithmetic only: no call and no power, and nothing is ever executed.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NoReturn

from tuner.spec.dimensions.fields import LEAVES, Leaf, near_word, unknown
from tuner.spec.errors import nearest, short
from tuner.spec.records import Value

MAX_LENGTH = 500
MAX_DEPTH = 30

_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_ORDER: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_NAMES = {float: "a number", str: "text", bool: "true or false", type(None): "null", list: "a list"}


@dataclass(frozen=True)
class Rule:
    """A condition that no trial may meet. Two rules of the same text are equal."""

    text: str
    names: tuple[str, ...] = field(compare=False)
    """The dotted paths it reads, in the order of the text."""
    _tree: ast.expr = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str, known: Mapping[str, Leaf] = LEAVES) -> Rule:
        """Read a rule over the known paths.

        Raises:
            ValueError: with a sentence, for a mistake of syntax, an unknown path, anything but words,
                numbers, comparisons and arithmetic, a text compared with a number, or no path at all.
        """
        if len(text) > MAX_LENGTH:
            raise ValueError(f"expected a rule of at most {MAX_LENGTH} characters, got {len(text)}; write several")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "1or 2" warns; whether a rule is right is decided here
                tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            raise ValueError(f"the rule {text!r} cannot be read: {error.msg} at character {error.offset}") from None
        except (ValueError, MemoryError, RecursionError, OverflowError) as error:
            raise ValueError(f"the rule {short(text)!r} cannot be read: {error or 'nested too deep'}") from None
        reader = _Types(text, known)
        reader.condition(tree, 0)
        if not reader.names:
            raise ValueError(f"the rule {text!r} names no setting, so it would forbid all trials or none")
        return cls(text, tuple(reader.names), tree)

    def holds(self, values: Callable[[str], Value]) -> bool:
        """Whether the trial, whose value at a path is ``values(path)``, is forbidden.

        Null is neither above nor below anything; a comparison with a result that is no number (a division
        by zero) is false.
        """
        return _value(self._tree, values) is True


@cache
def rule(text: str) -> Rule:
    """The rule of a text, over the fields of a trial; read once."""
    return Rule.parse(text)


def path_of(node: ast.expr) -> str | None:
    """``model.depth`` for the attribute chain that says so, None for any other expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (above := path_of(node.value)):
        return f"{above}.{node.attr}"
    return None


class _Types:
    """Walks a rule once, refuses what is not on the list, and gives each part the kinds it can have.

    Whole numbers count as float here: a rule tells numbers, texts and truths apart, nothing finer.
    """

    def __init__(self, text: str, known: Mapping[str, Leaf]) -> None:
        self.text, self.known = text, known
        self.names: dict[str, None] = {}

    def condition(self, node: ast.expr, depth: int) -> None:
        kinds = self.kinds(node, depth)
        if kinds != {bool}:
            self._fail(f"{self._cut(node)} is {_said(kinds)}, expected a condition such as 'batch > 32'")

    def kinds(self, node: ast.expr, depth: int) -> frozenset[type]:
        if depth > MAX_DEPTH:
            self._fail(f"it is nested deeper than {MAX_DEPTH} levels")
        below = depth + 1
        match node:
            case ast.BoolOp(values=parts):
                for part in parts:
                    self.condition(part, below)
                return frozenset({bool})
            case ast.UnaryOp(op=ast.Not(), operand=part):
                self.condition(part, below)
                return frozenset({bool})
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=part):
                return self._numbers(part, below)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return self._numbers(left, below) | self._numbers(right, below)
            case ast.BinOp(op=ast.Pow()):
                self._fail("powers ('**') are not part of a rule; write the product out")
            case ast.Compare(left=left, ops=ops, comparators=others):
                for one, compare, other in zip([left, *others], ops, others, strict=False):
                    self._compare(one, compare, other, below)
                return frozenset({bool})
            case ast.Constant(value=bool() | str() | None as value):
                return frozenset({type(value)})
            case ast.Constant(value=int() | float() as value) if math.isfinite(_float(value)):
                return frozenset({float})
            case ast.Name() | ast.Attribute() if path := path_of(node):
                return self._path(path)
            case ast.Call():
                self._fail(f"calls such as {self._cut(node)} are not part of a rule")
        allowed = "and, or, not, comparisons and + - * / // %"
        raise self._error(f"{self._cut(node)} is not part of a rule; use {allowed}")

    def _path(self, path: str) -> frozenset[type]:
        if path in {"true", "false", "null"}:
            self._fail(f"write { ({'null': 'None'}.get(path) or path.capitalize())!r}, not {path!r}")
        if path not in self.known:
            trimmed = path.removeprefix("trial.")
            hint = f" Did you mean {trimmed!r}?" if trimmed in self.known else ""
            self._fail(f"unknown path {path!r}.{hint}" if hint else unknown(path))
        leaf = self.known[path]
        if not leaf.kinds:
            self._fail(f"{path} is not a single value, so no rule can read it")
        self.names[path] = None
        return frozenset(float if kind is int else kind for kind in leaf.kinds)

    def _numbers(self, node: ast.expr, depth: int) -> frozenset[type]:
        kinds = self.kinds(node, depth)
        if float not in kinds:
            self._fail(f"{self._cut(node)} is {_said(kinds)}, expected a number to reckon with")
        return frozenset({float})

    def _compare(self, one: ast.expr, op: ast.cmpop, other: ast.expr, depth: int) -> None:
        if isinstance(op, ast.Is | ast.IsNot):
            self._fail("write == or != for 'is' and 'is not'")
        left = self.kinds(one, depth)
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(other, ast.List | ast.Tuple) or not other.elts:
                self._fail(f"'in' needs a list such as [8, 16], got {self._cut(other)}")
            for element in other.elts:
                if not isinstance(element, ast.Constant | ast.UnaryOp):
                    self._fail(f"'in' needs a list of fixed values, got {self._cut(element)}")
                self._equal(one, left, element, self.kinds(element, depth + 1))
            return
        right = self.kinds(other, depth)
        if type(op) in _ORDER:
            for side, kinds in ((one, left), (other, right)):
                if float not in kinds:
                    self._fail(f"{self._cut(side)} is {_said(kinds)}; only numbers compare by < and >")
        else:
            self._equal(one, left, other, right)

    def _equal(self, one: ast.expr, left: frozenset[type], other: ast.expr, right: frozenset[type]) -> None:
        if not left & right:
            self._fail(f"{self._cut(one)} is {_said(left)} and {self._cut(other)} is {_said(right)}: never equal")
        for side, against in ((one, other), (other, one)):
            path = path_of(side)
            words = self.known[path].words if path else ()
            text = against.value if isinstance(against, ast.Constant) else None
            if words and isinstance(text, str) and text not in words:
                hint = near_word(text, words) or nearest("", words)
                self._fail(f"{path} is never {text!r}.{hint}")

    def _cut(self, node: ast.expr) -> str:
        return f"`{short(ast.get_source_segment(self.text.strip(), node) or self.text)}`"

    def _error(self, sentence: str) -> ValueError:
        return ValueError(f"in the rule {short(self.text, 80)!r}: {sentence}")

    def _fail(self, sentence: str) -> NoReturn:
        raise self._error(sentence)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _said(kinds: frozenset[type]) -> str:
    return " or ".join(name for kind, name in _NAMES.items() if kind in kinds)


def _value(node: ast.expr, values: Callable[[str], Value]) -> Any:
    """The value of a checked expression; arithmetic that has no result is NaN, which compares false."""
    match node:
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(_value(part, values) is True for part in parts)
        case ast.BoolOp(values=parts):
            return any(_value(part, values) is True for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=part):
            return _value(part, values) is not True
        case ast.UnaryOp(op=op, operand=part):
            number = _value(part, values)
            return math.nan if not _is_number(number) else -number if isinstance(op, ast.USub) else number
        case ast.BinOp(left=one, op=op, right=other):
            return _reckon(_ARITHMETIC[type(op)], _value(one, values), _value(other, values))
        case ast.Compare(left=left, ops=ops, comparators=others):
            found = [_value(part, values) for part in (left, *others)]
            return all(_holds(op, found[k], found[k + 1]) for k, op in enumerate(ops))
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, values) for part in parts]
        case ast.Constant(value=value):
            return value
    return values(path_of(node) or "")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _reckon(op: Callable[[Any, Any], Any], one: Any, other: Any) -> float:
    if not (_is_number(one) and _is_number(other)):
        return math.nan
    try:
        return float(op(one, other))
    except (ArithmeticError, ValueError):
        return math.nan


def _holds(op: ast.cmpop, one: Any, other: Any) -> bool:
    if any(isinstance(side, float) and math.isnan(side) for side in (one, other)):
        return False
    if type(op) in _ORDER:
        return _is_number(one) and _is_number(other) and _ORDER[type(op)](one, other)
    if isinstance(op, ast.In | ast.NotIn):
        return any(_equal(one, element) for element in other) is isinstance(op, ast.In)
    return _equal(one, other) is isinstance(op, ast.Eq)


def _equal(one: Any, other: Any) -> bool:
    """Equal and of one kind: true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
