"""How a trial's model begins with another one's weights, all of them or some layers, or learns from it.
The other one is a copy that its study has kept; how that came there is known in use/adopt.py.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tuner.spec.disk import sha256
from tuner.spec.errors import UnreadableError
from tuner.spec.parts.model import InitSpec
from tuner.spec.records import CorpusInfo, auxiliary_of, classes_of
from tuner.train.checkpoint import WEIGHTS, read_weights
from tuner.train.model.adapt import begin_with, plain
from tuner.train.model.gpt import GPT
from tuner.train.model.module import GPTModule
from tuner.train.model.slim.part import part_of
from tuner.train.use.trained import read_record


def descend(module: GPTModule, info: CorpusInfo) -> None:
    """Let a trial's model begin with the weights of its ancestor, or learn from it, as its spec says: before it adopts
    a setting, and before its state is restored. A classifier takes the trunk, and of one of the same classes the head,
    as far as it has the same auxiliary labels.

    Raises:
        UnreadableError: the ancestor's copy is gone, or other weights: it may come back.
        DataError: it has fewer layers, heads or neurons than are to be taken.
    """
    spec, init = module.spec, module.spec.init
    folder = Path(init.folder or "")
    weights = _weights(folder / WEIGHTS, init)
    ancestor, facts = read_record(folder)
    if spec.task == "classify" and (classes_of(facts), auxiliary_of(facts)) != (info.classes, info.auxiliary):
        own = {name: one for name, one in plain(module.gpt).items() if name.startswith(module.gpt.own)}
        if classes_of(facts) == info.classes:
            rows = len(info.classes)
            own = {name: torch.cat([weights[name][:rows].to(one.device), one[rows:]]) for name, one in own.items()}
        weights = {name: one for name, one in weights.items() if not name.startswith("head.")} | own
    if init.take != "nothing":
        module.begin(part_of(weights, ancestor.model, spec.model, str(init.source)))
    if spec.optim.distil.weight:
        with torch.random.fork_rng(devices=[]):  # a model is initialised when built, and that draws
            teacher = GPT(ancestor.model, info.vocab, spec.data.context)
        begin_with(teacher, weights)
        module.learn_from(teacher)


def _weights(path: Path, init: InitSpec) -> dict[str, Tensor]:
    try:
        if sha256(path) == init.sha256:
            return read_weights(path)
        reason = "holds other weights than those the study began with"
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error})"
    raise UnreadableError(f"{path}: {reason}; the study's command, run again, fetches it from {init.source}")
