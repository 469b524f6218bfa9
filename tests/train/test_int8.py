"""A model in use that computes in whole numbers of 8 bits: near to what it was, the same for each text whatever stands
beside it, and the same on a CPU that cannot multiply them exactly.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tuner.spec.parts.model import ModelSpec
from tuner.train.model.classify import Classifier
from tuner.train.model.gpt import GPT
from tuner.train.model.slim import int8
from tuner.train.model.slim.bits import rounded, scaled
from tuner.train.model.slim.int8 import Int8Matrix, compute_in_int8

KINDS: list[dict[str, Any]] = [
    {},
    {"head": "tied", "kv_heads": 2, "activation": "swiglu"},
    {"activation": "gelu_tanh", "bias": True, "norm": "layer", "positions": "learned", "qk_norm": False, "conv": 2},
]


@given(st.integers(1, 40), st.integers(1, 90), st.integers(1, 9), st.booleans(), st.integers(0, 2**31))
def test_a_product_is_that_of_rounded_numbers(rows: int, columns: int, tokens: int, biased: bool, seed: int) -> None:
    torch.manual_seed(seed)
    matrix, bias = torch.randn(rows, columns), torch.randn(rows) if biased else None
    x = torch.randn(tokens, columns) * 10 ** torch.randn(tokens, 1)
    x[0] = 0
    steps = x.abs().amax(1, keepdim=True).clamp(min=1e-30) / 127
    right = F.linear((x / steps).round() * steps, scaled(*rounded(matrix, 8)), bias)
    got = Int8Matrix(matrix, bias)(x)
    assert torch.allclose(got, right, rtol=1e-4, atol=1e-4 * float(x.abs().max()))
    assert torch.equal(got[:1], torch.zeros(1, rows) if bias is None else bias[None])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8, "multiplies_exactly", lambda: False)
        assert torch.allclose(Int8Matrix(matrix, bias)(x), got, rtol=1e-6, atol=1e-6 * float(x.abs().max()))


def test_a_cpu_that_adds_in_16_bits_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those without VNNI do: one side is lifted to 0 .. 255, and sums of two products are cut."""

    def cut(left: Tensor, right: Tensor) -> Tensor:
        products = (left.int() + 128)[:, :, None] * right.int()[None]
        pairs = (products[:, ::2] + products[:, 1::2]).clamp(-(2**15), 2**15 - 1)
        return (pairs.sum(1) - 128 * right.int().sum(0)).int()

    monkeypatch.setattr(torch, "_int_mm", cut)
    int8.multiplies_exactly.cache_clear()
    assert not int8.multiplies_exactly()
    monkeypatch.undo()
    int8.multiplies_exactly.cache_clear()


@pytest.mark.parametrize("kinds", KINDS, ids=str)
def test_a_model_says_nearly_what_it_said(kinds: dict[str, Any]) -> None:
    gpt, ids = drawn(kinds), torch.randint(0, 50, (3, 16))
    with torch.no_grad():
        whole = gpt(ids)
        undo = compute_in_int8(gpt)
        said = gpt(ids)
        assert float((said - whole).norm() / whole.norm()) < 0.05
        assert not torch.equal(said, whole)
        for row in range(3):  # alone as beside others
            assert torch.allclose(gpt(ids[row : row + 1]), said[row : row + 1], atol=1e-5)
        later = torch.cat((ids[:, :9], torch.randint(0, 50, (3, 7))), 1)
        assert torch.allclose(gpt(later)[:, :9], said[:, :9], atol=1e-5)
        cache = gpt.cache()
        stepped = [gpt(ids[:, :5], cache), *(gpt(ids[:, place : place + 1], cache) for place in range(5, 16))]
        assert torch.allclose(torch.cat(stepped, 1), said[:, 4:], atol=2e-2 * float(said.abs().max()))
        undo()
        assert torch.equal(gpt(ids), whole)


def test_a_classifier_too() -> None:
    torch.manual_seed(1)
    gpt = Classifier(ModelSpec(depth=2, width=32, zero_init=False), 50, 16, [3, 2]).eval()
    ids = torch.randint(0, 50, (4, 16))
    with torch.no_grad():
        whole = gpt(ids)
        compute_in_int8(gpt)
        assert float((gpt(ids) - whole).norm() / whole.norm()) < 0.05


def drawn(kinds: dict[str, Any]) -> GPT:
    torch.manual_seed(1)
    gpt = GPT(ModelSpec.model_validate({"depth": 2, "width": 32, "heads": 4, "zero_init": False, **kinds}), 50, 16)
    for one in gpt.parameters():
        if one.ndim == 2:
            torch.nn.init.normal_(one, std=0.1)
    return gpt.eval()
