"""Whatever is done to a shipped study: ``parse`` gives a StudySpec or one SpecError with file and line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuner.spec.errors import SpecError
from tuner.spec.load import dump, parse
from tuner.spec.study import StudySpec

SHIPPED = [p.read_text() for p in sorted(Path(__file__).parents[2].joinpath("search_spaces").glob("*.yaml"))]
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


def read(text: str, source: str, overrides: Sequence[str] = ()) -> StudySpec | SpecError:
    """What parse gives or raises; any other exception is the failure these tests look for."""
    try:
        return parse(text, source, overrides)
    except SpecError as error:
        return error


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_a_broken_study_is_one_sentence(text: str) -> None:
    result = read(text, "broken.yaml")
    if isinstance(result, SpecError):
        message = str(result)
        assert re.match(r"broken\.yaml:\d+:\d+: \S", message), message
        assert message.isprintable()
        assert len(message) < 1000
        lines = text.count("\n") + text.count("\u2028") + text.count("\u2029") + text.count("\x85") + 2
        assert int(message.split(":")[1]) <= lines
    else:
        assert parse(dump(result)) == result


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["trial", "trial.optim.lr", "space.batch", "study.disk", "name", "forbid", "x.y", ".", "space."]),
    st.sampled_from(HOSTILE) | st.text(max_size=20),
)
def test_a_broken_override_is_one_sentence(path: str, value: str) -> None:
    result = read(SHIPPED[0], "shipped.yaml", [f"{path}={value}"])
    if isinstance(result, SpecError):
        assert str(result).startswith(("--set ", "shipped.yaml:")), result
        assert str(result).isprintable(), result


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=40))
def test_any_text_at_all(text: str) -> None:
    result = read(text, "any.yaml")
    if isinstance(result, SpecError):
        assert re.match(r"any\.yaml:\d+:\d+: \S", str(result)), result
        assert str(result).isprintable()
