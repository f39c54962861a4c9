"""Linear layers, and which of their results a backward pass keeps.

    T  rows      I  inputs      O  outputs

`duygu.engines.jax.products` has the products; those with adapters, or in 4 bits, are `duygu.engines.jax.lora`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from duygu.engines.jax.lora import adapted_linear, is_adapted
from duygu.engines.jax.products import multiply, product, transposed

__all__ = ["keep", "linear", "product", "remembered", "transposed"]


def linear(x_TI: Array, w: Mapping[str, Array], *names: str) -> Array:
    """(T, O), the outputs of several layers side by side. Computes in the type of ``x_TI``, sums in fp32.

    A weight is (O, I), PyTorch's orientation. Layers without a bias have none here either.
    """
    if any(is_adapted(w, name) for name in names):
        return jnp.concatenate([adapted_linear(x_TI, w, name) for name in names], axis=-1)
    weight_OI = _side_by_side([w[f"{name}.weight"] for name in names])
    biases = [w[f"{name}.bias"] for name in names if f"{name}.bias" in w]
    return multiply(x_TI, weight_OI, _side_by_side(biases) if biases else None)


def keep(x: Array) -> Array:
    """Mark what `remembered` saves: the results of products. All else is cheap to compute again."""
    return checkpoint_name(x, "kept")


def remembered(layer: Callable[..., Any], again: bool) -> Callable[..., Any]:
    """The layer, whose backward pass finds what was marked with `keep` and computes the rest again.

    With ``again`` it finds the input only, and computes all of the layer again: Chen et al. (2016), arXiv:1604.06174.
    """
    if again:  # a layer that is not scanned needs the guard, or XLA finds that it has what it is to compute again
        return jax.checkpoint(layer, policy=jax.checkpoint_policies.nothing_saveable)
    policy = jax.checkpoint_policies.save_only_these_names("kept")
    return jax.checkpoint(layer, policy=policy, prevent_cse=False)


def _side_by_side(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)
