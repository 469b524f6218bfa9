"""A GPT that says what a text is: its trunk, a head over classes in place of that over tokens, and how it is judged.
Padding is id -1 after a text; causal attention never lets a token see it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tuner.spec.parts.model import ModelSpec
from tuner.spec.trial import TrialSpec
from tuner.train.model.cache import Cache
from tuner.train.model.gpt import GPT

TOLD = 50
"""Classes that have an F1 of their own among the metrics."""

LAID_OUT = 100
"""Classes that have a confusion matrix: each milestone's row carries it."""


class Classifier(GPT):
    """Token ids in, logits over classes out, from the last token as in GPT-1 (Radford et al., 2018, section 3.2) or
    from the mean of all; ``weights``, where there are some, are those of the classes in training.
    """

    def __init__(self, spec: ModelSpec, vocab: int, context: int, classes: int, pool: str = "last") -> None:
        super().__init__(spec, vocab, context)
        self.classes, self.pool = classes, pool
        self.weights: Tensor | None = None
        self.head = nn.Linear(spec.width, classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """ids (B, T), -1 after the end of each -> logits (B, classes).

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
        """Of rows (B, T + 1): the texts, and their classes, which come last."""
        return batch[:, :-1], batch[:, -1]

    @property
    def own(self) -> tuple[str, ...]:
        return ("head.",)

    def losses_of(self, logits: Tensor, targets: Tensor, z_loss: float, smoothing: float) -> tuple[Tensor, Tensor]:
        """As GPT's; where classes have weights, each text's part of what is minimised is multiplied by its own."""
        minimised, loss = super().losses_of(logits, targets, z_loss, smoothing)
        if self.weights is None:
            return minimised, loss
        each = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
        penalty = z_loss * logits.logsumexp(-1).square().mean() if z_loss else 0.0
        return (each * self.weights.to(each.device)[targets]).mean() + penalty, loss

    def losses(self, ids: Tensor, targets: Tensor, z_loss: float, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """As GPT's, of texts and their classes (B,)."""
        return self.losses_of(self(ids).float(), targets, z_loss, smoothing)


def build_gpt(spec: TrialSpec, vocab: int, classes: int) -> GPT:
    """The model of a trial, whose corpus has so many ``classes`` where it is to classify."""
    if spec.task == "generate":
        return GPT(spec.model, vocab, spec.data.context)
    return Classifier(spec.model, vocab, spec.data.context, classes, spec.classify.pool)


class Tally:
    """Counts a classifier's answers on a part of a corpus; torchmetrics reckons, over all ranks together."""

    def __init__(self, classes: Sequence[str], device: torch.device) -> None:
        from torchmetrics import MetricCollection
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

    def hear(self, logits: Tensor, targets: Tensor) -> None:
        """Logits (B, classes) of texts and their classes (B,)."""
        self._metrics.update(logits.argmax(-1), targets)

    def reckon(self) -> tuple[dict[str, float], tuple[tuple[int, ...], ...]]:
        """The metrics by name, each also as what it lacks to 1 (``val_error`` is 1 - accuracy); the confusions."""
        found: dict[str, Any] = self._metrics.compute()
        each, confusion = found.pop("each").tolist(), found.pop("confusion").tolist()
        metrics = {f"val_{name}": float(one) for name, one in found.items()}
        metrics |= {f"val_{name}_error": 1 - float(one) for name, one in found.items() if name != "accuracy"}
        metrics["val_error"] = 1 - metrics["val_accuracy"]
        if len(each) <= TOLD:
            metrics |= {
                f"val_f1/{_said(k, name)}": f1 for k, (name, f1) in enumerate(zip(self._classes, each, strict=True))
            }
        return metrics, tuple(tuple(map(int, row)) for row in confusion) if len(each) <= LAID_OUT else ()


def _said(number: int, name: str) -> str:
    """A class as MLflow lets a metric be called; its number keeps two apart that differ in a character it refuses."""
    return f"{number} {re.sub(r'[^A-Za-z0-9_. -]', '_', name)[:40]}"
