"""How many floating-point operations a model needs for given documents, counted by hand.

Counted is what the mathematics needs, twice the number of multiplications: linear layers over real tokens and attention
within each document, in local layers within reach; of a last layer of which first tokens are read, keys and values for
every token, and the rest for these only. Training takes three times as many: forward, and the gradients by inputs and
by weights; what layers compute again to save memory is not counted. Norms, activations, turns and embeddings, under one
percent, are left out. Compilers' own counts are of no use: XLA's takes the body of a scan once.
"""

from __future__ import annotations

from collections.abc import Sequence

from duygu.models.parts import PARTS
from duygu.models.spec import ModelSpec


def operations(spec: ModelSpec, lengths: Sequence[int], training: bool) -> float:
    """Operations for documents of these lengths, in tokens."""
    tokens, documents, hidden = sum(lengths), len(lengths), spec.hidden
    halves = 2 if spec.family in PARTS else 3  # up and down; with a gate, up twice
    whole = 4 * hidden * hidden + halves * hidden * spec.intermediate  # multiplications of a token in a layer
    always = 2 * hidden * hidden  # keys and values
    complete = spec.layers - (spec.pooling == "first")
    linear = complete * tokens * whole
    seen = sum(_seen(spec, number, length) for number in range(complete) for length in lengths)
    if spec.pooling == "first":
        linear += tokens * always + documents * (whole - always)
        reach = spec.window if spec.is_local(complete) else max(lengths)
        seen += sum(min(length, reach + 1) for length in lengths)
    return 2.0 * (linear + 2 * hidden * seen) * (3 if training else 1)


def _seen(spec: ModelSpec, number: int, length: int) -> int:
    """Pairs of tokens of a document of which one sees the other in a layer."""
    near = min(spec.window, length - 1) if spec.is_local(number) else length - 1
    return length * (2 * near + 1) - near * (near + 1)
