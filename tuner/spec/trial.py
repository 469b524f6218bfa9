"""TrialSpec: one trial, frozen and complete; it alone re-runs the trial and its hash is its identity.
It puts the parts together; nothing here reads a file or builds a model.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tuner.spec.budget import Budget
from tuner.spec.parts.data import DataSpec
from tuner.spec.parts.model import ModelSpec
from tuner.spec.parts.optim import OptimSpec
from tuner.spec.parts.scalars import BudgetField, Count, Frozen, Int, digest


class TrialSpec(Frozen):
    """One trial: data, model, optimizer, batch, budget and seed. Every field has a default."""

    data: DataSpec = DataSpec()
    model: ModelSpec = ModelSpec()
    optim: OptimSpec = OptimSpec()
    batch: Count = 16  # sequences an optimizer step
    accumulate: Count = 1  # micro-batches a step; batch must divide into them
    precision: Literal["fp32", "bf16"] = "fp32"
    budget: BudgetField = Budget.parse("1M tokens")
    seed: Annotated[Int, Field(ge=0, lt=2**32)] = 1

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} does not divide into {self.accumulate} micro-batches")
        return self

    @property
    def tokens_per_step(self) -> int:
        return self.batch * self.data.context

    def as_data(self) -> dict[str, Any]:
        """JSON-ready data that ``TrialSpec.model_validate`` reads back as an equal spec."""
        return self.model_dump(mode="json")

    @property
    def hash(self) -> str:
        """The identity: 16 hex digits of the sha256 of the canonical JSON."""
        return digest(self.as_data())[:16]
