"""Models and recipes by name.

A model preset names a model and brings the recipe that suits it; a recipe preset is a set of knobs. A model from
scratch learns nothing at the rate that suits a pretrained one, so ``tiny`` has a recipe of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from duygu.errors import RecipeError
from duygu.models.spec import ModelSpec
from duygu.recipe import Recipe


@dataclass(frozen=True, slots=True)
class ModelPreset:
    """A model by name, built from scratch: no checkpoint is read, all weights come from the seed."""

    name: str
    about: str
    recipe: str  # name of the recipe preset that suits it
    vocabulary: int  # entries of the tokenizer that is trained on the training texts
    layers: int
    hidden: int
    heads: int
    positions: int
    dropout: float
    initializer_range: float

    def spec(self, vocabulary: int, pad_id: int, labels: Sequence[str]) -> ModelSpec:
        """Its spec with the vocabulary that the trained tokenizer really has."""
        return ModelSpec(
            family="bert",
            vocabulary=vocabulary,
            positions=self.positions,
            segments=2,
            layers=self.layers,
            hidden=self.hidden,
            heads=self.heads,
            intermediate=4 * self.hidden,
            activation="gelu",
            norm_eps=1e-12,
            dropout=self.dropout,
            attention_dropout=self.dropout,
            classifier_dropout=self.dropout,
            initializer_range=self.initializer_range,
            pad_id=pad_id,
            labels=tuple(labels),
        )


PRESETS: Mapping[str, ModelPreset] = {
    "tiny": ModelPreset(
        name="tiny",
        about="a small BERT from scratch with a tokenizer of its own: no download, seconds to train",
        recipe="tiny",
        vocabulary=4000,
        layers=2,
        hidden=128,
        heads=4,
        positions=512,
        dropout=0.1,
        initializer_range=0.02,
    ),
}

RECIPES: Mapping[str, Recipe] = {
    "default": Recipe(),
    "tiny": Recipe(epochs=10, lr=1e-3),
}


def recipe_preset(name: str) -> Recipe:
    """The recipe of this name; raises `RecipeError` that lists the names."""
    if name not in RECIPES:
        raise RecipeError(f"there is no recipe preset {name!r}", f"--recipe {name}", f"presets: {', '.join(RECIPES)}")
    return RECIPES[name]


def recipe_for(model: str) -> Recipe:
    """The recipe that suits a model: a preset's own, else the default."""
    return recipe_preset(PRESETS[model].recipe if model in PRESETS else "default")
