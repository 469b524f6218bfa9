"""Making a model smaller: parts of it, zeros, fewer bits; what is measured is what the file holds."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import few
from hypothesis import given
from hypothesis import strategies as st
from test_adapt import MODEL
from test_adapt import spec as trial_spec
from test_fit import assert_resumes, train

from tuner.spec.errors import DataError
from tuner.spec.parts.model import CompressSpec, ModelSpec
from tuner.spec.trial import TrialSpec
from tuner.train import checkpoint
from tuner.train.model.gpt import GPT
from tuner.train.model.shape import shape
from tuner.train.model.slim.bits import GROUP, SCALE, pack, rounded, scaled, unpack
from tuner.train.model.slim.part import part_of
from tuner.train.model.slim.prune import STAGES, Pruning, share, sparsity
from tuner.train.model.slim.rounding import Rounding
from tuner.train.text.corpus import open_corpus
from tuner.train.use.trained import load_checkpoint


@pytest.fixture
def spec(text_file: Path) -> Any:
    return functools.partial(trial_spec, text_file)


@given(st.integers(1, 9), st.integers(1, 90), st.sampled_from([8, 4]), st.integers(0, 2**31))
def test_a_packed_matrix_is_half_a_step_off_at_most(rows: int, columns: int, bits: int, seed: int) -> None:
    torch.manual_seed(seed)
    matrix = torch.randn(rows, columns) * torch.rand(rows, 1)
    matrix[0] = 0
    weights = {"blocks.0.x.weight": matrix, "tokens.weight": matrix, "norm.weight": torch.randn(columns)}
    packed = pack(weights, bits)
    found = unpack(packed)
    assert found.keys() == weights.keys()
    assert torch.equal(found["norm.weight"], weights["norm.weight"])
    for name in ("blocks.0.x.weight", "tokens.weight"):
        few = bits == 4 and name.startswith("blocks.") and columns % 2 == 0
        assert packed[name].nbytes <= rows * columns // (2 if few else 1)
        assert packed[name + SCALE].shape == (rows, -(-columns // GROUP) if few else 1)
        size = GROUP if few else columns
        for first in range(0, columns, size):
            ours, theirs = matrix[:, first : first + size], found[name][:, first : first + size]
            step = ours.abs().amax(1, keepdim=True) / (7 if few else 127)
            assert ((ours - theirs).abs() <= 0.5001 * step).all()
            assert torch.allclose(ours.abs().amax(1), theirs.abs().amax(1))
    assert all(torch.equal(one, weights[name]) for name, one in unpack(pack(weights, 32)).items())


@given(st.integers(1, 9), st.integers(1, 90), st.sampled_from([32, 8, 4]), st.floats(0, 1), st.integers(0, 2**31))
def test_zeros_take_a_bit_and_come_back(rows: int, columns: int, bits: int, zeros: float, seed: int) -> None:
    torch.manual_seed(seed)
    matrix = torch.where(torch.rand(rows, columns) < zeros, 0.0, torch.randn(rows, columns))
    dense = torch.randn(rows, columns).abs() + 1
    weights = {"blocks.0.x.weight": matrix, "head.weight": dense, "norm.weight": dense[0]}
    packed = pack(weights, bits)
    found = unpack(packed)
    assert found.keys() == weights.keys()
    assert (found["blocks.0.x.weight"][matrix == 0] == 0).all()
    assert bits < 32 or torch.equal(found["blocks.0.x.weight"], matrix)
    each = 4 if bits == 4 and columns % 2 == 0 else max(bits, 8)
    least = min(each, each * float((matrix != 0).float().mean()) + 8 * -(-columns // 8) / columns) / 8 * matrix.numel()
    scales = packed["blocks.0.x.weight" + SCALE].nbytes if bits < 32 else 0
    taken = sum(one.nbytes for name, one in packed.items() if name.startswith("blocks."))
    assert taken <= max(least / 0.95, least + 1) + scales + 8


@pytest.mark.parametrize("compute", ["fp32", "int8"])
@pytest.mark.parametrize("bits", [8, 4])
def test_a_trial_ends_in_fewer_bits_and_is_measured_so(spec: Any, place: Any, bits: int, compute: str) -> None:
    trial = spec(compress={"bits": bits, "compute": compute})
    outcome, link = train(trial, place("a"))
    _, plain = train(spec(), place("b"))
    assert {k: v for k, v in link.milestones.items() if k < 4} == {k: v for k, v in plain.milestones.items() if k < 4}
    assert link.milestones[4] != plain.milestones[4]
    folder = checkpoint.checkpoints(place("a").folder) / str(outcome.checkpoint)
    loaded = load_checkpoint(folder, place("a").corpora)
    losses = loaded.part_losses(open_corpus(trial.data, place("a").corpora), "val", trial.data.val_tokens)
    assert losses.mean() == pytest.approx(link.milestones[4], rel=1e-5)
    mine, theirs = (one.rows[-1].metrics["bytes"] for one in (link, plain))
    assert mine < (0.36 if bits == 8 else 0.33) * theirs  # of matrices 16 wide: the scales weigh much
    assert (folder / checkpoint.WEIGHTS).stat().st_size == pytest.approx(mine, abs=8000)


def test_what_computes_in_int8_is_measured_so(spec: Any, place: Any) -> None:
    _, link = train(spec(compress={"compute": "int8"}), place("a"))
    _, plain = train(spec(), place("b"))
    assert {k: v for k, v in link.milestones.items() if k < 4} == {k: v for k, v in plain.milestones.items() if k < 4}
    assert link.milestones[4] != plain.milestones[4]
    assert link.milestones[4] == pytest.approx(plain.milestones[4], abs=0.01)
    assert link.rows[-1].metrics["bytes"] == plain.rows[-1].metrics["bytes"]


def test_training_sees_rounded_weights_from_when_it_is_told(spec: Any, place: Any) -> None:
    _, link = train(spec(compress={"bits": 4, "round_from": 0.5}), place("a"))
    _, plain = train(spec(compress={"bits": 4}), place("b"))
    assert [link.milestones[k] == plain.milestones[k] for k in (1, 2, 3, 4)] == [True, True, False, False]


@pytest.mark.parametrize("bits", [8, 4])
def test_a_step_is_reckoned_with_rounded_weights_and_moves_the_others(bits: int) -> None:
    torch.manual_seed(1)
    gpt = GPT(ModelSpec.model_validate({**MODEL, "zero_init": False}), 30, 8).eval()
    exact = {name: one.detach().clone() for name, one in gpt.named_parameters()}
    ids, targets = torch.randint(0, 30, (2, 8)), torch.randint(0, 30, (2, 8))
    rounding = Rounding(gpt, CompressSpec.model_validate({"bits": bits, "round_from": 0.4}))
    with rounding.seen(0.39):
        assert all(torch.equal(one, exact[name]) for name, one in gpt.named_parameters())
    with rounding.seen(0.4):
        seen = {name: one.detach().clone() for name, one in gpt.named_parameters()}
        gpt.loss(ids, targets).backward()
    assert all(torch.equal(one, exact[name]) for name, one in gpt.named_parameters())
    assert all(torch.equal(one, seen[name]) for name, one in unpack(pack(exact, bits)).items())
    other = GPT(gpt.spec, 30, 8)
    other.eval().load_state_dict(seen)
    other.loss(ids, targets).backward()
    for one, theirs in zip(gpt.parameters(), other.parameters(), strict=True):
        assert one.grad is not None
        assert theirs.grad is not None
        assert torch.equal(one.grad, theirs.grad)


CUTS: list[dict[str, Any]] = [
    {"bits": 4},
    {"sparsity": 0.6},
    {"sparsity": 0.5, "bits": 8},
    {"sparsity": 0.5, "prune_from": 0.4, "bits": 4, "round_from": 0.2, "compute": "int8"},
]


@pytest.mark.parametrize("compress", CUTS, ids=str)
@pytest.mark.parametrize("after", few(41, 7, 23, 44, mark=pytest.mark.long))
def test_an_interrupted_one_ends_bit_identical(spec: Any, place: Any, compress: Any, after: int) -> None:
    """Cut between two rows, and in the middle of evaluations, the last among them."""
    trial = spec(compress=compress)
    assert_resumes(trial, place, after)


def test_the_smallest_weights_become_zero_and_stay(spec: Any, place: Any) -> None:
    trial = spec(compress={"sparsity": 0.6, "ramp": 0.25})
    outcome, link = train(trial, place("a"))
    told = [row.metrics["sparsity"] for row in link.rows if row.milestone]
    assert told == pytest.approx([0.6] * 4, abs=1e-3)
    weights = checkpoint.verify(checkpoint.checkpoints(place("a").folder) / str(outcome.checkpoint)).weights()
    assert sparsity(weights) == pytest.approx(0.6, abs=1e-3)
    assert all((weights[name] != 0).all() for name in ("tokens.weight", "head.weight"))
    assert str(outcome.checkpoint) == "step-00000040"  # not the best of those that were larger


@pytest.mark.parametrize("progress", [0.0125, 0.1, 0.9875])
def test_zeros_grow_as_the_budget_is_spent(progress: float) -> None:
    torch.manual_seed(1)
    gpt = GPT(ModelSpec.model_validate({**MODEL, "zero_init": False}), 30, 8)
    pruning = Pruning(gpt, CompressSpec(sparsity=0.5, ramp=0.5))
    before = {name: one.clone() for name, one in gpt.state_dict().items()}
    pruning.step(progress)
    stage = min(STAGES, -(-progress * STAGES // 0.5))
    assert sparsity(gpt.state_dict()) == pytest.approx(share(CompressSpec(sparsity=0.5), int(stage)), abs=1e-3)
    kept = torch.cat([one[one != 0].abs() for name, one in gpt.state_dict().items() if is_matrix(name, one)])
    gone = [before[name][one == 0].abs() for name, one in gpt.state_dict().items() if is_matrix(name, one)]
    assert torch.cat(gone).max() <= kept.min()
    for one in gpt.parameters():
        one.data.fill_(1.0)
    pruning.step(progress)
    assert sparsity(gpt.state_dict()) == pytest.approx(share(CompressSpec(sparsity=0.5), int(stage)), abs=1e-3)


def test_zeros_begin_where_they_are_told_to() -> None:
    torch.manual_seed(1)
    gpt = GPT(ModelSpec.model_validate({**MODEL, "zero_init": False}), 30, 8)
    pruning = Pruning(gpt, CompressSpec(sparsity=0.5, prune_from=0.6, ramp=0.5))
    told = []
    for progress in (0.3, 0.6, 0.7, 0.8, 1.0):
        pruning.step(progress)
        told.append(sparsity(gpt.state_dict()))
    assert told[:2] == [0, 0]
    assert told[2] == pytest.approx(share(CompressSpec(sparsity=0.5), STAGES // 2), abs=0.02)
    assert told[3:] == pytest.approx([0.5, 0.5], abs=1e-3)


def is_matrix(name: str, one: torch.Tensor) -> bool:
    return one.ndim == 2 and name.startswith("blocks.")


WHOLE = [
    {},
    {"activation": "swiglu"},
    {"activation": "gelu_tanh", "bias": True, "norm": "layer", "positions": "learned", "qk_norm": False},
]


@pytest.mark.parametrize("kinds", WHOLE, ids=str)
def test_what_weighs_nothing_is_what_is_left_out(kinds: dict[str, Any]) -> None:
    """Heads and neurons that write nothing: the model without them says the same, with less to compute."""
    torch.manual_seed(1)
    whole = ModelSpec.model_validate({"depth": 3, "width": 24, "heads": 4, "zero_init": False, **kinds})
    part = whole.model_copy(update={"heads": 3, "head_width": 6, "hidden": whole.hidden_size - 5})
    gpt = GPT(whole, 30, 8)
    for one in gpt.parameters():
        torch.nn.init.normal_(one, std=0.3)
    for layer, block in enumerate(gpt.blocks):
        block.attention.out.weight.data[:, 6 * layer : 6 * layer + 6] = 0
        block.mlp.out.weight.data[:, [1, 2, 7, 11, 20 + layer]] = 0
    less = GPT(part, 30, 8)
    less.load_state_dict(part_of(gpt.state_dict(), whole, part, "base"))
    ids = torch.randint(0, 30, (2, 8))
    assert torch.allclose(less(ids), gpt(ids), atol=1e-5)
    assert sum(one.numel() for one in less.parameters()) == shape(part, 30, 8).parameters
    assert shape(part, 30, 8).flops_per_token < shape(whole, 30, 8).flops_per_token
    cache = less.cache()
    with torch.no_grad():
        less.eval()
        stepped = [less(ids[:, :5], cache)] + [less(ids[:, place : place + 1], cache) for place in (5, 6, 7)]
        assert torch.allclose(torch.cat(stepped, 1), less(ids)[:, 4:], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"depth": 3}, "model.depth is 3, and base has 2 layers to take"),
        ({"heads": 3, "head_width": 8}, "model.heads is 3, and base has 2 heads to take"),
        ({"hidden": 65}, "model.hidden is 65, and base has 64 neurons to take"),
    ],
)
def test_more_than_there_is_cannot_be_taken(changes: dict[str, Any], sentence: str) -> None:
    whole = ModelSpec.model_validate(MODEL)
    weights = GPT(whole, 30, 8).state_dict()
    with pytest.raises(DataError, match=sentence):
        part_of(weights, whole, ModelSpec.model_validate(MODEL | changes), "base")


def test_heads_that_share_keys_are_taken_whole() -> None:
    whole = ModelSpec.model_validate({"depth": 1, "width": 32, "heads": 4, "kv_heads": 2})
    part = whole.model_copy(update={"heads": 2, "head_width": 8})
    with pytest.raises(DataError, match="which share keys; take all"):
        part_of(GPT(whole, 30, 8).state_dict(), whole, part, "base")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"compress": {"bits": 16}}, "bits"),
        ({"compress": {"sparsity": 1.0}}, "sparsity"),
        ({"compress": {"ramp": 0}}, "ramp"),
        ({"compress": {"sparsity": 0.5, "prune_from": 0.95}}, "prune_from"),
        ({"compress": {"prune_from": 0.5}}, "prune_from is 0.5 and sparsity 0, so no zeros come; set sparsity"),
        ({"compress": {"bits": 8, "round_from": 1.5}}, "round_from"),
        ({"compress": {"round_from": 0.5}}, "round_from is 0.5, and with bits 32 and compute fp32 nothing is rounded"),
        ({"compress": {"compute": "int4"}}, "compute"),
        ({"compress": {"compute": "int8"}, "init": {"source": "x", "lora": {"rank": 2}}}, "compress beside init.lora"),
        ({"compress": {"bits": 8}, "init": {"source": "x", "lora": {"rank": 2}}}, "compress beside init.lora"),
        ({"compress": {"sparsity": 0.5}, "devices": 2, "strategy": "fsdp", "compile": False}, "fsdp with compress"),
    ],
)
def test_what_cannot_be_is_said_before_training(spec: Any, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        spec(**changes)


def test_a_trial_of_before_its_parts_is_the_trial_it_was(spec: Any) -> None:
    told = spec(compress={"bits": 8}).as_data()
    assert told["compress"] == {"sparsity": 0.0, "ramp": 0.5, "bits": 8}
    assert TrialSpec.model_validate(told) == spec(compress={"bits": 8})


def test_where_the_file_keeps_32_bits_an_embedding_is_exact() -> None:
    gpt = GPT(ModelSpec.model_validate({**MODEL, "zero_init": False, "head": "tied"}), 30, 8)
    before = gpt.tokens.weight.detach().clone()
    with Rounding(gpt, CompressSpec(compute="int8", round_from=0)).seen(0.0):
        assert torch.equal(gpt.tokens.weight, before)
        up = gpt.blocks[0].mlp.up.weight.detach()
        assert torch.allclose(scaled(*rounded(up, 8)), up, atol=1e-7)


def test_a_trial_without_it_is_the_trial_it_was(spec: Any) -> None:
    assert "compress" not in spec().as_data()
    assert not {"head_width", "hidden"} & spec().as_data()["model"].keys()
