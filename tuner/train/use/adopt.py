"""A trained model taken from whatever folder holds it: loaded for use, or kept as what new trials begin with.
Folders are ours, checkpoints of trials, or GPT-2's of Hugging Face; who names which is not known here.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import load_file
from torch import Tensor

from tuner.spec.disk import force, note, sha256
from tuner.spec.errors import CheckpointError, DataError, TunerError
from tuner.spec.parts.model import InitSpec
from tuner.spec.records import Ancestor
from tuner.train.checkpoint import MANIFEST, SPEC, WEIGHTS
from tuner.train.model.adapt import begin_with
from tuner.train.model.gpt import GPT
from tuner.train.model.module import GPTModule
from tuner.train.text.tokenizer import saved_as
from tuner.train.use.gpt2 import is_gpt2, read_gpt2
from tuner.train.use.trained import Trained, load_checkpoint, load_model, read_record


def load_any(folder: Path, corpora: Path) -> Trained:
    """The model in a plain model folder, in a checkpoint whose corpus is in ``corpora``, or in a GPT-2's folder.

    Raises:
        CheckpointError: it is none of these, or damaged.
        DataError: its tokenizer is gone or damaged.
    """
    if is_gpt2(folder):
        with tempfile.TemporaryDirectory(prefix="tuner-gpt2-") as place:
            read_gpt2(folder, Path(place))
            return load_model(Path(place))
    plain = any(folder.glob("tokenizer*.json"))
    return load_model(folder) if plain else load_checkpoint(folder, corpora)


def write_plain(folder: Path, corpora: Path, into: Path) -> None:
    """Write what ``load_any`` loads as a plain model folder.

    Raises:
        CheckpointError, DataError: as ``load_any``.
    """
    if is_gpt2(folder):
        read_gpt2(folder, into)
        return
    trained = load_any(folder, corpora)
    into.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, SPEC):
        shutil.copyfile(folder / name, into / name)
    trained.tokenizer.save(into)


def keep(folder: Path, corpora: Path, root: Path) -> Ancestor:
    """Copy the model in ``folder`` to where its weights' sha256 says, below ``root``, whole or not at all.

    Raises:
        CheckpointError, DataError: as ``load_any``.
        OSError: the disk refuses.
    """
    if folder.parent == root:
        return _described(folder, load_model(folder))
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "keep.lock"):
        for left in root.glob(".*.keeping"):  # its process died
            shutil.rmtree(left, ignore_errors=True)
        temporary = root / f".{os.getpid()}.keeping"
        try:
            write_plain(folder, corpora, temporary)
            files = {path.name: sha256(path) for path in sorted(temporary.iterdir())}
            note(temporary / MANIFEST, json.dumps({"format": 1, "files": files}, indent=1))
            trained = load_model(temporary)
            for path in (*temporary.iterdir(), temporary):
                force(path)
            final = root / files[WEIGHTS][:16]
            if not _sound(final):  # one that is may be read at this moment
                shutil.rmtree(final, ignore_errors=True)
                temporary.rename(final)
                force(root)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return _described(final, trained)


def descend(module: GPTModule, vocab: int) -> None:
    """Let a trial's model begin with the weights of its ancestor, or learn from it, as its spec says: before it adopts
    a setting, and before its state is restored.

    Raises:
        CheckpointError: the ancestor's copy is gone, or other weights.
        DataError: it has fewer layers than are to be taken.
    """
    spec, init = module.spec, module.spec.init
    folder = Path(init.folder or "")
    weights = _weights(folder / WEIGHTS, init)
    ancestor, _ = read_record(folder)
    if init.take != "nothing":
        if spec.model.depth > ancestor.model.depth:
            raise DataError(
                f"model.depth is {spec.model.depth}, and {init.source} has {ancestor.model.depth} layers to take"
            )
        module.begin(_shallower(weights, ancestor.model.depth, spec.model.depth))
    if spec.optim.distil.weight:
        with torch.random.fork_rng(devices=[]):  # a model is initialised when built, and that draws
            teacher = GPT(ancestor.model, vocab, spec.data.context)
        begin_with(teacher, weights)
        module.learn_from(teacher)


def _weights(path: Path, init: InitSpec) -> dict[str, Tensor]:
    try:
        if sha256(path) == init.sha256:
            return load_file(path)
        reason = "holds other weights than those the study began with"
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error})"
    raise CheckpointError(f"{path}: {reason}; the study's command, run again, fetches it from {init.source}.")


def _shallower(weights: Mapping[str, Tensor], depth: int, kept: int) -> dict[str, Tensor]:
    """The weights of ``kept`` of ``depth`` layers: evenly spaced, the lowest and the highest among them."""
    places = {round(layer * (depth - 1) / max(kept - 1, 1)): layer for layer in range(kept)}
    found = {}
    for name, one in weights.items():
        if not name.startswith("blocks."):
            found[name] = one
            continue
        _, layer, rest = name.split(".", 2)
        if int(layer) in places:
            found[f"blocks.{places[int(layer)]}.{rest}"] = one
    return found


def _sound(folder: Path) -> bool:
    try:
        load_model(folder)
    except TunerError:
        return False
    return True


def _described(folder: Path, trained: Trained) -> Ancestor:
    model = trained.spec.model.model_dump()
    return Ancestor(str(folder), sha256(folder / WEIGHTS), model, trained.spec.data.context, saved_as(folder))
