"""Presets: names that open, recipes that are valid, errors that list what there is."""

from __future__ import annotations

import pytest

from duygu.errors import RecipeError
from duygu.models.folder import open_model
from duygu.models.presets import PRESETS, RECIPES, recipe_for, recipe_preset
from duygu.models.spec import parameters
from duygu.recipe import Recipe


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_opens_and_its_recipe_fits(name):
    model = open_model(name, ("a", "b", "c"), 1, lambda: ["bir iki üç dört beş"] * 9)
    assert model.name == name
    assert model.spec.labels == ("a", "b", "c")
    assert model.length is None
    assert recipe_for(name).length <= model.spec.positions
    assert sum(tensor.size for tensor in model.tensors.values()) == parameters(model.spec)


def test_tiny_brings_its_own_recipe():
    assert recipe_for("tiny") is RECIPES["tiny"].recipe
    assert recipe_for("tiny").lr > 10 * Recipe().lr
    assert recipe_for("some/folder") == Recipe()


def test_unknown_recipe_lists_the_presets():
    with pytest.raises(RecipeError, match=r"(?s)'tinny'.*default, report-2024, tiny"):
        recipe_preset("tinny")
