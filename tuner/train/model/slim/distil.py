"""Distillation: a model learns what another one expects, beside what the text says.
A loss and nothing else; where the teacher comes from is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tuner.spec.parts.optim import DistilSpec
from tuner.train.model.gpt import GPT


@dataclass(frozen=True)
class Distillation:
    """``losses`` is what GPT.losses is, for a ``student`` whose ``teacher`` has the same vocabulary."""

    student: GPT
    teacher: GPT
    spec: DistilSpec

    def losses(self, ids: Tensor, targets: Tensor, z_loss: float, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """What is minimised, and the student's cross entropy in it: ids and targets (B, T) -> two scalars.

        ``(1 - weight)`` of the student's own loss, and ``weight T^2 KL(teacher_T || student_T)`` over the places that
        have a target, both at the temperature T (arXiv 1503.02531).
        """
        logits = self.student(ids).float()
        own, entropy = self.student.losses_of(logits, targets, z_loss, smoothing)
        with torch.no_grad():
            taught = self.teacher(ids).float()
        heat = self.spec.temperature
        said, asked = F.log_softmax(logits / heat, -1), F.log_softmax(taught / heat, -1)
        apart = F.kl_div(said, asked, reduction="none", log_target=True).sum(-1)[targets >= 0].mean()
        return (1 - self.spec.weight) * own + self.spec.weight * heat**2 * apart, entropy
