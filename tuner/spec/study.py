"""StudySpec: a whole search on paper: a name, a trial, what may vary, what is forbidden, and how to search.
It resolves a point to a trial and says whether two studies are the same; it never chooses, stores or trains.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ValidationError, model_validator

from tuner.spec.dimensions.dimension import DIMENSIONS, ChoiceDim, Dimension, numeric, proportional
from tuner.spec.dimensions.fields import LEAVES, named_in, unknown, values_of
from tuner.spec.dimensions.rules import Rule, rule
from tuner.spec.dimensions.space import RECIPE, Space
from tuner.spec.errors import InfeasibleError, Mistake, Mistakes, SpecError, nearest, said, short
from tuner.spec.parts.promotion import PromotionSettings
from tuner.spec.parts.recipes import RECIPES, bare, over
from tuner.spec.parts.scalars import Frozen
from tuner.spec.parts.settings import METRICS, StudySettings
from tuner.spec.records import Point, Value
from tuner.spec.trial import TrialSpec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_GRID_LIMIT = 100_000  # Optuna's grid sampler lists every point in memory
_TRIES = 200  # random points, about 10 ms where all are impossible
_CHOICES = 50  # of a dimension, looked at one by one


def _name(value: str) -> str:
    if not _NAME.fullmatch(value) or ".." in value:
        raise ValueError(
            "a study's name has letters, digits, '.', '_' and '-', begins with a letter or digit, "
            f"has no '..' and at most 100 characters, got {short(value)!r}"
        )
    return value


def _rule(value: str) -> str:
    return rule(value).text


class StudySpec(Frozen):
    """A whole study, checked: each dimension fits its field, each rule reads, some point is possible."""

    name: Annotated[str, AfterValidator(_name)]
    trial: TrialSpec = TrialSpec()
    space: Space = Space({})
    forbid: tuple[Annotated[str, AfterValidator(_rule)], ...] = ()
    study: StudySettings = StudySettings()
    promotion: PromotionSettings = PromotionSettings()

    @classmethod
    def stored(cls, data: Mapping[str, Any]) -> Self:
        """A study's spec as its store has it: every field written out, also what a searched recipe sets."""
        trial = bare(data["trial"]) if RECIPE in data["space"] else data["trial"]
        return cls.model_validate({**data, "trial": trial})

    @model_validator(mode="before")
    @classmethod
    def _recipe_alone(cls, data: Any) -> Any:
        """What a searched recipe sets cannot be written as well: one of the two would be said in vain."""
        if isinstance(data, dict) and (found := _set_twice(data.get("trial"), data.get("space"))):
            raise Mistakes(found)
        return data

    @model_validator(mode="after")
    def _fits(self) -> Self:
        found = (
            _unnamed(self)
            or [
                *_comparable(self),
                *_inherited(self),
                *_samplable(self),
                *_guessable(self),
                *_asleep(self),
                *_idle(self),
            ]
            or [*_impossible(self)]
        )
        if found:
            raise Mistakes(found)
        return self

    @property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(rule(text) for text in self.forbid)

    def walk(self, choose: Callable[[str, Dimension], Value]) -> dict[str, Value]:
        """A point of the space; ``choose`` is called for active dimensions only (see Space.walk)."""
        return self.space.walk(choose, values_of(self.trial))

    def draw(self, rng: random.Random, fixed: Point | None = None) -> dict[str, Value]:
        """A random point of the space, with the ``fixed`` values where their dimensions are active."""
        given = fixed or {}
        return self.walk(lambda path, dimension: given[path] if path in given else dimension.draw(rng))

    def resolve(self, point: Point) -> TrialSpec:
        """The trial at a point: the study's trial with the point's values in it.

        Raises:
            InfeasibleError: a forbid rule holds, or values contradict each other; the message is the reason.
            SpecError: a path is no field of a trial, or a value is none that its field takes.
        """
        data = self.trial.model_dump()
        if RECIPE in point:
            data = over(data, str(point[RECIPE]))
        for path, value in point.items():
            if path not in LEAVES:
                raise SpecError(f"{unknown(path)}")
            try:
                typed = LEAVES[path].read(value)
            except ValueError as error:
                raise SpecError(str(error)) from None
            *sections, name = path.split(".")
            section: dict[str, Any] = data
            for step in sections:
                if step not in section:
                    raise SpecError(f"{path}: nothing is called {step} in the study's trial.")
                section = section[step]
            section[name] = typed
        try:
            trial = TrialSpec.model_validate(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            reason = str(first.get("ctx", {}).get("error", first["msg"]))
            raise InfeasibleError(f"{place}: {reason}" if place else reason) from None
        values = values_of(trial)
        for forbidden in self.rules:
            if forbidden.holds(values.__getitem__):
                seen = ", ".join(f"{name} = {values[name]}" for name in forbidden.names)
                raise InfeasibleError(f"forbidden by {forbidden.text!r}: {seen}")
        return trial

    def identity(self) -> dict[str, Any]:
        """What may not change when a study goes on, JSON-ready: trial, space, forbid, milestones, metric."""
        whole = {
            "trial": self.trial.as_data(),
            "space": {path: lean(dimension) for path, dimension in self.space.items()},
            "forbid": list(self.forbid),
            "milestones": self.study.milestones,
            "metric": self.study.metric,
        }
        return dict(json.loads(json.dumps(whole)))


def lean(dimension: Dimension) -> dict[str, Any]:
    """A dimension as the YAML says it: its kind first, defaults left out."""
    data = dimension.model_dump(mode="json", exclude_defaults=True)
    return {name: data[name] for name in sorted(data, key=[*DIMENSIONS, "log", "step", "when"].index)}


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], words: tuple[str, str] = ("before", "now")
) -> list[str]:
    """What differs between two identities, one path each with both values; empty for the same study.

    ``words`` say which value is which.
    """
    before, after = _flat(old), _flat(new)
    return [
        f"{path}: {_shown(before, path)} {words[0]}, {_shown(after, path)} {words[1]}"
        for path in dict.fromkeys([*before, *after])
        if _shown(before, path) != _shown(after, path)
    ]


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _shown(flat: Mapping[str, Any], path: str) -> str:
    return json.dumps(flat[path]) if path in flat else "absent"


