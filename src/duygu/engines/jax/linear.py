"""Linear layers whose three products all reach XLA's fast kernels, and which of their results a backward pass keeps.

    T  rows      I  inputs      O  outputs

On a CPU, XLA multiplies bf16 at its full rate only where a product sums in fp32 and reads its left side row by row;
left to itself it converts to fp32 first and takes twice as long. docs/performance.md has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name


def linear(x_TI: Array, w: Mapping[str, Array], *names: str) -> Array:
    """(T, O), the outputs of several layers side by side. Computes in the type of ``x_TI``, sums in fp32.

    A weight is (O, I), PyTorch's orientation. Layers without a bias have none here either.
    """
    weight_OI = _side_by_side([w[f"{name}.weight"] for name in names])
    biases = [w[f"{name}.bias"] for name in names if f"{name}.bias" in w]
    return _linear(x_TI, weight_OI, _side_by_side(biases) if biases else None)


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


def product(a: Array, b: Array, contract: tuple[int, int], batch: int = 0) -> Array:
    """Sum over axis ``contract[0]`` of ``a`` and ``contract[1]`` of ``b``, in fp32; ``batch`` axes pair up."""
    pairs = tuple(range(batch))
    dimensions = (((contract[0],), (contract[1],)), (pairs, pairs))
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)


def transposed(x: Array) -> Array:
    """The last two axes swapped, in memory too: XLA would fold a plain transpose into the product that reads it."""
    *batch, rows, columns = x.shape
    width = math.gcd(columns, 64)
    width = max(1, width // 2) if width == columns else width
    halves = jnp.moveaxis(x.reshape(*batch, rows, columns // width, width), len(batch), -1)
    return halves.reshape(*batch, columns, rows)


@jax.custom_vjp
def _linear(x_TI: Array, weight_OI: Array, bias_O: Array | None) -> Array:
    y_TO = product(x_TI, weight_OI.astype(x_TI.dtype), (1, 1))
    return (y_TO if bias_O is None else y_TO + bias_O).astype(x_TI.dtype)


def _forward(x_TI: Array, weight_OI: Array, bias_O: Array | None) -> tuple[Array, tuple[Array, Array, Array | None]]:
    return _linear(x_TI, weight_OI, bias_O), (x_TI, weight_OI, bias_O)


def _backward(saved: tuple[Array, Array, Array | None], g_TO: Array) -> tuple[Array, Array, Array | None]:
    x_TI, weight_OI, bias_O = saved
    x_gradient = product(g_TO, weight_OI.astype(g_TO.dtype), (1, 0)).astype(x_TI.dtype)
    bias_gradient = None if bias_O is None else g_TO.astype(jnp.float32).sum(axis=0)
    return x_gradient, product(transposed(g_TO), x_TI, (1, 0)), bias_gradient


_linear.defvjp(_forward, _backward)


def _side_by_side(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)
