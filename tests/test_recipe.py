"""Recipes: TOML there and back, with and without its explanations, whatever the values."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from duygu.errors import RecipeError
from duygu.models.presets import RECIPES, preset_for, recipe_for, recipe_preset
from duygu.recipe import MEANINGS, Recipe, comment

SHARES = some.floats(0, 1, exclude_max=True)
RECIPE = some.builds(
    Recipe,
    epochs=some.integers(1, 10_000), batch=some.integers(1, 65_536), microbatch=some.integers(0, 65_536),
    gradient_checkpointing=some.booleans(),
    length=some.integers(8, 4096), head_share=some.floats(0, 1), lr=some.floats(1e-12, 1), warmup=SHARES,
    weight_decay=some.floats(0, 1), beta1=SHARES, beta2=SHARES, eps=some.floats(1e-30, 1), clip=some.floats(0, 1e9),
    dropout=some.none() | SHARES, attention_dropout=some.none() | SHARES,
    precision=some.sampled_from(["auto", "fp32", "bf16"]), keep=some.sampled_from(["best", "last"]),
    checkpoint_steps=some.integers(0, 10**6), class_weights=some.sampled_from(["none", "balanced", "1.1,0.9"]),
    label_smoothing=SHARES, r_drop=some.floats(0, 100), word_dropout=SHARES, word_swap=SHARES,
    layer_decay=some.floats(1e-9, 1), frozen=some.integers(0, 1024), fresh_layers=some.integers(0, 1024), ema=SHARES,
    patience=some.integers(0, 10_000), restarts=some.integers(0, 1), guard_warn=some.floats(1e-9, 1),
    guard_mark=some.floats(1e-9, 1), guard_loss=some.floats(1e-9, 10), guard_share=some.floats(0.6, 1),
    seed=some.integers(0, 2**31 - 1),
)  # fmt: skip
NAMES = [field.name for field in fields(Recipe)]


@given(RECIPE, some.dictionaries(some.sampled_from(NAMES), some.text()))
def test_explained_toml_reads_back_to_an_equal_recipe(recipe: Recipe, notes: dict[str, str]) -> None:
    """Whatever the notes hold, they stay comments."""
    assert Recipe.from_toml(recipe.explained(notes)) == recipe
    assert Recipe.from_toml(recipe.to_toml()) == recipe


@given(RECIPE, some.sampled_from(sorted(RECIPES)))
def test_presets_explain_any_recipe_made_from_them(recipe: Recipe, name: str) -> None:
    text = RECIPES[name].explained(recipe)
    assert Recipe.from_toml(text) == recipe
    own = RECIPES[name].recipe.as_dict()
    by_hand = [field for field, value in recipe.as_dict().items() if value != own[field]]
    assert text.count("Set by hand") == len(by_hand)


@pytest.mark.parametrize("name", RECIPES)
def test_every_field_of_a_printed_preset_has_a_comment(name: str) -> None:
    text = recipe_preset(name).explained(recipe_preset(name).recipe)
    blocks = text.split("\n\n")[1:]
    assert [block.rstrip("\n").rpartition("\n")[2].partition(" = ")[0] for block in blocks] == NAMES
    assert all(block.startswith("# ") for block in blocks)
    assert max(map(len, text.splitlines())) <= 100
    assert list(tomllib.loads(text)) == NAMES


def test_every_field_has_a_meaning() -> None:
    assert list(MEANINGS) == NAMES


def test_report_2024_says_why_of_every_field_that_differs_from_the_default() -> None:
    preset, default = recipe_preset("report-2024"), Recipe().as_dict()
    different = {name for name, value in preset.recipe.as_dict().items() if value != default[name]}
    assert different <= set(preset.reasons)
    own: dict[str, Any] = {name: getattr(preset.recipe, name) for name in ("lr", "clip", "epochs", "batch", "keep")}
    assert own == {"lr": 2e-5, "clip": 1.0, "epochs": 3, "batch": 16, "keep": "last"}


def test_gaps_of_report_2024_are_transformers_defaults() -> None:
    """The oracle is transformers itself; its Trainer's arguments, read without making any."""
    transformers = pytest.importorskip("transformers")
    usual = {field.name: field.default for field in fields(transformers.TrainingArguments)}
    recipe = recipe_preset("report-2024").recipe
    pairs = {
        "beta1": "adam_beta1", "beta2": "adam_beta2", "eps": "adam_epsilon", "weight_decay": "weight_decay",
        "seed": "seed", "clip": "max_grad_norm", "warmup": "warmup_steps",
    }  # fmt: skip
    assert {own: getattr(recipe, own) for own in pairs} == {own: usual[theirs] for own, theirs in pairs.items()}
    assert usual["lr_scheduler_type"] == "linear"
    assert str(usual["optim"]).startswith("adamw_torch")
    off = ("bf16", "fp16", "load_best_model_at_end", "dataloader_drop_last")
    assert not any(usual[name] for name in off)


@pytest.mark.parametrize(
    ("wrong", "right"), [("report2024", "report-2024"), ("Default", "default"), ("tinny", "tiny"), ("", "tiny")]
)
def test_unknown_presets_name_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(RecipeError, match=f"did you mean {right}"):
        recipe_preset(wrong)


def test_models_bring_their_recipe() -> None:
    assert recipe_for("tiny") is RECIPES["tiny"].recipe
    assert preset_for(None).name == preset_for("some/folder").name == "default"


def test_comments_hold_every_line() -> None:
    assert comment("one\ntwo\rthree\x0bfour\u2028five = 1") == "# one\\ntwo\\rthree\\x0bfour\\u2028five = 1"
