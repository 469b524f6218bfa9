"""Broken studies for fuzzing: the shipped YAML files after small accidents."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import strategies as st

SHIPPED = [p.read_text() for p in sorted(Path(__file__).parents[1].joinpath("search_spaces").glob("*.yaml"))]
HOSTILE = [
    "", "~", "null", "no", "-1", "0", "1e999", ".nan", ".inf", "1_0", "9" * 400, "1e-320", "0x10", "true", "'", '"',
    "[", "]", "{", "}", "[]", "{}", "[[]]", "[1, 2]", "{a: b}", "{float: [1, 2]}", "{choice: [1]}", "&a [*a]", "*a",
    "<<: *a", "!!python/object:os.system x", "!!binary aGk=", "!x", "? [a]", "- a", "---", "...", "%YAML 9.9", "|\n x",
    ">", "@", "`", "\t", "\x00", "\x07", "\u2028", "\ufeff", "é", "😀", "\\ud800", "../../x", "x" * 2000, "[" * 200,
    "lr: 1", "optim.lr", "when: {optim.kind: muon}", "{int: [1, 3], when: {batch: 8}}", "model.depth / 0 > 1",
    "1 tokens", "1e300 flops", "5 GB", "1" + " " * 300 + "!", "__import__('os')", "batch ** 9 ** 9 > 1",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A shipped study after one to four small accidents."""
    text = draw(st.sampled_from(SHIPPED))
    for _ in range(draw(st.integers(1, 4))):
        lines = text.split("\n")
        at = draw(st.integers(0, max(0, len(text) - 1)))
        match draw(st.sampled_from(["delete", "insert", "swap", "typo", "replace", "double"])):
            case "delete":
                text = text[:at] + text[at + draw(st.integers(1, 12)) :]
            case "insert":
                hostile = draw(st.sampled_from(HOSTILE) | st.text(max_size=4))
                text = text[:at] + hostile + text[at:]
            case "swap":
                one, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
                lines[one], lines[other] = lines[other], lines[one]
                text = "\n".join(lines)
            case "typo" if keys := list(re.finditer(r"[\w.]+(?=:)", text)):
                key = draw(st.sampled_from(keys))
                cut = draw(st.integers(key.start(), key.end() - 1))
                text = text[:cut] + draw(st.sampled_from(["", "x", "."])) + text[cut + 1 :]
            case "replace" if values := list(re.finditer(r"(?<=: )[^{},#\n\[\]]+|(?<=[\[ ])[\w.]+(?=[,\]])", text)):
                value = draw(st.sampled_from(values))
                text = text[: value.start()] + draw(st.sampled_from(HOSTILE)) + text[value.end() :]
            case _:
                line = draw(st.integers(0, len(lines) - 1))
                text = "\n".join([*lines[:line], lines[line], *lines[line:]])
    return text
