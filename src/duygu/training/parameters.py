"""How each tensor learns: its share of the learning rate, whether it decays, whether it trains at all.

Pure, and one rule for both engines: their optimisers differ in what they decay by default, so neither is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from duygu.recipe import Recipe

# As transformers' Trainer has it: no bias and no normalisation layer, under any of the names in use.
_NO_DECAY = re.compile(r"(^|[._])bias$|layer_?norm|rms_?norm|(^|[._])norm([._\d]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rule:
    """What the optimiser does with one tensor."""

    scale: float  # of the step's learning rate
    decay: bool  # weight decay, decoupled
    trainable: bool


def parameter_rules(names: Iterable[str], recipe: Recipe) -> dict[str, Rule]:
    """A rule for every tensor name, in the order given."""
    return {name: Rule(scale=1.0, decay=decays(name) and recipe.weight_decay > 0, trainable=True) for name in names}


def decays(name: str) -> bool:
    """Whether weight decay is for this tensor: for all but biases and normalisation layers."""
    return _NO_DECAY.search(name) is None
