"""Whatever is done to a shipped study: ``parse`` gives a StudySpec or one SpecError with file and line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import HOSTILE, SHIPPED, mutated

from tuner.spec.errors import SpecError
from tuner.spec.load import dump, parse
from tuner.spec.study import StudySpec


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
