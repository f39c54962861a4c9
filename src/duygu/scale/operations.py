"""How many floating-point operations a model needs for given documents, counted by hand.

Counted is what the mathematics needs, twice the number of multiplications: linear layers over real tokens and attention
within each document; of the last layer keys and values for every token, and the rest for first tokens only. Training
takes three times as many: forward, and the gradients by inputs and by weights. Norms, activations and embeddings, under
one percent, are left out. Compilers' own counts are of no use: XLA's takes the body of a scan once.
"""

from __future__ import annotations

from collections.abc import Sequence

from duygu.models.spec import ModelSpec


def operations(spec: ModelSpec, lengths: Sequence[int], training: bool) -> float:
    """Operations for documents of these lengths, in tokens."""
    tokens, documents, hidden = sum(lengths), len(lengths), spec.hidden
    whole = 4 * hidden * hidden + 2 * hidden * spec.intermediate  # multiplications of a token in a layer
    always = 2 * hidden * hidden  # keys and values
    linear = tokens * ((spec.layers - 1) * whole + always) + documents * (whole - always)
    attention = 2 * hidden * ((spec.layers - 1) * sum(length * length for length in lengths) + tokens)
    return 2.0 * (linear + attention) * (3 if training else 1)
