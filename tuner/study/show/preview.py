"""The plan of a study as a person reads it, in 80 columns.
It only says what plan.py worked out.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.analysis import words
from tuner.analysis.prefixes import truncated
from tuner.spec.dimensions.dimension import ChoiceDim, Dimension
from tuner.spec.parts.model import InitSpec
from tuner.spec.parts.settings import ResourceSettings
from tuner.spec.study import StudySpec
from tuner.spec.trial import TrialSpec
from tuner.study.plan import Cost, Plan
from tuner.tracking.store import shown


def print_plan(console: Console, spec: StudySpec, plan: Plan, store: str, tracking: str) -> None:
    """The plan as a person reads it, in 80 columns."""
    study, trial, base = spec.study, plan.trial, plan.base
    console.print(
        f"[bold]study {spec.name}[/bold]: {_many(study.trials, 'trial')} of {trial.budget}, "
        f"{_many(study.milestones, 'milestone')}, {study.metric}; sampler {study.sampler}, "
        f"pruner {study.pruner}, seed {study.seed}"
    )
    if (again := study.repeats) is not None:
        console.print(
            f"  then the best {again.top} again, until each has {again.seeds} seeds: {again.most} more at most"
        )
    if len(spec.space):
        table = Table(box=None, pad_edge=False, show_header=False)
        for path, dimension in spec.space.items():
            table.add_row(f"  {path}", _said(dimension))
        console.print(table)
    warning = truncated(spec.model_dump(mode="json"))
    if warning and study.pruner in ("hyperband", "asha", "median"):  # forecast learns how the finished ones went on
        console.print(Text(f"note: pruner {study.pruner} compares trials before their end. {warning}"))
    if (points := _points(spec)) is not None and points < study.trials and study.sampler != "grid":
        what = f"the space has {_many(points, 'point')}" if len(spec.space) else "nothing is searched"
        console.print(
            Text(
                f"note: {what}, so {study.trials - points} of {study.trials} trials run one again, to the same loss; "
                "lower study.trials, or search seed"
            )
        )
    for rule in spec.forbid:
        console.print(Text(f"  never: {rule}"))
    console.print(Text(_model(trial, plan)))
    console.print(Text(_cost(base, plan, study.resources)))
    console.print(Text(f"store {shown(store)}; runs in MLflow at {shown(tracking)}"))


def _points(spec: StudySpec) -> int | None:
    """How many points the space has at most; None where they are endless."""
    sizes = [dimension.size() for _, dimension in spec.space.items()]
    return None if None in sizes else math.prod(size or 1 for size in sizes)


def _model(trial: TrialSpec, plan: Plan) -> str:
    model, data, optim = trial.model, trial.data, trial.optim
    vocab = f"{plan.vocab}" if plan.vocab_known else f"about {plan.vocab}, not known before the text is read"
    rates = f"{optim.muon.lr:g} and {optim.lr:g}" if optim.kind == "muon" else f"{optim.lr:g}"
    return (
        f"trial as written ({trial.recipe}): {model.depth} x {model.width}, {plan.base.shape.heads} heads, "
        f"context {data.context}, {data.tokenizer.kind} vocabulary {vocab}; "
        f"batch {trial.batch}, {optim.kind} lr {rates}, {optim.schedule}, {trial.precision}; "
        f"text from {data.source}{' ' + data.path if data.path else ''}{_begun(trial.init)}"
    )


def _begun(init: InitSpec) -> str:
    if init.source is None:
        return ""
    frozen = f", the lowest {_many(init.freeze, 'layer')} frozen" if init.freeze else ""
    adapted = "" if init.lora.rank is None else f", adapters of rank {init.lora.rank}"
    return f"; begins with {init.source}, weights {(init.sha256 or '')[:12]}{frozen}{adapted}"


def _cost(base: Cost, plan: Plan, resources: ResourceSettings) -> str:
    spent = (
        ""
        if base.steps is None
        else (f", {base.steps} steps, {words.count(base.tokens or 0)} tokens, {words.count(base.flops or 0)}FLOP")
    )
    free_disk = shutil.disk_usage(Path.cwd()).free
    each = "" if plan.trial.devices == 1 else f" on each of {plan.trial.devices} devices"
    span = ""
    if plan.smallest < plan.largest:
        span = f"the space: {words.count(plan.smallest)} to {words.count(plan.largest)} parameters\n"
    unfit = ""
    if plan.unfit and plan.limit is not None:
        unfit = (
            f"about {plan.unfit:.0%} of the space does not fit the {words.size(plan.limit)} that a trial may take "
            "(study.memory): such a point costs no trial\n"
        )
    disk = f"disk: about {words.size(plan.disk)} of {words.size(free_disk)} free"
    return (
        f"it has {words.count(base.shape.parameters)} parameters{spent}, "
        f"and takes about {words.size(base.memory)} of memory{each}\n"
        f"{span}"
        f"{unfit}"
        f"{_here(plan, each, disk) if plan.cluster is None else _there(plan.cluster, resources, disk)}"
    )


def _here(plan: Plan, each: str, disk: str) -> str:
    free = psutil.virtual_memory().available
    basis = "as measured here" if plan.measured else "a guess before the first study here"
    return (
        f"{_many(plan.slots, 'worker')} of {_many(plan.threads, 'thread')}{each}; "
        f"memory: at most about {words.size(plan.memory)} of {words.size(free)} free; {disk}; "
        f"time: at most about {words.duration(plan.seconds)} ({basis}), less what is pruned"
    )


def _there(cluster: str, resources: ResourceSettings, disk: str) -> str:
    cpus = "a CPU a device" if resources.cpus is None else f"{resources.cpus:g} CPUs"
    gpus = "a GPU a device where there are any" if resources.gpus is None else f"{resources.gpus:g} GPUs"
    memory = "" if resources.memory is None else f", {words.size(resources.memory)} of memory"
    return f"on the Ray cluster {cluster}, a trial with {cpus}, {gpus}{memory}; {disk}"


def _said(dimension: Dimension) -> str:
    if isinstance(dimension, ChoiceDim):
        text = "one of " + ", ".join(words.setting(value) for value in dimension.choice)
    else:
        text = f"{dimension.low:g} to {dimension.high:g}"
        text += f" in steps of {dimension.step:g}" if dimension.step else ""
        text += ", on a log scale" if dimension.log else ""
    conditions = (f"{path} is {' or '.join(map(str, values))}" for path, values in dimension.when.items())
    when = " and ".join(conditions)
    return f"{text}, when {when}" if when else text


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
