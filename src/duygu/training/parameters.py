"""How each tensor learns: its share of the learning rate, whether it decays, whether it trains or starts afresh.

Pure, and one rule for both engines: their optimisers differ in what they decay by default, so neither is asked. A model
is a pile of blocks: 0 the embeddings, n the layer n - 1, and on top all that follows the layers. Where there are
adapters, these and the head are all that learns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from duygu.recipe import Recipe

# As transformers' Trainer has it: no bias and no normalisation layer, under any of the names in use.
_NO_DECAY = re.compile(r"(^|[._])bias$|layer_?norm|rms_?norm|(^|[._])norm([._\d]|$)", re.IGNORECASE)


_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")
_EMBEDDING = re.compile(r"(?:^|\.)embed")
_ADAPTER = re.compile(r"\.lora_[AB]\.weight$")  # PEFT's names


@dataclass(frozen=True, slots=True)
class Rule:
    """What the optimiser does with one tensor."""

    scale: float  # of the step's learning rate
    decay: bool  # weight decay, decoupled
    trainable: bool


def parameter_rules(names: Iterable[str], recipe: Recipe) -> dict[str, Rule]:
    """A rule for every tensor name, in the order given.

    Layer-wise decay as in Sun et al. (2019), "How to Fine-Tune BERT for Text Classification?": the top layer and what
    follows it learn at the full rate, every layer below at ``recipe.layer_decay`` of the rate above it.
    """
    blocks = blocks_of(names)
    layers = max(blocks.values(), default=1) - 1
    beside = recipe.lora_rank > 0
    return {
        name: Rule(
            scale=recipe.layer_decay ** max(0, layers - block),
            decay=decays(name) and recipe.weight_decay > 0,
            trainable=block >= min(recipe.frozen, layers + 1) and not (beside and _is_held(name, block > layers)),
        )
        for name, block in blocks.items()
    }


def decays(name: str) -> bool:
    """Whether weight decay is for this tensor: for all but biases and normalisation layers."""
    return _NO_DECAY.search(name) is None


def trained_names(names: Iterable[str], recipe: Recipe) -> tuple[str, ...]:
    """What an engine holds moments of, and a checkpoint keeps; without adapters, every tensor."""
    rules = parameter_rules(names, recipe)
    return tuple(name for name, rule in rules.items() if rule.trainable or not recipe.lora_rank)


def _is_held(name: str, above: bool) -> bool:
    """Whether a tensor stays as it is where adapters learn: one of the encoder, which ends with a norm ``model.*``
    has above its layers."""
    return _ADAPTER.search(name) is None and (not above or name.startswith("model."))


def fresh_names(names: Iterable[str], recipe: Recipe) -> tuple[str, ...]:
    """Tensors that start from new weights: the top ``recipe.fresh_layers`` layers and all that follows them.

    Zhang et al. (2021), "Revisiting Few-sample BERT Fine-tuning": the pooler goes with the layers.
    """
    blocks = blocks_of(names)
    top = max(blocks.values(), default=1)
    lowest = max(1, top - recipe.fresh_layers)
    return tuple(name for name, block in blocks.items() if recipe.fresh_layers and block >= lowest)


def blocks_of(names: Iterable[str]) -> dict[str, int]:
    """The block of every tensor, in the order given."""
    names = list(names)
    numbers = {name: int(found[1]) for name in names if (found := _LAYER.search(name))}
    top = max(numbers.values(), default=-1) + 2
    return {name: numbers[name] + 1 if name in numbers else 0 if _EMBEDDING.search(name) else top for name in names}


def layers_of(names: Iterable[str]) -> int:
    """How many layers the names tell of; 0 where they number none."""
    return len({found[1] for name in names if (found := _LAYER.search(name))})


def average_rate(recipe: Recipe, step: int) -> float:
    """How far the averages move towards the weights after update ``step``, counted from 1.

    1 - min(decay, (1 + step) / (10 + step)): a young average forgets faster, or a short run would average its start.
    As TensorFlow's ``ExponentialMovingAverage`` with ``num_updates`` has it.
    """
    return 1.0 - min(recipe.ema, (1 + step) / (10 + step))
