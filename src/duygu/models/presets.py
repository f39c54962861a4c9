"""Models and recipes by name.

A model preset names a model and brings the recipe that suits it; a recipe preset is a set of knobs. A model from
scratch learns nothing at the rate that suits a pretrained one, so ``tiny`` has a recipe of its own.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from duygu.errors import RecipeError
from duygu.models.checkpoints import CHECKPOINTS
from duygu.models.spec import ModelSpec
from duygu.recipe import Recipe, comment


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


@dataclass(frozen=True, slots=True)
class RecipePreset:
    """A recipe by name, with why its fields have the values they have."""

    name: str
    about: str
    recipe: Recipe
    reasons: Mapping[str, str]  # by field

    def explained(self, recipe: Recipe) -> str:
        """TOML text of ``recipe``, which was made from this preset, with a comment a field."""
        own, asked = self.recipe.as_dict(), recipe.as_dict()
        notes = {name: reason for name, reason in self.reasons.items() if own[name] == asked[name]}
        notes |= {name: f"Set by hand; the preset has {value}." for name, value in own.items() if value != asked[name]}
        return f"{comment(f'{self.name}: {self.about}')}\n\n{recipe.explained(notes)}"


_DEFAULTS_OF_TRAINER = "Not in the report; transformers' Trainer does this where nothing else is asked."
_LORA_STEPS = (
    "Steps of 8 documents of 512 tokens, two at a time; --set microbatch=8 takes them at once and trains the same."
)
_LORA = Recipe(
    epochs=3,
    batch=8,
    microbatch=2,
    gradient_checkpointing=True,
    length=512,
    lr=1e-4,
    lora_rank=16,
    lora_alpha=32.0,
)
_LORA_REASONS = {
    "gradient_checkpointing": "A third more work for less memory: by the sum Llama 8B takes 8 GB of a GPU, else 13.",
    "lr": "Adapters start at 0 and learn at higher rates than whole weights: QLoRA's 1e-4 to 2e-4.",
    "lora_targets": "QLoRA found that adapters on all linear layers are what matches full fine-tuning.",
}
_QLORA_STEPS = (
    "On one small device, after Dettmers et al. (2023), QLoRA: the layers' weights in 4 bits, adapters of width 16 on "
    f"every linear layer. {_LORA_STEPS}"
)
_QLORA = replace(_LORA, precision="bf16", quantise="nf4-double")
_QLORA_REASONS = {
    **_LORA_REASONS,
    "quantise": "Saves 0.4 bits a weight more than nf4, and was seen to cost nothing.",
    "precision": "The type that such checkpoints come in.",
}

RECIPES: Mapping[str, RecipePreset] = {
    "default": RecipePreset(
        name="default",
        about="for a pretrained BERT on hundreds to thousands of documents, after Mosbach et al. (2021), On the "
        "Stability of Fine-tuning BERT: a small rate, warm-up, many steps.",
        recipe=Recipe(),
        reasons={
            "length": "Longer documents keep their head and their tail: see long.",
            "eps": "BERT's own; with bias correction, which AdamW has here.",
        },
    ),
    "report-2024": RecipePreset(
        name="report-2024",
        about='the settings of "JAX or PyTorch: Financial News Sentiment Analysis" (September 2024) as far as the '
        "report names them; its gaps are filled by transformers' defaults, and each says so. What no field can say: "
        "the report had no validation part and read the number of epochs off its test part, while duygu holds a fifth "
        "of the training side out, so it trains on fewer documents. Its JAX run left the last, incomplete batch out "
        "of the evaluation (336 of 342 documents), while duygu answers every document once. It padded every text to "
        "one length; here nothing is padded in PyTorch and little in JAX, which changes the speed and not the "
        "optimisation. transformers' rate of update n of N is lr (N - n + 1) / N, duygu's lr (N - n + 1) / (N + 1). "
        "Whether the JAX run had a schedule at all, and which data order, is not known.",
        recipe=Recipe(
            epochs=3,
            batch=16,
            length=256,
            head_share=1.0,
            lr=2e-5,
            warmup=0.0,
            weight_decay=0.0,
            eps=1e-8,
            clip=1.0,
            precision="fp32",
            keep="last",
            seed=42,
        ),
        reasons={
            "epochs": "The report's JAX run took 3, its PyTorch run 2 (--set epochs=2).",
            "batch": "The report names 2 to 16. Its JAX scores are multiples of 1/336, and 336 is 21 x 16 (or 42 x 8).",
            "length": "A guess: the report says that most texts did not reach 256 tokens, and names no limit.",
            "head_share": "Not in the report; transformers' tokenizers cut the end off. The default keeps a quarter "
            "from the tail, where news often sum up.",
            "lr": "The report's.",
            "warmup": f"{_DEFAULTS_OF_TRAINER} The default warms up, so that early steps do not spoil what was learned "
            "in pre-training.",
            "weight_decay": f"{_DEFAULTS_OF_TRAINER} optax.adamw, if the JAX run used it, has 1e-4 where nothing is "
            "asked. The default decays a little.",
            "beta1": _DEFAULTS_OF_TRAINER,
            "beta2": _DEFAULTS_OF_TRAINER,
            "eps": f"{_DEFAULTS_OF_TRAINER}",
            "clip": "The report's.",
            "dropout": "Not in the report; the checkpoint's own, as transformers has it.",
            "attention_dropout": "Not in the report; the checkpoint's own, as transformers has it.",
            "precision": f"{_DEFAULTS_OF_TRAINER} The default takes bf16 where it is faster.",
            "keep": f"{_DEFAULTS_OF_TRAINER} The default keeps the epoch that is best on the validation part, which "
            "the report did not have.",
            "seed": _DEFAULTS_OF_TRAINER,
        },
    ),
    "tiny": RecipePreset(
        name="tiny",
        about="for the model preset tiny, which begins with random weights.",
        recipe=Recipe(epochs=10, lr=1e-3, precision="fp32"),
        reasons={
            "lr": "A model from scratch learns nothing in ten epochs at the rate that suits a pretrained one.",
            "precision": "So small a model gains nothing from bf16, whose rounding parts the engines within epochs.",
        },
    ),
    "large": RecipePreset(
        name="large",
        about="for XLM-RoBERTa, and for any model of 300 million weights and more: half the rate, twice the epochs.",
        recipe=Recipe(epochs=20, lr=1e-5, layer_decay=0.95),
        reasons={
            "epochs": "As Mosbach et al. (2021) train large models: too few updates is a cause of failed runs.",
            "layer_decay": "Lower layers learn a little slower: a small gain where models are large (docs/recipes.md).",
            "lr": "At the rate that suits BERT, such models were seen to answer every text with one label.",
        },
    ),
    "lora": RecipePreset(
        name="lora",
        about="for decoders of up to 2 billion weights: these as they are, adapters of width 16 on every linear layer. "
        f"{_LORA_STEPS}",
        recipe=_LORA,
        reasons=_LORA_REASONS,
    ),
    "lora-4bit": RecipePreset(
        name="lora-4bit",
        about=f"for models of billions of weights that name their own padding token, such as Qwen3. {_QLORA_STEPS}",
        recipe=_QLORA,
        reasons=_QLORA_REASONS,
    ),
    "llama-4bit": RecipePreset(
        name="llama-4bit",
        about=f"lora-4bit for Llama, whose checkpoints name no padding token. {_QLORA_STEPS}",
        recipe=replace(_QLORA, pad_token="<|finetune_right_pad_id|>"),
        reasons={
            **_QLORA_REASONS,
            "pad_token": "Llama 3.1 and later have it for this; for models that name their own take lora-4bit.",
        },
    ),
    "modernbert": RecipePreset(
        name="modernbert",
        about="for ModernBERT and its kind, whose checkpoints drop nothing unless they are told to.",
        recipe=Recipe(lr=3e-5, weight_decay=1e-5),
        reasons={
            "lr": "The highest of the rates that the authors of TabiBERT tried on their tests of Turkish.",
            "weight_decay": "Theirs too.",
        },
    ),
    "llama": RecipePreset(
        name="llama",
        about="for all weights of a Llama, whose checkpoints name no padding token.",
        recipe=Recipe(epochs=3, lr=1e-5, pad_token="<|finetune_right_pad_id|>"),
        reasons={
            "epochs": "A model of this size knows short texts by heart after few.",
            "lr": "That of Llama 3's own fine-tuning (arXiv:2407.21783, section 4.1.3).",
            "pad_token": "Llama 3.1 and later have it for this; older ones want another, such as <unk>.",
        },
    ),
}


def recipe_preset(name: str) -> RecipePreset:
    """The recipe preset of this name; raises `RecipeError` with the nearest name and all of them."""
    if name not in RECIPES:
        nearest = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.0)[0]
        fix = f"did you mean {nearest}? presets: {', '.join(RECIPES)}; a file's name ends in .toml"
        raise RecipeError(f"there is no recipe preset {name!r}", f"--recipe {name}", fix)
    return RECIPES[name]


def preset_for(model: str | None) -> RecipePreset:
    """The recipe preset that suits a model: a preset's own, also under the hub's name for it, else the default."""
    named = {name: preset.recipe for name, preset in PRESETS.items()}
    for name, checkpoint in CHECKPOINTS.items():
        named |= {name: checkpoint.recipe, checkpoint.model: checkpoint.recipe}
    return recipe_preset(named.get(str(model).partition("@")[0], "default"))


def recipe_for(model: str) -> Recipe:
    """The recipe that suits a model."""
    return preset_for(model).recipe
