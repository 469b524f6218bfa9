"""The model: counts equal the plan's, attention is causal, every kind of the spec can be built and learns."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tuner.spec.parts.model import ModelSpec
from tuner.spec.parts.optim import OptimSpec
from tuner.spec.trial import TrialSpec
from tuner.train.model.gpt import ACTIVATIONS, GPT, NORMS
from tuner.train.model.module import GPTModule
from tuner.train.model.optim import OPTIMIZERS, SCHEDULES
from tuner.train.model.shape import padded, shape

VOCAB, CONTEXT = 50, 32


def words(model: type, field: str) -> set[str]:
    return set(get_args(model.model_fields[field].annotation))  # type: ignore[attr-defined]


def test_every_word_of_the_spec_has_a_builder_and_no_builder_is_without_a_word() -> None:
    assert words(ModelSpec, "norm") == set(NORMS)
    assert words(ModelSpec, "activation") == set(ACTIVATIONS)
    assert words(OptimSpec, "kind") == set(OPTIMIZERS)
    assert words(OptimSpec, "schedule") == set(SCHEDULES)


KINDS = list(itertools.product(NORMS, ACTIVATIONS, ["tied", "untied"], ["rotary", "learned"]))
OTHERS: list[dict[str, Any]] = [
    {},
    {"smear": False},
    {"conv": 0},
    {"conv": 3},
    {"heads": 4, "kv_heads": 1},
    {"heads": 4, "kv_heads": 2, "activation": "swiglu"},
    {"vocab_multiple": 64},
    {"bias": True},
    {"bias": True, "norm": "layer", "activation": "swiglu", "heads": 4, "kv_heads": 2},
    {"vocab_multiple": 64, "head": "tied"},
]


@pytest.mark.parametrize(("norm", "activation", "head", "positions"), KINDS)
def test_parameters_are_those_the_plan_counts(norm: str, activation: str, head: str, positions: str) -> None:
    spec = ModelSpec(depth=2, width=48, norm=norm, activation=activation, head=head, positions=positions)
    model = GPT(spec, VOCAB, CONTEXT)
    assert sum(p.numel() for p in model.parameters()) == shape(spec, VOCAB, CONTEXT).parameters


@pytest.mark.parametrize("fields", OTHERS, ids=str)
def test_parameters_are_counted_whatever_the_kind(fields: dict[str, Any]) -> None:
    spec = ModelSpec(depth=2, width=48, **fields)
    assert sum(p.numel() for p in GPT(spec, VOCAB, CONTEXT).parameters()) == shape(spec, VOCAB, CONTEXT).parameters


def test_classic_is_nanogpts_small_shakespeare_model() -> None:
    spec = TrialSpec.model_validate({"recipe": "classic", "model": {"depth": 4, "width": 128, "heads": 4}}).model
    model = GPT(spec, 65, 64)
    assert model.positions is not None
    # what nanoGPT prints as "number of parameters", which leaves the positions out: 0.80M
    assert sum(p.numel() for p in model.parameters()) - model.positions.weight.numel() == 795_904


@pytest.mark.parametrize("fields", [*({"activation": name} for name in ACTIVATIONS), *OTHERS], ids=str)
def test_flops_are_within_one_percent_of_torchs_own_count(fields: dict[str, Any]) -> None:
    spec = ModelSpec(depth=3, width=64, **fields)
    model = GPT(spec, VOCAB, CONTEXT)
    ids = torch.zeros(2, CONTEXT, dtype=torch.long)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.loss(ids, ids).backward()
    counted = counter.get_total_flops() / ids.numel()
    assert shape(spec, VOCAB, CONTEXT).flops_per_token == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_a_token_never_sees_the_future(positions: str) -> None:
    torch.manual_seed(0)
    model = GPT(ModelSpec(depth=2, width=32, positions=positions, zero_init=False), VOCAB, CONTEXT).eval()
    for name, parameter in model.named_parameters():
        if "share" in name:
            torch.nn.init.normal_(parameter)
    ids = torch.randint(VOCAB, (1, CONTEXT))
    changed = ids.clone()
    changed[0, 20:] = (changed[0, 20:] + 1) % VOCAB
    before, after = model(ids), model(changed)
    assert torch.allclose(before[0, :20], after[0, :20], atol=1e-6)
    assert not torch.allclose(before[0, 20:], after[0, 20:])


def test_grouped_heads_are_full_heads_whose_keys_and_values_are_repeated() -> None:
    torch.manual_seed(0)
    grouped = GPT(ModelSpec(depth=1, width=32, heads=4, kv_heads=2, zero_init=False), VOCAB, CONTEXT)
    full = GPT(ModelSpec(depth=1, width=32, heads=4, zero_init=False), VOCAB, CONTEXT)
    weights = grouped.state_dict()
    for name in ("key", "value"):
        weight = weights[f"blocks.0.attention.{name}.weight"].view(2, 8, 32)
        weights[f"blocks.0.attention.{name}.weight"] = weight.repeat_interleave(2, dim=0).reshape(32, 32)
    full.load_state_dict(weights)
    ids = torch.randint(VOCAB, (2, CONTEXT))
    assert torch.allclose(grouped(ids), full(ids), atol=1e-6)


def test_a_padded_vocabulary_changes_nothing_but_the_shape_of_the_matrices() -> None:
    torch.manual_seed(0)
    ids = torch.randint(VOCAB, (2, CONTEXT))
    padded_model = GPT(ModelSpec(depth=1, width=32, vocab_multiple=64), VOCAB, CONTEXT)
    plain = GPT(ModelSpec(depth=1, width=32), VOCAB, CONTEXT)
    cut = {"tokens.weight", "head.weight"}
    plain.load_state_dict({n: w[:VOCAB] if n in cut else w for n, w in padded_model.state_dict().items()})
    assert padded_model.tokens.weight.shape[0] == padded(VOCAB, padded_model.spec) == 64
    assert padded_model(ids).shape[-1] == VOCAB
    assert torch.allclose(padded_model.loss(ids, ids), plain.loss(ids, ids), atol=1e-6)


def test_soft_capped_logits_stay_within_the_cap_and_keep_their_order() -> None:
    torch.manual_seed(0)
    free = GPT(ModelSpec(depth=1, width=32), VOCAB, CONTEXT)
    torch.nn.init.normal_(free.get_parameter("head.weight"), std=3.0)
    capped = GPT(ModelSpec(depth=1, width=32, softcap=5.0), VOCAB, CONTEXT)
    capped.load_state_dict(free.state_dict())
    ids = torch.randint(VOCAB, (2, CONTEXT))
    assert free(ids).abs().max() > 10
    assert capped(ids).abs().max() <= 5
    assert torch.equal(capped(ids).argmax(-1), free(ids).argmax(-1))


def test_z_loss_adds_the_squared_log_partition_and_leaves_the_reported_loss_alone() -> None:
    torch.manual_seed(0)
    model = GPT(ModelSpec(depth=1, width=32), VOCAB, CONTEXT)
    ids = torch.randint(VOCAB, (2, CONTEXT))
    minimised, loss = model.losses(ids, ids, z_loss=0.1)
    expected = model(ids).logsumexp(-1).square().mean()
    assert loss.item() == pytest.approx(model.loss(ids, ids).item(), rel=1e-6)
    assert minimised.item() == pytest.approx(loss.item() + 0.1 * expected.item(), rel=1e-6)


@pytest.mark.parametrize(("width", "heads"), [(64, 2), (96, 3), (128, 4), (192, 6), (256, 8), (384, 12), (768, 12)])
def test_heads_follow_the_width(width: int, heads: int) -> None:
    assert ModelSpec(width=width).head_count == heads


def test_every_width_has_whole_even_heads() -> None:
    for width in range(8, 800, 2):
        heads = ModelSpec(width=width).head_count
        assert width % heads == 0
        assert (width // heads) % 2 == 0


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_few_steps_lower_the_loss(kind: str, precision: str) -> None:
    torch.manual_seed(0)
    spec = TrialSpec.model_validate(
        {
            "model": {"depth": 1, "width": 32},
            "optim": {"kind": kind, "lr": 0.3 if kind == "adafactor" else 1e-2},  # the one is relative
            "batch": 4,
            "precision": precision,
            "accumulate": 1,
        }
    )
    module = GPTModule(spec, VOCAB, lambda: 0.3)
    batch = torch.randint(VOCAB, (4, CONTEXT + 1))
    losses = []
    for _ in range(12):
        module.training_step(batch, 0)
        losses.append(module.take_loss())
    assert losses[-1] < losses[0] - 0.3


def test_accumulation_gives_the_same_step_as_the_whole_batch() -> None:
    batch = torch.randint(VOCAB, (8, CONTEXT + 1))
    stepped = []
    for accumulate in (1, 4):
        torch.manual_seed(0)
        spec = TrialSpec.model_validate({"model": {"depth": 1, "width": 32}, "batch": 8, "accumulate": accumulate})
        module = GPTModule(spec, VOCAB, lambda: 0.3)
        module.training_step(batch, 0)
        stepped.append((module.take_loss(), torch.cat([p.flatten() for p in module.gpt.parameters()])))
    assert stepped[0][0] == pytest.approx(stepped[1][0], rel=1e-5)
    assert torch.allclose(stepped[0][1], stepped[1][1], atol=2e-4)


def test_only_matrices_are_decayed() -> None:
    optim = {"kind": "adamw", "weight_decay": 0.5}
    spec = TrialSpec.model_validate({"model": {"depth": 1, "width": 32}, "optim": optim})
    (optimizer,) = GPTModule(spec, VOCAB, lambda: 0.0).stepping
    for group in optimizer.param_groups:
        vectors = [p.ndim < 2 for p in group["params"]]
        assert all(vectors) if group["weight_decay"] == 0 else not any(vectors)


def test_evaluation_reads_every_token_once_and_leaves_dropout_on() -> None:
    torch.manual_seed(0)
    spec = TrialSpec.model_validate({"model": {"depth": 1, "width": 32, "dropout": 0.3}})
    module = GPTModule(spec, VOCAB, lambda: 0.0)
    module.train()
    ids = torch.randint(VOCAB, (3, CONTEXT)).numpy()
    state = torch.get_rng_state()
    whole = module.evaluate([(ids, ids)])
    parts = module.evaluate([(ids[:1], ids[:1]), (ids[1:], ids[1:])])
    assert whole == pytest.approx(parts, rel=1e-6)
    assert module.gpt.training
    assert torch.equal(state, torch.get_rng_state())
