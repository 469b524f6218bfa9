"""Broken studies for fuzzing: the shipped YAML files after small accidents."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

SHIPPED = [
    path.read_text()
    for path in sorted(Path(__file__).parents[1].joinpath("search_spaces").glob("*.yaml"))
    if path.stem != "compress"  # begins with a model, which is looked for before anything else is wrong
]
HOSTILE = [
    "", "~", "null", "no", "-1", "0", "1e999", ".nan", ".inf", "1_0", "9" * 400, "1e-320", "0x10", "true", "'", '"',
    "[", "]", "{", "}", "[]", "{}", "[[]]", "[1, 2]", "{a: b}", "{float: [1, 2]}", "{choice: [1]}", "&a [*a]", "*a",
    "<<: *a", "!!python/object:os.system x", "!!python/object/apply:os.mkdir [made]",
    "!!python/object/new:os.mkdir {args: [made]}", "!!python/name:os.system", "!!python/module:os",
    "!!binary aGk=", "!x", "? [a]", "- a", "---", "...", "%YAML 9.9", "|\n x",
    ">", "@", "`", "\t", "\x00", "\x07", "\u2028", "\ufeff", "é", "😀", "\\ud800", "../../x", "x" * 2000, "[" * 200,
    "lr: 1", "optim.lr", "when: {optim.kind: muon}", "{int: [1, 3], when: {batch: 8}}", "model.depth / 0 > 1",
    "1 tokens", "1e300 flops", "5 GB", "1" + " " * 300 + "!", "__import__('os')", "batch ** 9 ** 9 > 1",
]  # fmt: skip


def _accident(text: str, number: Callable[[int, int], int], pick: Callable[[Any], Any], word: Callable[[], str]) -> str:
    """``text`` after one small accident; ``number`` lies between its arguments, ``pick`` takes one of a list."""
    lines = text.split("\n")
    at = number(0, max(0, len(text) - 1))
    match pick(["delete", "insert", "swap", "typo", "replace", "double"]):
        case "delete":
            return text[:at] + text[at + number(1, 12) :]
        case "insert":
            return text[:at] + word() + text[at:]
        case "swap":
            one, other = (number(0, len(lines) - 1) for _ in range(2))
            lines[one], lines[other] = lines[other], lines[one]
            return "\n".join(lines)
        case "typo" if keys := list(re.finditer(r"[\w.]+(?=:)", text)):
            key = pick(keys)
            cut = number(key.start(), key.end() - 1)
            return text[:cut] + pick(["", "x", "."]) + text[cut + 1 :]
        case "replace" if values := list(re.finditer(r"(?<=: )[^{},#\n\[\]]+|(?<=[\[ ])[\w.]+(?=[,\]])", text)):
            value = pick(values)
            return text[: value.start()] + pick(HOSTILE) + text[value.end() :]
    line = number(0, len(lines) - 1)
    return "\n".join([*lines[:line], lines[line], *lines[line:]])


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A shipped study after one to four small accidents."""
    text = draw(st.sampled_from(SHIPPED))
    for _ in range(draw(st.integers(1, 4))):
        text = _accident(
            text,
            lambda low, high: draw(st.integers(low, high)),
            lambda items: draw(st.sampled_from(items)),
            lambda: draw(st.sampled_from(HOSTILE) | st.text(max_size=4)),
        )
    return text


def broken(rng: random.Random) -> str:
    """The same without Hypothesis, for thousands of cases: it is ten times as fast and does not shrink."""
    text = rng.choice(SHIPPED)
    for _ in range(rng.randint(1, 4)):
        text = _accident(text, rng.randint, rng.choice, lambda: rng.choice(HOSTILE))
    return text
