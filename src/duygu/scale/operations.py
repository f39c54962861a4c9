"""How many floating-point operations a model needs for given documents, counted by hand.

Counted is what the mathematics needs, twice the number of multiplications: linear layers over real tokens and attention
within each document, in local layers within reach, in causal ones to tokens before; of a last layer of which one token
a document is read, keys and values for every token, and the rest for these only. Training takes three times as many:
forward, and the gradients by inputs and by weights. Where adapters learn, the layers' own weights have no gradient, and
neither have the word vectors. What is computed again to save memory is not counted. Norms, activations, turns, head and
embeddings, under one percent, are left out. Compilers' own counts are of no use: XLA's takes the body of a scan once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from duygu.models.adapters import adapted_layers, linear_layers
from duygu.models.llama import LLAMAS
from duygu.models.spec import ModelSpec, tensor_shapes
from duygu.recipe import Recipe

PLAIN = Recipe()  # all weights learn
QUERIES = ("query", "q_lin", "q_proj")  # how the families call their linear layers
KEYS_VALUES = ("key", "value", "k_lin", "v_lin", "k_proj", "v_proj")
ALL_THREE = "Wqkv"


@dataclass(frozen=True, slots=True)
class _Gradients:
    """What a backward pass computes in a layer; adapters learn wherever there is one."""

    by_inputs: bool
    by_weights: bool  # the layers' own
    by_entry: bool  # by what enters the layer: not in the first one, where the word vectors stay as they are


@dataclass(frozen=True, slots=True)
class _Linear:
    """A linear layer, and the width of the adapter beside it."""

    inputs: int
    outputs: int
    always: int  # outputs that a last layer, too, computes for every token
    enters: bool  # whether it reads what enters the layer
    rank: int

    def multiplications(self, tokens: int, read: int, asked: _Gradients) -> int:
        """Over all tokens, of which ``read`` are read by what comes next."""
        made = tokens * self.always + read * (self.outputs - self.always)
        by_inputs = asked.by_entry if self.enters else asked.by_inputs
        own = made * self.inputs * (1 + by_inputs + asked.by_weights)
        narrowed = tokens if self.always else read  # rows that the adapter's first matrix reads
        first = narrowed * self.inputs * (1 + by_inputs + asked.by_inputs)
        return own + self.rank * (first + made * (1 + 2 * asked.by_inputs))


def operations(spec: ModelSpec, lengths: Sequence[int], training: bool, recipe: Recipe = PLAIN) -> float:
    """Operations for documents of these lengths, in tokens; of a training step, with the recipe's adapters.

    Only for families with a twin. Of adapters on the feed-forward alone, whose gradient ends within the first layer,
    a little too many.
    """
    tokens, documents, adapted = sum(lengths), len(lengths), recipe.lora_rank > 0
    layers, passes = tuple(_linear_layers(spec, recipe)), 3 if training else 1
    complete = spec.layers - (spec.pooling == "first")
    linear = seen = 0
    for number in range(spec.layers):
        gradients = _Gradients(training, training and not adapted, training and not (adapted and number == 0))
        read = tokens if number < complete else documents
        linear += sum(layer.multiplications(tokens, read, gradients) for layer in layers)
        seen += sum(_seen(spec, number, length, number < complete) for length in lengths)
    return 2.0 * (linear + passes * 2 * spec.heads * spec.head_dim * seen)


def _linear_layers(spec: ModelSpec, recipe: Recipe) -> Iterator[_Linear]:
    """Those of one layer; all are alike."""
    shapes = tensor_shapes(spec)
    adapted = set(adapted_layers(shapes, recipe))
    for name in linear_layers(shapes):
        if re.search(r"\.layers?\.0\.", name):
            (outputs, inputs), kind = shapes[f"{name}.weight"], name.rpartition(".")[2]
            always = {ALL_THREE: outputs * 2 // 3, **dict.fromkeys(KEYS_VALUES, outputs)}.get(kind, 0)
            enters = always > 0 or kind in QUERIES
            yield _Linear(inputs, outputs, always, enters, recipe.lora_rank if name in adapted else 0)


def _seen(spec: ModelSpec, number: int, length: int, complete: bool) -> int:
    """Pairs of tokens of a document of which one sees the other in a layer, all asking or just one."""
    near = min(spec.window, length - 1) if spec.is_local(number) else length - 1
    if not complete:
        return near + 1
    if spec.family in LLAMAS:
        return length * (length + 1) // 2
    return length * (2 * near + 1) - near * (near + 1)
