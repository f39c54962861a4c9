"""What a model is, in numbers: read from ``config.json`` by allow-list, never by executing anything.

A family is one entry in `FAMILIES`: how to read its config and which tensors it has. A config value that changes the
mathematics and is not understood is an error that names it; a key that is unknown but harmless is only reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Activation = Literal["gelu", "gelu_tanh", "relu"]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The shape of a sequence classifier and the constants of its arithmetic."""

    family: str  # "bert"
    vocabulary: int  # rows of the word embedding
    positions: int
    segments: int  # token types
    layers: int
    hidden: int
    heads: int
    intermediate: int
    activation: Activation
    norm_eps: float
    dropout: float  # hidden states
    attention_dropout: float
    classifier_dropout: float
    initializer_range: float
    pad_id: int
    labels: tuple[str, ...]

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads
