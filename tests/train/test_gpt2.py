"""GPT-2 in Hugging Face's format, against transformers itself: equal logits both ways, or a clear sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tuner.spec.errors import CheckpointError, DataError, TunerError
from tuner.spec.parts.model import ModelSpec
from tuner.spec.trial import TrialSpec
from tuner.train.model.gpt import GPT
from tuner.train.text.tokenizer import ByteTokenizer, LibraryTokenizer
from tuner.train.use.gpt2 import is_gpt2, read_gpt2, write_gpt2
from tuner.train.use.trained import load_model

TEXT = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer. " * 5


def words() -> Tokenizer:
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    library.train_from_iterator([TEXT], trainer)
    return library


def theirs(folder: Path, **changes: Any) -> GPT2LMHeadModel:
    """A tiny random GPT-2, saved as transformers does."""
    torch.manual_seed(1)
    library = words()
    config = GPT2Config(vocab_size=library.get_vocab_size(), n_positions=24, n_embd=32, n_layer=3, n_head=4, **changes)
    model = GPT2LMHeadModel(config).eval()
    for parameter in model.parameters():  # biases and gains that are not what they begin as
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    library.save(str(folder / "tokenizer.json"))
    return model


def distance(model: GPT2LMHeadModel, ours: GPT) -> float:
    ids = torch.randint(0, ours.vocab, (3, 24), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return float((model(ids).logits - ours(ids)).abs().max())


@pytest.mark.parametrize(
    "changes",
    [{}, {"activation_function": "gelu"}, {"tie_word_embeddings": False}, {"n_inner": 128}],
    ids=str,
)
def test_a_gpt2_has_the_logits_that_transformers_gives_it_there_and_back(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    model = theirs(tmp_path / "theirs", **changes)
    assert is_gpt2(tmp_path / "theirs")
    read_gpt2(tmp_path / "theirs", tmp_path / "ours")
    ours = load_model(tmp_path / "ours")
    assert distance(model, ours.gpt) < 1e-5
    assert not is_gpt2(tmp_path / "ours")
    write_gpt2(tmp_path / "ours", tmp_path / "back")
    back = GPT2LMHeadModel.from_pretrained(tmp_path / "back").eval()
    assert distance(back, ours.gpt) < 1e-5
    assert torch.equal(back.transformer.wte.weight, model.transformer.wte.weight)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path / "back")
    assert tokenizer("To be, or not").input_ids == list(ours.tokenizer.encode(["To be, or not"])[0])
    assert tokenizer.eos_token_id == ours.tokenizer.end


def plain(folder: Path, tokenizer: Any, **fields: Any) -> GPT:
    """A model of ours with random weights, as a plain folder."""
    trial = TrialSpec.model_validate(
        {"recipe": "classic", "model": {"depth": 2, "width": 32, **fields}, "data": {"context": 24}}
    )
    gpt = GPT(trial.model, tokenizer.vocab, 24).eval()
    for parameter in gpt.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    folder.mkdir()
    save_file(gpt.state_dict(), folder / "model.safetensors")
    facts = {"vocab": tokenizer.vocab, "tokenizer_fingerprint": tokenizer.fingerprint}
    (folder / "spec.json").write_text(json.dumps({"trial": trial.as_data(), "facts": facts}))
    tokenizer.save(folder)
    return gpt


@pytest.mark.parametrize(
    "fields", [{}, {"bias": True}, {"head": "untied"}, {"vocab_multiple": 64}, {"activation": "gelu_tanh"}], ids=str
)
def test_a_classic_model_is_a_gpt2_to_transformers(tmp_path: Path, fields: dict[str, Any]) -> None:
    ours = plain(tmp_path / "ours", LibraryTokenizer(words().to_str()), **fields)
    write_gpt2(tmp_path / "ours", tmp_path / "theirs")
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "theirs").eval()
    assert model.config.vocab_size == ours.vocab
    assert distance(model, ours) < 1e-5


def test_what_is_another_there_is_said(tmp_path: Path) -> None:
    plain(tmp_path / "ours", ByteTokenizer())
    assert write_gpt2(tmp_path / "ours", tmp_path / "theirs") == []
    record = json.loads((tmp_path / "ours" / "spec.json").read_text())
    record["trial"]["compress"] = {"compute": "int8", "bits": 8}
    (tmp_path / "ours" / "spec.json").write_text(json.dumps(record))
    (said,) = write_gpt2(tmp_path / "ours", tmp_path / "again")
    assert "computes in int8 here and in fp32 in transformers" in said


def test_a_tokenizer_of_bytes_goes_with_it_as_it_is(tmp_path: Path) -> None:
    ours = plain(tmp_path / "ours", ByteTokenizer())
    write_gpt2(tmp_path / "ours", tmp_path / "theirs")
    assert distance(GPT2LMHeadModel.from_pretrained(tmp_path / "theirs").eval(), ours) < 1e-5
    assert (tmp_path / "theirs" / "tokenizer_state.json").exists()


def test_what_is_no_gpt2_is_not_written_as_one(tmp_path: Path) -> None:
    plain(tmp_path / "ours", ByteTokenizer(), norm="rms", conv=2, heads=2, kv_heads=1)
    with pytest.raises(CheckpointError, match=r"norm is rms, not layer, model.conv is 2.*kv_heads.*recipe: classic"):
        write_gpt2(tmp_path / "ours", tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def test_words_and_merges_are_a_tokenizer_too(tmp_path: Path) -> None:
    theirs(tmp_path / "theirs")
    words().model.save(str(tmp_path / "theirs"))
    read_gpt2(tmp_path / "theirs", tmp_path / "one")
    (tmp_path / "theirs" / "tokenizer.json").unlink()
    read_gpt2(tmp_path / "theirs", tmp_path / "two")
    one, two = load_model(tmp_path / "one"), load_model(tmp_path / "two")
    assert list(one.tokenizer.encode([TEXT])[0]) == list(two.tokenizer.encode([TEXT])[0])
    assert one.tokenizer.end == two.tokenizer.end


WRONG: list[tuple[str, Any, str]] = [
    ("config", {"model_type": "llama"}, "model_type is 'llama'"),
    ("config", {"activation_function": "relu"}, "activation_function is 'relu'"),
    ("config", {"n_inner": 100}, "n_inner is 100"),
    ("config", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ("config", {"n_head": 5}, "does not divide into 5 heads"),
    ("config", {"n_layer": 4}, "has no h.3"),
    ("config", {"n_positions": None}, "n_positions"),
    ("config", {"n_embd": 64}, "three times 64"),
    ("file", "config.json", "expected the description"),
    ("file", "model.safetensors", "does not load"),
    ("file", "tokenizer.json", "no tokenizer can be read"),
    ("gone", "model.safetensors", "safetensors only"),
]


@pytest.mark.parametrize(("what", "change", "said"), WRONG, ids=[f"{w}-{c}" for w, c, _ in WRONG])
def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path: Path, what: str, change: Any, said: str) -> None:
    theirs(tmp_path / "theirs")
    config = tmp_path / "theirs" / "config.json"
    if what == "config":
        config.write_text(json.dumps(json.loads(config.read_text()) | change))
    elif what == "file":
        (tmp_path / "theirs" / change).write_bytes(b"\x00 nonsense")
    else:
        (tmp_path / "theirs" / change).unlink()
    with pytest.raises(TunerError, match=said) as caught:
        read_gpt2(tmp_path / "theirs", tmp_path / "ours")
    assert isinstance(caught.value, CheckpointError | DataError)
    assert str(tmp_path / "theirs") in str(caught.value)


def test_a_gpt2_is_the_model_that_the_words_of_the_spec_say(tmp_path: Path) -> None:
    theirs(tmp_path / "theirs")
    read_gpt2(tmp_path / "theirs", tmp_path / "ours")
    spec = load_model(tmp_path / "ours").spec
    assert spec.model == ModelSpec.model_validate(spec.model.model_dump())
    assert (spec.model.bias, spec.model.activation, spec.data.context) == (True, "gelu_tanh", 24)
