"""A GPT that says what a text is: its trunk, a head over classes in place of that over tokens, and how it is judged.
Padding is id -1 after a text; causal attention never lets a token see it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tuner.spec.parts.model import ModelSpec
from tuner.spec.records import UNTOLD
from tuner.spec.trial import TrialSpec
from tuner.train.model.cache import Cache
from tuner.train.model.gpt import GPT, Right

TOLD = 50
"""Classes that have an F1 of their own among the metrics."""

LAID_OUT = 100
"""Classes that have a confusion matrix: each milestone's row carries it."""


class Classifier(GPT):
    """Token ids in, logits over classes out, from the last token as in GPT-1 (Radford et al., 2018, section 3.2) or
    from the mean of all. It has so many ``classes`` by its label and by each auxiliary one, whose loss is added as
    often as ``shares`` say; ``weights``, where there are some, are those of the label's classes in training.
    """

    def __init__(
        self,
        spec: ModelSpec,
        vocab: int,
        context: int,
        classes: Sequence[int],
        pool: str = "last",
        shares: Sequence[float] = (),
    ) -> None:
        super().__init__(spec, vocab, context)
        self.classes, self.pool, self.shares = list(classes), pool, shares
        self.weights: Tensor | None = None
        self.head = nn.Linear(spec.width, sum(classes))
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """ids (B, T), -1 after the end of each -> logits (B, classes of all labels).

        Raises:
            ValueError: a cache is given; an answer has no next token.
        """
        if cache is not None:
            raise ValueError("a classifier generates no text, so it takes no cache.")
        read = ids >= 0
        x = self.norm(self._trunk(ids.clamp(min=0)))
        if self.pool == "mean":
            x = (x * read[..., None]).sum(1) / read.sum(1, keepdim=True).clamp(min=1)
        else:
            x = x[torch.arange(len(x), device=x.device), (read.sum(1) - 1).clamp(min=0)]
        return cast(Tensor, cast(nn.Linear, self.head)(x))

    def asked(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Of rows (B, T + labels): the texts, and their classes, which come last, (B,) or (B, labels)."""
        labels = len(self.classes)
        return batch[:, :-labels], batch[:, -labels:] if labels > 1 else batch[:, -1]

    def judged(self, targets: Right) -> Right:
        """The classes by the label alone: (B, labels) -> (B,)."""
        return targets[:, 0] if targets.ndim == 2 else targets

    def first(self, logits: Tensor) -> Tensor:
        """Those of the label alone: (B, classes of all labels) -> (B, classes)."""
        return logits[:, : self.classes[0]] if len(self.classes) > 1 else logits

    @property
    def own(self) -> tuple[str, ...]:
        return ("head.",)

    def loss_of(self, logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """As GPT's, by the label alone."""
        return super().loss_of(self.first(logits), self.judged(targets), reduction)

    def losses_of(self, logits: Tensor, targets: Tensor, z_loss: float, smoothing: float) -> tuple[Tensor, Tensor]:
        """As GPT's, by the label; where classes have weights, each text's part of what is minimised is multiplied by
        its own. What is minimised has the losses by auxiliary labels too, a text without one adding nothing.
        """
        first, said = self.first(logits), self.judged(targets)
        minimised, loss = super().losses_of(first, said, z_loss, smoothing)
        if self.weights is not None:
            each = F.cross_entropy(first, said, label_smoothing=smoothing, reduction="none")
            penalty = z_loss * first.logsumexp(-1).square().mean() if z_loss else 0.0
            minimised = (each * self.weights.to(each.device)[said]).mean() + penalty
        for place, (share, part) in enumerate(
            zip(self.shares, torch.split(logits, self.classes, 1)[1:], strict=True), 1
        ):
            told = F.cross_entropy(
                part, targets[:, place], label_smoothing=smoothing, ignore_index=UNTOLD, reduction="sum"
            )
            minimised = minimised + share * told / len(targets)
        return minimised, loss

    def losses(self, ids: Tensor, targets: Tensor, z_loss: float, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """As GPT's, of texts and their classes (B,) or (B, labels)."""
        return self.losses_of(self(ids).float(), targets, z_loss, smoothing)


def build_gpt(spec: TrialSpec, vocab: int, classes: Sequence[int]) -> GPT:
    """The model of a trial, whose corpus has so many ``classes`` by each label where it is to classify."""
    if spec.task == "generate":
        return GPT(spec.model, vocab, spec.data.context)
    shares = [one.weight for one in spec.data.auxiliary.values()]
    return Classifier(spec.model, vocab, spec.data.context, classes, spec.classify.pool, shares)


class Tally:
    """Counts a classifier's answers on a part of a corpus; torchmetrics reckons, over all ranks together."""

    def __init__(
        self, classes: Sequence[str], device: torch.device, auxiliary: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        from torchmetrics import MetricCollection, SumMetric
        from torchmetrics.classification import (
            MulticlassAccuracy,
            MulticlassConfusionMatrix,
            MulticlassF1Score,
            MulticlassPrecision,
            MulticlassRecall,
        )

        count = len(classes)
        self._classes = classes
        self._metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(count, average="micro"),
                "precision": MulticlassPrecision(count, average="macro"),
                "recall": MulticlassRecall(count, average="macro"),
                "f1": MulticlassF1Score(count, average="macro"),
                "f1_weighted": MulticlassF1Score(count, average="weighted"),
                "each": MulticlassF1Score(count, average="none"),
                "confusion": MulticlassConfusionMatrix(count),
            },
            compute_groups=False,
        ).to(device)
        others = {name: len(told) for name, told in (auxiliary or {}).items()}
        self._sizes = [count, *others.values()]
        self._told = {name: SumMetric().to(device) for name in others}
        self._others = {
            name: MetricCollection(
                {
                    "accuracy": MulticlassAccuracy(size, average="micro", ignore_index=UNTOLD),
                    "f1": MulticlassF1Score(size, average="macro", ignore_index=UNTOLD),
                },
                compute_groups=False,
            ).to(device)
            for name, size in others.items()
        }

    def hear(self, logits: Tensor, targets: Tensor) -> None:
        """Logits (B, classes of all labels) of texts and their classes, (B,) or (B, labels)."""
        said = [one.argmax(-1) for one in torch.split(logits, self._sizes, 1)]
        right = targets[:, None] if targets.ndim == 1 else targets
        for place, told in enumerate(self._told.values(), 1):
            told.update((right[:, place] != UNTOLD).sum())
        for place, metrics in enumerate((self._metrics, *self._others.values())):
            metrics.update(said[place], right[:, place])

    def reckon(self) -> tuple[dict[str, float], tuple[tuple[int, ...], ...]]:
        """The metrics by name, each also as what it lacks to 1 (``val_error`` is 1 - accuracy), with those of auxiliary
        labels behind their names (``val_accuracy/tone``) where one was told; the confusions.
        """
        found: dict[str, Any] = self._metrics.compute()
        each, confusion = found.pop("each").tolist(), found.pop("confusion").tolist()
        metrics = {f"val_{name}": float(one) for name, one in found.items()}
        metrics |= {f"val_{name}_error": 1 - float(one) for name, one in found.items() if name != "accuracy"}
        metrics["val_error"] = 1 - metrics["val_accuracy"]
        told = {name: one.compute() for name, one in self._told.items()}  # of all ranks, so each asks for all
        for label, others in self._others.items():
            if not told[label]:
                continue
            metrics |= {f"val_{name}/{label}": float(one) for name, one in others.compute().items()}
        if len(each) <= TOLD:
            metrics |= {
                f"val_f1/{_said(k, name)}": f1 for k, (name, f1) in enumerate(zip(self._classes, each, strict=True))
            }
        return metrics, tuple(tuple(map(int, row)) for row in confusion) if len(each) <= LAID_OUT else ()


def _said(number: int, name: str) -> str:
    """A class as MLflow lets a metric be called; its number keeps two apart that differ in a character it refuses."""
    return f"{number} {re.sub(r'[^A-Za-z0-9_. -]', '_', name)[:40]}"
