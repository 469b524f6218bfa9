"""TrialSpec: one trial, frozen and complete; it alone re-runs the trial and its hash is its identity.
It puts the parts together; nothing here reads a file or builds a model.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, model_validator

from tuner.spec.budget import Budget
from tuner.spec.parts.data import DataSpec
from tuner.spec.parts.model import ClassifySpec, CompressSpec, InitSpec, ModelSpec
from tuner.spec.parts.optim import OptimSpec
from tuner.spec.parts.recipes import RECIPES, beneath
from tuner.spec.parts.scalars import BudgetField, Count, Frozen, Int, digest

_LATER = (
    "devices",
    "strategy",
    "task",
    "classify",
    "init",
    "compress.prune_from",
    "compress.round_from",
    "compress.compute",
    "compress",
    "early_stop",
    "model.head_width",
    "model.hidden",
    "model.bias",
    "optim.label_smoothing",
    "optim.distil",
    "data.label",
    "data.auxiliary",
    "data.mix",
    "data.clean",
    "data.mask",
    "data.documents",
    "data.overlap",
    "data.augment",
)
"""Fields that the first trials had not, parts before their whole: at their default they are not written, so that those
are the same trials.
"""


class TrialSpec(Frozen):
    """One trial: data, model, optimizer, batch, budget and seed. Every field has a default, or its recipe's value."""

    recipe: Literal["modern", "classic"] = "modern"  # what fills the fields of model and optim that are not written
    task: Literal["generate", "classify"] = "generate"  # what is learned: to go on with a text, or what a text is
    data: DataSpec = DataSpec()
    model: ModelSpec = ModelSpec()
    init: InitSpec = InitSpec()  # or the source alone
    optim: OptimSpec = OptimSpec()
    compress: CompressSpec = CompressSpec()
    classify: ClassifySpec = ClassifySpec()
    batch: Count = 16  # sequences an optimizer step
    accumulate: Literal["auto"] | Count = (
        "auto"  # micro-batches a step, batch must divide into them; auto: as few as fit
    )
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: the faster on this machine, never slower than fp32
    compile: Literal["auto"] | bool = "auto"  # torch.compile; auto: where it pays within the budget
    devices: Annotated[Count, Field(le=64)] = 1  # of one machine, which share each batch
    strategy: Literal["ddp", "fsdp"] = "ddp"  # of several devices; fsdp: each holds only its share of the weights
    budget: BudgetField = Budget.parse("1M tokens")
    early_stop: Count | None = None  # milestones without a lower validation loss that end it; its lowest counts then
    seed: Annotated[Int, Field(ge=0, lt=2**32)] = 1

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if isinstance(source := data.get("init"), str):
            data = {**data, "init": {"source": source}}
        recipe = data.get("recipe")
        return beneath(data, recipe) if isinstance(recipe, str) and recipe in RECIPES else data

    @model_validator(mode="after")
    def _has_answers(self) -> Self:
        label = self.data.label
        if self.task == "generate":
            if label is not None:
                raise ValueError(f"data.label is {label}, and task generate has no use for it; set task: classify")
            if self.classify != ClassifySpec():
                raise ValueError("classify is for task: classify; remove it")
            return self
        if label is None:
            raise ValueError("task classify needs data.label: the column that says what each text is")
        if self.optim.distil.weight:
            raise ValueError("task classify with optim.distil is not supported; remove it")
        if self.strategy == "fsdp":
            raise ValueError("task classify with strategy fsdp is not supported; use ddp")
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.accumulate != "auto" and self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} does not divide into {self.accumulate} micro-batches")
        if self.batch % (self.devices * (1 if self.accumulate == "auto" else self.accumulate)):
            raise ValueError(f"batch {self.batch} does not divide into {self.devices} devices' shares of micro-batches")
        known = self.init.source is None or self.init.folder is not None  # else depth is not yet the ancestor's
        if known and self.init.lora.rank is not None and self.init.freeze == self.model.depth:
            raise ValueError(f"init.freeze is {self.init.freeze}, all layers, so init.lora has none to adapt")
        if known and self.init.freeze > self.model.depth:
            raise ValueError(f"init.freeze is {self.init.freeze}, and the model has {self.model.depth} layers")
        if self.init.source is None and self.optim.distil.weight:
            raise ValueError("optim.distil.weight is above 0, and there is no teacher; name one as init.source")
        if self.init.take == "nothing" and not self.optim.distil.weight:
            raise ValueError("init.take is nothing and optim.distil.weight 0, so init.source would change nothing")
        smaller = self.compress.smaller
        if smaller and self.init.lora.rank is not None:
            raise ValueError("compress beside init.lora is not supported; compress what the adapters made of the model")
        if smaller and self.early_stop is not None:
            raise ValueError(
                "early_stop beside compress is not supported; a model is as small as asked at the end alone"
            )
        if self.strategy == "fsdp":
            if smaller:
                raise ValueError("strategy fsdp with compress is not supported; use ddp")
            if self.optim.distil.weight:
                raise ValueError("strategy fsdp with optim.distil is not supported; use ddp")
            if self.init.lora.rank is not None:
                raise ValueError("strategy fsdp with init.lora is not supported; adapters take little memory, use ddp")
            if self.devices == 1:
                raise ValueError("strategy fsdp shares a model among devices, and devices is 1")
            if self.compile is True:
                raise ValueError("strategy fsdp with compile: true is not supported; leave compile out")
            if self.optim.kind == "adafactor":  # its factors are of rows and columns, which no device has whole
                raise ValueError("strategy fsdp with optim.kind adafactor is not supported; take muon or adamw")
        return self

    @property
    def tokens_per_step(self) -> int:
        return self.batch * self.data.context

    @property
    def share(self) -> TrialSpec:
        """The trial that each of its devices computes, as far as time and memory go."""
        return self.model_copy(update={"batch": self.batch // self.devices, "devices": 1})

    def as_data(self) -> dict[str, Any]:
        """JSON-ready data that ``TrialSpec.model_validate`` reads back as an equal spec."""
        data = self.model_dump(mode="json")
        for path in _LATER:
            *sections, name = path.split(".")
            node, section = data, cast(Frozen, self)
            for step in sections:
                node, section = node[step], getattr(section, step)
            if getattr(section, name) == type(section).model_fields[name].default:
                del node[name]
        return data

    @property
    def hash(self) -> str:
        """The identity: 16 hex digits of the sha256 of the canonical JSON."""
        return digest(self.as_data())[:16]
