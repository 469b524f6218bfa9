"""How a trial's model begins with another one's weights, all of them or some layers, or learns from it.
The other one is a copy that its study has kept; how that came there is known in use/adopt.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from tuner.spec.disk import sha256
from tuner.spec.errors import CheckpointError, DataError
from tuner.spec.parts.model import InitSpec
from tuner.train.checkpoint import WEIGHTS
from tuner.train.model.adapt import begin_with
from tuner.train.model.gpt import GPT
from tuner.train.model.module import GPTModule
from tuner.train.use.trained import read_record


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