def _unnamed(spec: StudySpec) -> list[Mistake]:
    """Shares of texts that are not mixed in, weights of labels that are not there: any name is a path, so these have to
    be looked for.
    """
    places: list[tuple[tuple[str | int, ...], str]] = [(("space", path), path) for path in spec.space]
    places += [(("space", path, "when", name), name) for path, one in spec.space.items() for name in one.when]
    places += [(("forbid", number), name) for number, rule in enumerate(spec.rules) for name in rule.names]
    return [
        Mistake(
            where,
            f"{name} means nothing here: trial.{section} has {', '.join(known) or 'nothing'}",
            key=where[0] == "space",
        )
        for where, name in places
        for section, known in named_in(spec.trial).items()
        if name.startswith(f"{section}.") and name.split(".")[2] not in known
    ]


def _comparable(spec: StudySpec) -> list[Mistake]:
    if spec.study.metric not in METRICS[spec.trial.task]:
        known = ", ".join(METRICS[spec.trial.task])
        sentence = f"task {spec.trial.task} has no {spec.study.metric}; it is one of {known}"
        return [Mistake(("study", "metric"), f"{sentence} (each is to be low)")]
    told = ("data.clean.", "data.documents", "data.overlap")
    if changed := [path for path in spec.space if path.startswith(told)]:
        sentence = (
            f"{changed[0]} decides which text the study is about, and that is one for all its trials; make a study for "
            "each, and compare them by val_bpb"
        )
        return [Mistake(("space", changed[0]), sentence, key=True)]
    searched = [path for path in spec.space if path.startswith("data.tokenizer.")]
    if not searched or spec.study.metric == "val_bpb" or spec.trial.task == "classify":
        return []
    return [
        Mistake(
            ("space", searched[0]),
            f"with {searched[0]} searched, study.metric must be val_bpb: a token is not the same amount of "
            "text in two tokenizers, only bits a byte are comparable",
            key=True,
        )
    ]


def _inherited(spec: StudySpec) -> list[Mistake]:
    """Weights that were trained have a shape and a vocabulary."""
    init = spec.trial.init
    if init.source is None:
        return []
    fixed = ["data.tokenizer."]
    if init.take != "nothing":
        fixed += ["model.", RECIPE, *(["data.context"] if spec.trial.model.positions == "learned" else [])]
    parts = ("model.dropout", "model.depth", "model.heads", "model.hidden")
    free = {"all": ("model.dropout",), "part": parts, "nothing": ()}[init.take]
    return [
        Mistake(("space", path), f"the trials begin with {init.source}, which decides it; remove it", key=True)
        for path in spec.space
        if path.startswith(tuple(fixed)) and path not in free
    ]


def _set_twice(trial: object, space: object) -> list[Mistake]:
    if not (isinstance(trial, dict) and isinstance(space, dict) and RECIPE in space):
        return []
    return [
        Mistake(
            ("trial", section, name),
            f"{section}.{name} is set by the recipe, and the recipe is searched; remove it here, "
            f"or give it to every recipe under space: {section}.{name}: {{choice: [...]}}",
            key=True,
        )
        for section, name in (path.split(".") for path in RECIPES["classic"])
        if isinstance(trial.get(section), dict) and name in trial[section]
    ]


def _asleep(spec: StudySpec) -> list[Mistake]:
    """Dimensions that wait for a fixed field to be what it is not."""
    base = values_of(spec.trial)
    recipes = [RECIPES[str(name)] for name in spec.space[RECIPE].grid()] if RECIPE in spec.space else []

    def fixed(name: str) -> set[Value]:
        return {recipe.get(name, base[name]) for recipe in recipes} or {base[name]}

    return [
        Mistake(
            ("space", path, "when", name),
            f"{name} is fixed at {said(base[name])}, so {path} would never be active; "
            f"search {name} or change trial.{name}",
        )
        for path, dimension in spec.space.items()
        for name, values in dimension.when.items()
        if name not in spec.space and fixed(name).isdisjoint(values)
    ]


