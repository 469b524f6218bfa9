"""The bench of generation at its smallest: it prints the figures it promises, and says why it cannot run."""

from __future__ import annotations

import re

import pytest

from tuner.bench.generate import compare_generation
from tuner.spec.errors import TunerError


@pytest.mark.long
def test_both_ways_of_generating_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    compare_generation(pairs=2, depth=1, width=16, context=16, tokens=20)
    title, *pairs, median, token, text = capsys.readouterr().out.splitlines()
    assert title == "1 x 16, context 16: 20 tokens at temperature 0, threads 1"
    both = r"[\d,]+ tokens/s cached, [\d,]+ not, ratio \d+\.\d\d"
    assert len(pairs) == 2
    assert all(re.fullmatch(rf"pair \d: {both}", pair) for pair in pairs)
    assert re.fullmatch(rf"median of 2: {both} \(\d+\.\d\d to \d+\.\d\d\); the texts are equal", median)
    for what, said in (("token", token), ("text", text)):
        ratios = r"\d+\.\d\d x the time of fp32 \(\d+\.\d\d to \d+\.\d\d\)"
        assert re.fullmatch(rf"in 8-bit whole numbers a {what}: {ratios}", said)


def test_a_shape_that_cannot_be_is_a_sentence() -> None:
    with pytest.raises(TunerError, match="bench: measuring ended with exit code 1"):
        compare_generation(pairs=1, depth=1, width=-4, context=16, tokens=20)
