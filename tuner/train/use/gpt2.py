"""GPT-2 in Hugging Face's format: a folder of theirs becomes a plain model folder, and a plain model folder theirs.
Tensors by their names, with numpy alone; transformers is not needed, and no pickle is ever read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tuner.spec.disk import note
from tuner.spec.errors import CheckpointError, DataError
from tuner.spec.parts.data import DataSpec, TokenizerSpec
from tuner.spec.parts.model import ModelSpec
from tuner.spec.records import classes_of
from tuner.spec.trial import TrialSpec
from tuner.train.checkpoint import SPEC, WEIGHTS, read_weights, written
from tuner.train.text.tokenizer import LibraryTokenizer, Tokenizer, load_tokenizer
from tuner.train.use.trained import read_record

CONFIG = "config.json"
_INDEX = f"{WEIGHTS}.index.json"
_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
_FIXED: Mapping[str, Any] = {
    "model_type": "gpt2",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
"""What our block does, in GPT2Config's words; the values are also its defaults."""
_DEFAULTS: Mapping[str, Any] = {
    "n_positions": 1024,
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 768,
    "n_inner": None,
    "activation_function": "gelu_new",
    "tie_word_embeddings": True,
}
"""GPT2Config's own."""
_GPT2: Mapping[str, tuple[Any, ...]] = {
    "positions": ("learned",),
    "norm": ("layer",),
    "activation": ("gelu_tanh", "gelu"),
    "qk_norm": (False,),
    "conv": (0,),
    "smear": (False,),
    "softcap": (None,),
    "hidden": ("auto",),
    "head_width": ("auto",),
}
"""What a GPT-2 is, in ModelSpec's words."""

Arrays = dict[str, NDArray[Any]]


def is_gpt2(folder: Path) -> bool:
    """Does the folder say that it is a model in Hugging Face's format? A plain model folder has no such file."""
    return (folder / CONFIG).is_file() and not (folder / SPEC).exists()


def read_gpt2(folder: Path, into: Path) -> None:
    """Write the GPT-2 in ``folder`` (config.json, safetensors, tokenizer.json or vocab.json with merges.txt) as the
    plain model folder ``into``, with equal logits.

    Raises:
        CheckpointError: a file is missing or damaged, or the model is none that our blocks can be.
        DataError: the tokenizer cannot be read.
    """
    config = _config(folder)
    tokenizer = _tokenizer(folder)
    model = _model(folder, config)
    theirs = _weights(folder)
    tokens = _taken(theirs, "wte.weight", folder)
    if tokenizer.vocab > len(tokens):
        raise CheckpointError(
            f"{folder}: its tokenizer has ids up to {tokenizer.vocab - 1}, its embedding {len(tokens)} rows; the files "
            "do not belong together."
        )
    ours: Arrays = {"tokens.weight": tokens[: tokenizer.vocab]}
    for own, name, turned in _names(model):
        ours[own] = _taken(theirs, name, folder).T if turned else _taken(theirs, name, folder)
    for layer in range(model.depth):
        for kind in ("weight", "bias"):
            stacked = _taken(theirs, f"h.{layer}.attn.c_attn.{kind}", folder)
            if stacked.shape[-1] != 3 * model.width:
                raise CheckpointError(
                    f"{folder / WEIGHTS}: h.{layer}.attn.c_attn.{kind} has shape {stacked.shape}, and config.json says "
                    f"that three times {model.width} are expected."
                )
            for part, name in zip(np.split(stacked, 3, axis=-1), ("query", "key", "value"), strict=True):
                ours[f"blocks.{layer}.attention.{name}.{kind}"] = part.T
    if model.head == "untied":
        ours["head.weight"] = _taken(theirs, "lm_head.weight", folder)[: tokenizer.vocab]
    data = _data(folder, config)
    record = {
        "trial": TrialSpec(model=model, data=data).as_data(),
        "facts": {
            "vocab": tokenizer.vocab,
            "tokenizer_fingerprint": tokenizer.fingerprint,
            "parameters": int(sum(array.size for array in ours.values())),
        },
    }
    into.mkdir(parents=True, exist_ok=True)
    with written(into / WEIGHTS):
        save_file({name: np.ascontiguousarray(array, np.float32) for name, array in ours.items()}, into / WEIGHTS)
    tokenizer.save(into)
    note(into / SPEC, json.dumps(record, indent=1, sort_keys=True))