def _idle(spec: StudySpec) -> list[Mistake]:
    """Dimensions that change nothing, so that trials would be one another's repeats."""
    if spec.trial.task != "classify":
        return []
    return [
        Mistake(
            ("space", path), f"{path} changes nothing in a classifier, whose answers are its own; remove it", key=True
        )
        for path in ("model.softcap", "model.head")
        if path in spec.space
    ]


def _samplable(spec: StudySpec) -> list[Mistake]:
    """What the sampler cannot do. cmaes models the float and int dimensions without ``when``; the others it
    draws at random, as Optuna does, so it needs at least one that it can model."""
    where: tuple[str | int, ...] = ("study", "sampler")
    sampler = spec.study.sampler
    if spec.study.against is not None and (mistakes := _of_the_loss_alone(spec)):
        return mistakes
    if sampler == "cmaes":
        plain = [path for path, dim in spec.space.items() if not isinstance(dim, ChoiceDim) and not dim.when]
        if not plain:
            return [Mistake(where, "cmaes needs a float or int dimension without 'when'; use tpe")]
    if sampler != "grid":
        return []
    endless = [path for path, dim in spec.space.items() if dim.size() is None]
    if endless:
        return [Mistake(("space", path), "the grid sampler needs a step here, or choice: [...]") for path in endless]
    if not len(spec.space):
        return [Mistake(where, "the grid sampler needs a space, and there is no dimension; use random")]
    if (points := math.prod(dim.size() or 1 for _, dim in spec.space.items())) > _GRID_LIMIT:
        return [
            Mistake(
                where,
                f"the grid has {points:,} points, at most {_GRID_LIMIT:,} can be listed; use larger steps",
            )
        ]
    return []


def _of_the_loss_alone(spec: StudySpec) -> list[Mistake]:
    """What would end, or no longer try, what is small and cheap for its loss."""
    study, found = spec.study, []
    if study.sampler in ("tpe", "gp", "cmaes"):
        instead = "bayes, or random, grid or qmc"
        found.append(Mistake(("study", "sampler"), f"{_ALONE.format(study.sampler)} use {instead}"))
    if study.pruner in ("median", "asha", "hyperband"):
        found.append(Mistake(("study", "pruner"), f"{_ALONE.format(study.pruner)} use forecast or none"))
    if study.stop is not None:
        found.append(Mistake(("study", "stop"), f"{_ALONE.format('stop')} use study.totals", key=True))
    return found


_ALONE = "{} looks at the loss alone; with study.against"


def _guessable(spec: StudySpec) -> list[Mistake]:
    """A prior speaks of numbers that are searched."""
    if isinstance(spec.study.prior, str):
        return []
    found = []
    for path, (centre, spread) in spec.study.prior.items():
        where: tuple[str | int, ...] = ("study", "prior", path)
        if path not in spec.space:
            known = nearest(path, [name for name, _ in spec.space.items()])
            found.append(Mistake(where, f"{path} is not searched, so a prior says nothing of it.{known}", key=True))
            continue
        if not numeric(spec.space[path]):
            found.append(Mistake(where, f"{path} is a choice of words; a prior needs numbers", key=True))
        elif proportional(spec.space[path]) and (centre <= 0 or spread <= 1):
            found.append(
                Mistake(
                    where,
                    f"where ratios count, as here, the centre is above 0 and the spread a factor above 1 (2: one "
                    f"octave), got [{said(centre)}, {said(spread)}]",
                )
            )
    return found


def _impossible(spec: StudySpec) -> list[Mistake]:
    """Choices that no trial can have (kind byte where the trial says vocab: 1024), or no possible point.

    Found by trying random points, so that a mistake costs no trials; the first possible point ends it.
    """
    if reason := _never(spec, {}):
        return [Mistake(("space",), f"no trial of this study is possible: {reason}")]
    for path, dimension in spec.space.items():
        if isinstance(dimension, ChoiceDim):
            for index, value in enumerate(dimension.choice[:_CHOICES]):
                if reason := _never(spec, {path: value}):
                    return [Mistake(("space", path, "choice", index), f"no trial can have it: {reason}")]
    return []


def _never(spec: StudySpec, fixed: Point) -> str | None:
    """The reason why a point with the fixed values cannot be, where none of many tries could; else None."""
    rng = random.Random(0)
    reason = None
    for _ in range(_TRIES):
        point = spec.draw(rng, fixed)
        if not fixed.keys() <= point.keys():
            continue  # the dimension was not active here
        try:
            spec.resolve(point)
        except InfeasibleError as error:
            reason = str(error)
        else:
            return None
    return f"{reason} ({_TRIES} random points tried)" if reason else None
