"""Rules say what they mean, refuse what they are not for, and never raise once they are read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.spec.dimensions.fields import LEAVES, values_of
from tuner.spec.dimensions.rules import Rule
from tuner.spec.parts.model import ModelSpec
from tuner.spec.parts.optim import OptimSpec
from tuner.spec.records import Value
from tuner.spec.trial import TrialSpec

TRIAL = TrialSpec(model=ModelSpec(depth=7, width=256), optim=OptimSpec(kind="muon", clip=None), batch=64)


def holds(text: str) -> bool:
    return Rule.parse(text).holds(values_of(TRIAL).__getitem__)


@pytest.mark.parametrize(
    "text",
    [
        "model.depth > 6 and batch > 32",
        "not (model.depth <= 6 or batch <= 32)",
        "6 < model.depth < 8",
        "batch in [8, 64]",
        "batch not in (8, 16)",
        "optim.kind == 'muon' and optim.kind in ['muon']",
        "model.heads == 'auto' and model.heads != 4",
        "model.depth * model.width // 2 % 10 == 6",
        "-batch + 2 * +batch - 1 >= 63 and batch / 128 == 0.5",
        "model.qk_norm",
        "model.qk_norm == True and model.qk_norm != False",
        "optim.clip == None",
        "(model.depth >\n 6)",
    ],
)
def test_rules_that_hold(text: str) -> None:
    assert holds(text)
    assert not holds(f"not ({text})")


@pytest.mark.parametrize(
    "text",
    [
        "optim.clip > 0",
        "optim.clip < 1",
        "optim.clip * 2 > 0",
        "model.heads > 0",
        "batch / (batch - 64) > 0",
        "batch % (batch - 64) != 3",
        "batch // (batch - 64) == 3",
        "batch * 1e308 * 1e308 - batch * 1e308 * 1e308 < 5",
        "batch in [8, 16]",
    ],
)
def test_what_has_no_value_compares_false(text: str) -> None:
    assert not holds(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model.dept > 6", "unknown path 'model.dept'. Did you mean 'model.depth'?"),
        ("trial.model.depth > 6", "Did you mean 'model.depth'?"),
        ("lr > 6", "Did you mean 'optim.lr'?"),
        ("optim == 'muon'", "optim is a section"),
        ("model.depth.__class__ == 'x'", "unknown path 'model.depth.__class__'"),
        ("budget > 6", "budget is not a single value"),
        ("data.split == 6", "not a single value"),
        ("model.qk_norm == true", "write 'True', not 'true'"),
        ("optim.clip == null", "write 'None', not 'null'"),
        ("batch ** 2 > 6", "powers"),
        ("max(batch, 2) > 6", "calls such as `max(batch, 2)`"),
        ("batch if batch else 2", "is not part of a rule"),
        ("[b for b in [1]] == batch", "is not part of a rule"),
        ("(lambda: batch) == 1", "is not part of a rule"),
        ("batch & 1 == 1", "is not part of a rule"),
        ("~batch == 1", "is not part of a rule"),
        ("(b := batch) == 1", "is not part of a rule"),
        ("f'{batch}' == 'x'", "is not part of a rule"),
        ("batch == 1j", "is not part of a rule"),
        ("batch == 1e999", "is not part of a rule"),
        ("batch is 8", "write == or != for 'is'"),
        ("batch in 8", "'in' needs a list"),
        ("batch in [model.depth]", "fixed values"),
        ("batch in []", "'in' needs a list"),
        ("batch in ['8']", "never equal"),
        ("batch > '8'", "`'8'` is text"),
        ("optim.kind > 8", "`optim.kind` is text"),
        ("optim.kind + 1 > 8", "expected a number"),
        ("model.qk_norm > 0", "is true or false"),
        ("model.qk_norm == 1", "never equal"),
        ("optim.lr == None", "never equal"),
        ("optim.kind == 'muno'", "optim.kind is never 'muno'. Did you mean 'muon'?"),
        ("'sgd' == optim.kind", "optim.kind is never 'sgd'. Known: adafactor, adamw, muon."),
        ("batch", "is a number, expected a condition"),
        ("batch and model.qk_norm", "is a number, expected a condition"),
        ("not batch", "is a number, expected a condition"),
        ("1 < 2", "names no setting"),
        ("True", "names no setting"),
        ("", "cannot be read"),
        ("batch >", "cannot be read"),
        ("batch = 8", "cannot be read"),
        ("import os", "cannot be read"),
        ("batch\x00 > 8", "cannot be read"),
        ("batch > " + "(" * 230 + "8" + ")" * 230, "cannot be read"),
        ("not " * 60 + "model.qk_norm", "nested deeper than 30"),
        ("batch > 8 or " * 50 + "batch > 8", "at most 500 characters"),
    ],
)
def test_what_is_no_rule(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"^(in the|the) rule|^expected a rule") as caught:
        Rule.parse(text)
    assert words in str(caught.value)


def test_equal_texts_are_equal_rules() -> None:
    assert Rule.parse("batch > 8") == Rule.parse("batch > 8") != Rule.parse("batch > 9")
    assert Rule.parse("model.depth > 6 and batch > 8 and batch < 9").names == ("model.depth", "batch")


PATHS = [path for path, leaf in LEAVES.items() if leaf.kinds]
ATOM = st.sampled_from([*PATHS, "0", "1", "-1.5", "1e308", "'muon'", "'auto'", "None", "True", "[8, 'x']", "[None]"])
TEXT = st.recursive(
    ATOM,
    lambda inner: st.one_of(
        st.tuples(
            inner,
            st.sampled_from(
                ["+", "-", "*", "/", "//", "%", "<", "<=", ">", ">=", "==", "!=", "in", "not in", "and", "or"]
            ),
            inner,
        ).map(lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"),
        inner.map(lambda part: f"(not {part})"),
        inner.map(lambda part: f"(-{part})"),
    ),
    max_leaves=6,
)
ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
NUMBER = st.sampled_from(["batch", "model.heads", "optim.clip", "data.cap", "optim.lr", "0", "1e308", "-3", "seed"])
ARITHMETIC = st.recursive(
    NUMBER,
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(
        lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(TEXT | st.text(max_size=60), st.dictionaries(st.sampled_from(PATHS), ANY))
def test_no_rule_raises_once_it_is_read(text: str, values: dict[str, Value]) -> None:
    try:
        rule = Rule.parse(text)
    except ValueError:
        return
    assert rule.holds(lambda path: values.get(path)) in (True, False)


@settings(max_examples=200, deadline=None)
@given(ARITHMETIC, st.dictionaries(st.sampled_from(PATHS), ANY))
def test_arithmetic_never_raises(text: str, values: dict[str, Value]) -> None:
    rule = Rule.parse(f"{text} > 0 or batch == 1")
    assert rule.holds(lambda path: values.get(path, math.inf)) in (True, False)