def write_gpt2(folder: Path, into: Path) -> list[str]:
    """Write the plain model folder ``folder`` as the folder ``into`` that ``transformers`` loads, with equal logits; a
    model that computes in int8 does so in fp32 there. Returns a sentence for each thing that is another there.

    A tokenizer of bytes or characters has no such format; its own files go with it.

    Raises:
        CheckpointError: its blocks are no GPT-2's, or it cannot be read.
    """
    spec, facts = read_record(folder)
    if classes_of(facts):
        raise CheckpointError(f"{folder}: a classifier cannot be written as a GPT-2, which goes on with texts.")
    try:
        ours = {name: one.numpy() for name, one in read_weights(folder / WEIGHTS).items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder / WEIGHTS}: does not load ({error}).") from error
    model, tokenizer = spec.model, load_tokenizer(folder)
    if wrong := list(_differences(model)):
        raise CheckpointError(
            f"{folder}: this model is no GPT-2 and cannot be written as one: {', '.join(wrong)}. A model of "
            "recipe: classic can."
        )
    theirs: Arrays = {"transformer.wte.weight": ours["tokens.weight"][: tokenizer.vocab]}
    for own, name, turned in _names(model):
        array = ours.get(own)
        if array is None:  # a model without biases adds nothing
            array = np.zeros(len(ours[own.replace(".bias", ".weight")]), np.float32)
        theirs[f"transformer.{name}"] = array.T if turned else array
    for layer in range(model.depth):
        place = f"blocks.{layer}.attention"
        parts = [f"{place}.{name}" for name in ("query", "key", "value")]
        weight = np.concatenate([ours[f"{part}.weight"] for part in parts])
        theirs[f"transformer.h.{layer}.attn.c_attn.weight"] = weight.T
        biases = [ours[f"{part}.bias"] for part in parts] if model.bias else [np.zeros(len(weight), np.float32)]
        theirs[f"transformer.h.{layer}.attn.c_attn.bias"] = np.concatenate(biases)
    if model.head == "untied":
        theirs["lm_head.weight"] = ours["head.weight"][: tokenizer.vocab]
    into.mkdir(parents=True, exist_ok=True)
    whole = {name: np.ascontiguousarray(array) for name, array in theirs.items()}
    with written(into / WEIGHTS):  # transformers loads no file that does not say whose tensors they are
        save_file(whole, into / WEIGHTS, metadata={"format": "pt"})
    tokenizer.save(into)
    note(into / CONFIG, json.dumps(_described(spec, tokenizer), indent=1))
    if isinstance(tokenizer, LibraryTokenizer):
        words = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": spec.data.context}
        end = None if tokenizer.end is None else tokenizer.decode([tokenizer.end])
        ends = {"bos_token": end, "eos_token": end, "unk_token": end} if end else {}
        note(into / "tokenizer_config.json", json.dumps(words | ends, indent=1))
    told = []
    if spec.compress.compute == "int8":
        told.append("it computes in int8 here and in fp32 in transformers, so its answers differ a little")
    if (larger := (into / WEIGHTS).stat().st_size / (folder / WEIGHTS).stat().st_size) > 1.5:
        told.append(f"its file is in fp32 again, {larger:.1f} times as large")
    return told


def _names(model: ModelSpec) -> Iterator[tuple[str, str, bool]]:
    """Our name, theirs without its prefix, and is it turned: their products are (in, out). Queries, keys and values,
    which they stack, and the embedding are left out.
    """
    yield "positions.weight", "wpe.weight", False
    for layer in range(model.depth):
        ours, theirs = f"blocks.{layer}", f"h.{layer}"
        for kind in ("weight", "bias"):
            turned = kind == "weight"
            yield f"{ours}.norm_attention.{kind}", f"{theirs}.ln_1.{kind}", False
            yield f"{ours}.attention.out.{kind}", f"{theirs}.attn.c_proj.{kind}", turned
            yield f"{ours}.norm_mlp.{kind}", f"{theirs}.ln_2.{kind}", False
            yield f"{ours}.mlp.up.{kind}", f"{theirs}.mlp.c_fc.{kind}", turned
            yield f"{ours}.mlp.out.{kind}", f"{theirs}.mlp.c_proj.{kind}", turned
    for kind in ("weight", "bias"):
        yield f"norm.{kind}", f"ln_f.{kind}", False


