"""Recipes: they fill what is not written, can be searched, and are never said in vain."""

from __future__ import annotations

import random

import pytest

from tuner.spec.dimensions.fields import LEAVES, values_of
from tuner.spec.errors import SpecError
from tuner.spec.load import dump, parse
from tuner.spec.parts.recipes import RECIPES
from tuner.spec.study import StudySpec
from tuner.spec.trial import TrialSpec

SEARCHED = """
name: a
space:
  optim.muon.lr: {float: [1e-3, 1e-1], log: true, when: {optim.kind: muon}}
  recipe: {choice: [classic, modern]}
  optim.lr: {float: [1e-3, 1e-1], log: true}
"""


def at(study: StudySpec, recipe: str) -> TrialSpec:
    rng = random.Random(0)
    point = study.walk(lambda path, dimension: recipe if path == "recipe" else dimension.draw(rng))
    return study.resolve(point)


def test_every_recipe_sets_the_same_fields_to_values_they_take() -> None:
    paths = [set(recipe) for recipe in RECIPES.values()]
    assert paths.count(paths[0]) == len(paths)
    for name, recipe in RECIPES.items():
        values = values_of(TrialSpec.model_validate({"recipe": name}))
        assert {path: values[path] for path in recipe} == dict(recipe)
        assert all(LEAVES[path].read(value) == value for path, value in recipe.items())


def test_modern_is_the_default() -> None:
    assert TrialSpec.model_validate({"recipe": "modern"}) == TrialSpec()


def test_what_is_written_wins_over_the_recipe() -> None:
    trial = TrialSpec.model_validate({"recipe": "classic", "model": {"norm": "rms"}, "optim": {"lr": 0.5}})
    assert (trial.model.norm, trial.model.activation) == ("rms", "gelu")
    assert (trial.optim.lr, trial.optim.kind) == (0.5, "adamw")
    assert TrialSpec.model_validate(trial.as_data()) == trial


def test_a_searched_recipe_sets_its_fields_and_a_searched_field_wins_over_it() -> None:
    study = parse(SEARCHED)
    classic, modern = at(study, "classic"), at(study, "modern")
    assert (classic.model.positions, classic.optim.kind, classic.optim.floor) == ("learned", "adamw", 0.1)
    assert (modern.model.positions, modern.optim.kind) == ("rotary", "muon")
    assert classic.optim.lr != RECIPES["classic"]["optim.lr"]


def test_a_condition_may_rest_on_what_the_recipe_sets() -> None:
    study = parse(SEARCHED)
    rng = random.Random(0)
    for recipe, active in (("classic", False), ("modern", True)):
        point = study.walk(lambda path, dimension, r=recipe: r if path == "recipe" else dimension.draw(rng))  # type: ignore[misc]
        assert ("optim.muon.lr" in point) is active


def test_a_condition_that_no_recipe_meets_is_a_mistake() -> None:
    with pytest.raises(SpecError, match=r"optim\.kind is fixed at .* would never be active"):
        parse(SEARCHED.replace("optim.kind: muon", "optim.kind: adafactor"))


def test_a_field_beside_a_searched_recipe_is_a_mistake_with_its_place() -> None:
    text = SEARCHED.replace("space:", "trial:\n  model: {norm: rms}\nspace:")
    with pytest.raises(SpecError, match=r"<text>:4:11: .*model\.norm is set by the recipe, and the recipe is searched"):
        parse(text)


def test_a_study_with_a_searched_recipe_survives_writing_and_reading() -> None:
    study = parse(SEARCHED)
    again = parse(dump(study))
    assert again == study
    assert at(again, "classic") == at(study, "classic")
