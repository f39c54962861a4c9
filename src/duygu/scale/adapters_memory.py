"""What adapters and weights of 4 bits change in the memory that `duygu.scale.memory` predicts."""

from __future__ import annotations

import math

from duygu.models import nf4
from duygu.models.adapters import quantised_layers, trained_shapes
from duygu.models.spec import ModelSpec, in_low_precision, tensor_shapes
from duygu.recipe import Recipe


def bytes_of_weights(spec: ModelSpec, recipe: Recipe, engine: str, low: str) -> dict[str, int]:
    """The fields of `duygu.scale.memory.Weights`. What does not learn is held once, as the layers compute with it."""
    shapes, trained = tensor_shapes(spec), trained_shapes(spec, recipe)
    quantised = {f"{layer}.weight" for layer in quantised_layers(shapes, recipe)}
    held = sum(
        nf4.packed_bytes(shape, recipe.quantise == "nf4-double")
        if name in quantised
        else math.prod(shape) * (2 if low == "bf16" and in_low_precision(name) else 4)
        for name, shape in shapes.items()
        if name not in trained
    )
    learns = sum(map(math.prod, trained.values()))
    rounded = sum(math.prod(shape) for name, shape in trained.items() if in_low_precision(name))
    return {
        "masters": held + 4 * learns,
        "moments": 8 * learns,
        "gradients": 4 * learns,
        "copies": 2 * rounded if low == "bf16" else 0,
        "passing": _passing([math.prod(shapes[name]) for name in sorted(quantised)], spec.layers, engine, low),
    }


def _passing(sizes: list[int], layers: int, engine: str, low: str) -> int:
    """Bytes of quantised weights while they are whole.

    PyTorch has one at a time, twice, since its products lay it out anew. XLA, by its own account, has three layers of
    them while tokens are few, since making them whole waits for nothing, and a half or a fourth of that when the tokens
    themselves need more.
    """
    size = 2 if low == "bf16" else 4
    return 2 * size * max(sizes, default=0) if engine == "torch" else 3 * size * sum(sizes) // layers