def _config(folder: Path) -> dict[str, Any]:
    """GPT2Config's fields, with its defaults where they are not written."""
    try:
        config = dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        config = {**_DEFAULTS, **config}
        wrong = {name: config.get(name, said) for name, said in _FIXED.items() if config.get(name, said) != said}
        if config["n_inner"] not in (None, 4 * config["n_embd"]):
            wrong["n_inner"] = config["n_inner"]
        if config["activation_function"] not in _ACTIVATIONS:
            wrong["activation_function"] = config["activation_function"]
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: expected the description of a GPT-2 ({error}).") from error
    if wrong:
        told = ", ".join(f"{name} is {value!r}" for name, value in wrong.items())
        raise CheckpointError(f"{folder / CONFIG}: no GPT-2 that can be loaded: {told}.")
    return config


def _model(folder: Path, config: Mapping[str, Any]) -> ModelSpec:
    fields = {
        **{name: values[0] for name, values in _GPT2.items()},
        "depth": config["n_layer"],
        "width": config["n_embd"],
        "heads": config["n_head"],
        "activation": _ACTIVATIONS[config["activation_function"]],
        "head": "tied" if config["tie_word_embeddings"] else "untied",
        "bias": True,
        "zero_init": False,
    }
    try:
        return ModelSpec.model_validate(fields)
    except ValueError as error:
        raise CheckpointError(f"{folder / CONFIG}: {' '.join(str(error).split())[:300]}") from error


def _data(folder: Path, config: Mapping[str, Any]) -> DataSpec:
    try:
        return DataSpec(context=config["n_positions"], tokenizer=TokenizerSpec(kind="file", path="tokenizer.json"))
    except ValueError as error:
        raise CheckpointError(f"{folder / CONFIG}: n_positions: {' '.join(str(error).split())[:300]}") from error


def _tokenizer(folder: Path) -> LibraryTokenizer:
    from tokenizers import ByteLevelBPETokenizer

    try:
        if (folder / "tokenizer.json").exists():
            return LibraryTokenizer((folder / "tokenizer.json").read_text(encoding="utf-8"))
        library = ByteLevelBPETokenizer.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
        library.add_special_tokens(["<|endoftext|>"])
        return LibraryTokenizer(library.to_str())
    except Exception as error:  # the library raises bare Exception
        raise DataError(
            f"{folder}: no tokenizer can be read there ({error}); expected tokenizer.json, or vocab.json and merges.txt"
        ) from error


def _weights(folder: Path) -> Arrays:
    """Every tensor by its name without ``transformer.``, in fp32."""
    try:
        files = {WEIGHTS}
        if (folder / _INDEX).exists():
            files = set(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values())
        found: Arrays = {}
        for file in sorted(files):
            found |= load_file(folder / Path(file).name)  # never above the folder, whatever the index says
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{error.filename or folder / WEIGHTS}: there is no such file; weights are read from safetensors only, as "
            "save_pretrained writes them."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointError(f"{folder / WEIGHTS}: does not load ({error}); fp32 and fp16 do.") from error
    return {name.removeprefix("transformer."): array.astype(np.float32) for name, array in found.items()}


def _taken(arrays: Arrays, name: str, folder: Path) -> NDArray[Any]:
    try:
        return arrays[name]
    except KeyError:
        raise CheckpointError(f"{folder / WEIGHTS}: has no {name}; expected a GPT-2 as config.json says.") from None


def _differences(model: ModelSpec) -> Iterator[str]:
    for name, values in _GPT2.items():
        if (value := getattr(model, name)) not in values:
            yield f"model.{name} is {value}, not {' or '.join(map(str, values))}"
    if model.kv_head_count != model.head_count:
        yield f"model.kv_heads is {model.kv_head_count}, not {model.head_count} as heads"


def _described(spec: TrialSpec, tokenizer: Tokenizer) -> dict[str, Any]:
    model = spec.model
    activations = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
    return {
        **_FIXED,
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": tokenizer.vocab,
        "n_positions": spec.data.context,
        "n_embd": model.width,
        "n_layer": model.depth,
        "n_head": model.head_count,
        "n_inner": None,
        "activation_function": activations[model.activation],
        "tie_word_embeddings": model.head == "tied",
        "resid_pdrop": model.dropout,
        "embd_pdrop": model.dropout,
        "attn_pdrop": model.dropout,
        "bos_token_id": tokenizer.end,
        "eos_token_id": tokenizer.end,
        "dtype": "float32",
    }
