"""Presets: names that open, recipes that are valid, errors that list what there is."""

from __future__ import annotations

import json

import pytest

from duygu import cli
from duygu.errors import RecipeError
from duygu.models.adapters import require_adaptable
from duygu.models.checkpoints import CHECKPOINTS, access
from duygu.models.folder import open_model
from duygu.models.presets import PRESETS, RECIPES, recipe_for, recipe_preset
from duygu.models.source import hub_name, pinned
from duygu.models.spec import ModelSpec, parameters, read_spec
from duygu.recipe import Recipe

PUBLISHED = {  # millions of parameters that their authors name; these are without a head
    "berturk": 111,
    "berturk-128k": 184,
    "distilberturk": 68,
    "mbert": 178,
    "xlm-r-base": 278,
    "xlm-r-large": 560,
    "sindbert-large": 357,
    "llama-3.1-8b": 7505,  # 8,030 with its language head of 525
}


WITHOUT_HEAD = {  # weights that the hub counts in the checkpoints, without a language head of their own
    "qwen2.5-0.5b": 494_032_768,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360 - 151_936 * 4096,
    "llama-3.1-8b": 8_030_261_248 - 128_256 * 4096,
}


def spec_of(name: str) -> ModelSpec:
    return read_spec(CHECKPOINTS[name].config, ("a", "b"), name)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_is_found_by_its_short_name(name: str) -> None:
    model = CHECKPOINTS[name].model
    assert hub_name(name) == (model, "main")
    assert pinned(name, f"{model}@{'0' * 40}") == f"{model}@{'0' * 40}"
    assert (
        recipe_for(name) is recipe_for(model) is recipe_for(f"{model}@main") is RECIPES[CHECKPOINTS[name].recipe].recipe
    )
    assert recipe_for(name).length <= spec_of(name).positions


@pytest.mark.parametrize("name", PUBLISHED)
def test_shapes_give_the_published_numbers_of_parameters(name: str) -> None:
    assert parameters(spec_of(name)) / 1e6 == pytest.approx(PUBLISHED[name], rel=0.01)


@pytest.mark.parametrize("name", WITHOUT_HEAD)
def test_decoders_have_the_published_weights(name: str) -> None:
    spec = spec_of(name)
    assert parameters(spec) - 2 * spec.hidden == WITHOUT_HEAD[name]


def test_a_decoder_brings_a_recipe_that_needs_no_further_option() -> None:
    """Qwen's tokenizers name their padding token, Llama's do not; what is too large for a small device is in 4 bits."""
    decoders = {name: recipe_for(name) for name in WITHOUT_HEAD}
    for name, recipe in decoders.items():
        require_adaptable(spec_of(name), recipe)
        assert recipe.lora_rank
        assert recipe.gradient_checkpointing
        assert bool(recipe.pad_token) == name.startswith("llama")
        assert (recipe.quantise != "none") == (WITHOUT_HEAD[name] > 2e9)


def test_a_gated_model_says_how_it_is_had(capsys: pytest.CaptureFixture[str]) -> None:
    assert [name for name, checkpoint in CHECKPOINTS.items() if checkpoint.gated] == ["llama-3.1-8b"]
    assert access("meta-llama/Llama-3.1-8B@main") == access("llama-3.1-8b")
    assert access("qwen3-4b") == access("some/folder") == ""
    assert cli.main(["models"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert access("llama-3.1-8b") in shown
    assert all(words in access("llama-3.1-8b") for words in ("accept its terms", "hf auth login", "HF_TOKEN"))


def test_weights_of_a_fallback_are_those_that_transformers_has() -> None:
    """`duygu models` does not ask it."""
    found = {name: checkpoint.weights for name, checkpoint in CHECKPOINTS.items() if checkpoint.weights}
    assert found
    assert found == {name: parameters(spec_of(name)) for name in found}


def test_roberta_has_512_positions_for_text() -> None:
    assert spec_of("xlm-r-base").positions == 512
    assert spec_of("xlm-r-base").first_position == 2


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


def test_models_lists_every_preset(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["models", "--json"]) == 0
    listed = {model["name"]: model for model in json.loads(capsys.readouterr().out)["models"]}
    assert listed.keys() == CHECKPOINTS.keys() | PRESETS.keys()
    assert not listed["berturk-uncased"]["advised"]
    llama = listed["llama-3.1-8b"]  # its recipe has adapters, and weights of 4 bits
    assert max(llama["train_bytes"].values()) < 4 * llama["parameters"], "fp32 masters alone would be more"
    assert max(llama["score_bytes"].values()) < 2 * llama["parameters"], "so would a bf16 model"
    assert listed["xlm-r-large"]["train_bytes"]["torch"] > 16 * listed["xlm-r-large"]["parameters"]
    assert cli.main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert {line.split()[0] for line in lines[1:] if line and line[0] != " "} > listed.keys()
