"""The products of a linear layer, all three on XLA's fast kernels.

    T  rows      I  inputs      O  outputs

On a CPU, XLA multiplies bf16 at its full rate only where a product sums in fp32 and reads its left side row by row;
left to itself it converts to fp32 first and takes twice as long. docs/performance.md has the figures.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array


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
def multiply(x_TI: Array, weight_OI: Array, bias_O: Array | None = None) -> Array:
    """(T, O) in the type of ``x_TI``, summed in fp32."""
    y_TO = product(x_TI, weight_OI.astype(x_TI.dtype), (1, 1))
    return (y_TO if bias_O is None else y_TO + bias_O).astype(x_TI.dtype)


def _forward(x_TI: Array, weight_OI: Array, bias_O: Array | None) -> tuple[Array, tuple[Array, Array, Array | None]]:
    return multiply(x_TI, weight_OI, bias_O), (x_TI, weight_OI, bias_O)


def _backward(saved: tuple[Array, Array, Array | None], g_TO: Array) -> tuple[Array, Array, Array | None]:
    x_TI, weight_OI, bias_O = saved
    x_gradient = product(g_TO, weight_OI.astype(g_TO.dtype), (1, 0)).astype(x_TI.dtype)
    bias_gradient = None if bias_O is None else g_TO.astype(jnp.float32).sum(axis=0)
    return x_gradient, product(transposed(g_TO), x_TI, (1, 0)), bias_gradient


multiply.defvjp(_forward, _backward)
