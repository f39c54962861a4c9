"""What adapters and weights of 4 bits change in the memory that `duygu.scale.memory` predicts."""

from __future__ import annotations

import math

from duygu.models import nf4
from duygu.models.adapters import quantised_layers, trained_shapes
from duygu.models.spec import ModelSpec, in_low_precision, tensor_shapes
from duygu.recipe import Recipe


def bytes_of_weights(spec: ModelSpec, recipe: Recipe, low: str) -> dict[str, int]:
    """Bytes of ``masters`` (all that lies in memory of the weights), ``moments``, ``gradients`` and ``copies``.

    What does not learn is held once, as the layers compute with it.
    """
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
    }


def passing_weights(spec: ModelSpec, recipe: Recipe, low: str) -> int:
    """Bytes of the largest weight while it is whole: levels in fp32, and once more as the layer multiplies by it."""
    shapes = tensor_shapes(spec)
    largest = max((math.prod(shapes[f"{layer}.weight"]) for layer in quantised_layers(shapes, recipe)), default=0)
    return largest * (4 + 4 + (2 if low == "bf16" else 4))
