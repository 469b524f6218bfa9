"""Generation: what a model remembers is what it would read again, and a seed is a text."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tuner.spec.parts.model import ModelSpec
from tuner.spec.parts.sampling import Sampling
from tuner.train.model.gpt import GPT
from tuner.train.use.generate import draw, generate

VOCAB, CONTEXT = 50, 24
MIXES = [
    dict(zip(("positions", "norm", "conv", "smear"), kinds, strict=True))
    for kinds in itertools.product(["rotary", "learned"], ["rms", "layer"], [0, 2], [False, True])
]
HEADS: list[dict[str, Any]] = [
    {"kv_heads": 1, "softcap": 5.0},
    {"kv_heads": 2, "head": "tied", "activation": "swiglu"},
    {"head": "tied", "vocab_multiple": 64, "qk_norm": False},
    {"kv_heads": 1, "vocab_multiple": 64, "softcap": 5.0, "dropout": 0.5},
]
KINDS = [mix | head for mix, head in itertools.product(MIXES, HEADS)]


def model(fields: dict[str, Any], context: int = CONTEXT) -> GPT:
    """A model whose every weight counts: as initialised, half of them are zero."""
    torch.manual_seed(1)
    gpt = GPT(ModelSpec(depth=2, width=32, heads=4, **fields), VOCAB, context).eval()
    for name, parameter in gpt.named_parameters():
        if "share" in name or name.endswith("out.weight"):
            torch.nn.init.normal_(parameter, std=0.5)
        elif parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return gpt


def drawn(gpt: GPT, ids: Tensor, cached: bool = True, **fields: Any) -> list[list[int]]:
    steps = list(generate(gpt, ids, Sampling(**fields), cached=cached))
    return torch.stack(steps, dim=1).tolist()


@pytest.mark.parametrize("fields", KINDS, ids=str)
@torch.no_grad()
def test_a_step_with_a_cache_gives_the_logits_of_reading_everything_again(fields: dict[str, Any]) -> None:
    gpt = model(fields)
    ids = torch.randint(VOCAB, (3, CONTEXT))
    whole = gpt(ids)
    for prefill in (1, 2, 9, CONTEXT):
        cache = gpt.cache()
        steps = [gpt(ids[:, :prefill], cache)]
        steps += [gpt(ids[:, place : place + 1], cache) for place in range(prefill, CONTEXT)]
        torch.testing.assert_close(torch.cat(steps, dim=1), whole[:, prefill - 1 :], atol=1e-5, rtol=1e-5)
        assert cache.length == CONTEXT


@pytest.mark.parametrize("fields", KINDS[::3], ids=str)
def test_the_likeliest_text_is_the_same_with_and_without_a_cache_also_beyond_the_context(
    fields: dict[str, Any],
) -> None:
    gpt = model(fields)
    ids = torch.randint(VOCAB, (2, 5))
    texts = [drawn(gpt, ids, cached, max_tokens=2 * CONTEXT + 3, temperature=0) for cached in (True, False)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("context", [1, 2, 3, 8])
@pytest.mark.parametrize("prompt", [1, 2, 3, 7, 8, 9, 30])
def test_prompts_of_any_length_and_the_smallest_contexts(context: int, prompt: int) -> None:
    gpt = model({}, context)
    ids = torch.randint(VOCAB, (1, prompt))
    texts = [drawn(gpt, ids, cached, max_tokens=20, temperature=0.5) for cached in (True, False)]
    assert texts[0] == texts[1]
    assert len(texts[0][0]) == 20


def test_a_full_cache_and_a_second_beginning_are_refused() -> None:
    gpt = model({})
    cache = gpt.cache()
    gpt(torch.zeros(1, 3, dtype=torch.long), cache)
    with pytest.raises(ValueError, match="a cache of 3 of 24 tokens takes no 2 more"):
        gpt(torch.zeros(1, 2, dtype=torch.long), cache)
    cache = gpt.cache()
    gpt(torch.zeros(1, CONTEXT, dtype=torch.long), cache)
    with pytest.raises(ValueError, match="a cache of 24 of 24 tokens takes no 1 more"):
        gpt(torch.zeros(1, 1, dtype=torch.long), cache)


@pytest.mark.parametrize("shape", [(1, 0), (0, 4), (3,)])
def test_a_prompt_of_no_token_is_a_sentence_before_the_first_step(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one of each at least"):
        generate(model({}), torch.zeros(shape, dtype=torch.long), Sampling())


def test_a_seed_is_a_text_and_the_global_random_state_is_left_alone() -> None:
    gpt = model({"dropout": 0.5}).train()
    ids = torch.zeros(2, 1, dtype=torch.long)
    state = torch.get_rng_state()
    first = drawn(gpt, ids, max_tokens=30, seed=4)
    torch.rand(7)
    assert drawn(gpt, ids, max_tokens=30, seed=4) == first
    assert drawn(gpt, ids, max_tokens=30, seed=5) != first
    assert first[0] != first[1]
    torch.set_rng_state(state)
    drawn(gpt, ids, max_tokens=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert gpt.training


def test_a_text_that_is_left_halfway_gives_the_model_back_and_ids_are_plain_tensors() -> None:
    gpt = model({}).train()
    steps = generate(gpt, torch.zeros(1, 1, dtype=torch.long), Sampling())
    ids = next(steps)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    steps.close()  # type: ignore[attr-defined]
    assert gpt.training
    gpt.loss(ids[None], ids[None]).backward()


def test_the_model_learns_after_a_generation_as_if_there_had_been_none() -> None:
    gradients = []
    for before in (0, 9):
        gpt = model({}).train()
        if before:
            drawn(gpt, torch.zeros(2, 1, dtype=torch.long), max_tokens=before)
        ids = torch.arange(CONTEXT)[None]
        gpt.loss(ids, ids).backward()
        gradients.append([parameter.grad for parameter in gpt.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True) if one is not None)


def frequencies(logits: list[float], count: int = 20_000, **fields: Any) -> list[float]:
    rows = torch.tensor([logits]).expand(count, -1)
    found = Counter(draw(rows, Sampling(**fields), torch.Generator().manual_seed(3)).tolist())
    return [found[i] / count for i in range(len(logits))]


@pytest.mark.parametrize(
    ("fields", "shares"),
    [
        ({"temperature": 1}, [0.5, 0.25, 0.15, 0.1]),
        ({"temperature": 0.5}, [0.7246, 0.1812, 0.0652, 0.0290]),
        ({"temperature": 1, "top_k": 2}, [2 / 3, 1 / 3, 0, 0]),
        ({"temperature": 1, "top_k": 1}, [1, 0, 0, 0]),
        ({"temperature": 1, "top_k": 9}, [0.5, 0.25, 0.15, 0.1]),
        ({"temperature": 1, "top_p": 0.4}, [1, 0, 0, 0]),
        ({"temperature": 1, "top_p": 0.6}, [2 / 3, 1 / 3, 0, 0]),
        ({"temperature": 1, "top_p": 1.0}, [0.5, 0.25, 0.15, 0.1]),
        ({"temperature": 1, "top_k": 3, "top_p": 0.8}, [2 / 3, 1 / 3, 0, 0]),
        ({"temperature": 0}, [1, 0, 0, 0]),
        ({"temperature": 1e-300}, [1, 0, 0, 0]),
    ],
    ids=str,
)
def test_ids_are_drawn_as_often_as_the_settings_say(fields: dict[str, Any], shares: list[float]) -> None:
    logits = torch.tensor([0.5, 0.25, 0.15, 0.1]).log().tolist()
    assert frequencies(logits, **fields) == pytest.approx(shares, abs=0.015)


@settings(max_examples=60)
@given(
    st.lists(st.floats(-1e30, 1e30, allow_subnormal=False), min_size=1, max_size=9),
    st.floats(0, 100, allow_subnormal=False),
    st.one_of(st.none(), st.integers(1, 12)),
    st.one_of(st.none(), st.floats(1e-9, 1)),
)
def test_whatever_the_logits_an_id_that_may_be_drawn_is_drawn(
    logits: list[float], temperature: float, top_k: int | None, top_p: float | None
) -> None:
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    given_ = torch.tensor([logits])  # single precision: what rounds to the same is a tie
    chosen = int(draw(given_, sampling, torch.Generator().manual_seed(1)))
    allowed = len(logits) if top_k is None else top_k
    assert int((given_[0] > given_[0, chosen]).sum()) < allowed
