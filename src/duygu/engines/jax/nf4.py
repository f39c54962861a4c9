"""Weights of 4 bits, made whole again inside the layer that multiplies by them: `duygu.models.nf4` in JAX.

The PyTorch twin holds the same functions in the same order; all three give the same numbers to the bit. A backward pass
makes them whole once more, so that nothing but codes and scales is kept between the two.

    T  rows      I  inputs      O  outputs
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from duygu.engines.jax.products import multiply, product
from duygu.models import nf4
from duygu.models.nf4 import BLOCK, GROUP

Packed = tuple[Array, Array, Array | None, Array | None]  # codes, scales, groups, offset: as models.nf4.Packed


def dequantise(packed: Packed, inputs: int) -> Array:
    """(O, I) fp32."""
    codes, scales = packed[0], scales_of(packed)
    size = 2 * len(codes) // inputs * inputs
    levels = jnp.asarray(nf4.PAIRS)[codes].reshape(-1)[:size]
    rows = jnp.pad(levels, (0, -size % BLOCK)).reshape(-1, BLOCK) * scales[:, None]
    return rows.reshape(-1)[:size].reshape(-1, inputs)


def scales_of(packed: Packed) -> Array:
    """(blocks,) fp32.

    The choice between product and sum, whose outcome is certain, keeps LLVM from making one operation of both, which
    would round once where all others round twice. XLA's own barrier is gone by then.
    """
    _, scales, groups, offset = packed
    if groups is None or offset is None:
        return scales
    wide = jnp.repeat(groups, GROUP)[: len(scales)]
    product_ = jnp.asarray(nf4.DYNAMIC)[scales] * wide
    return jnp.where(jnp.isfinite(product_), product_, 0) + offset


@jax.custom_vjp
def packed_linear(x_TI: Array, packed: Packed, bias_O: Array | None) -> Array:
    """(T, O), in the type of ``x_TI``. Neither weight nor bias learns."""
    return multiply(x_TI, dequantise(packed, x_TI.shape[-1]), bias_O)


def _forward(x_TI: Array, packed: Packed, bias_O: Array | None) -> tuple[Array, tuple[Packed, Array | None]]:
    return packed_linear(x_TI, packed, bias_O), (packed, bias_O)


def _backward(saved: tuple[Packed, Array | None], g_TO: Array) -> tuple[Array, None, Array | None]:
    packed, bias_O = saved
    weight_OI = dequantise(packed, 2 * len(packed[0]) // g_TO.shape[-1])
    no_gradient = None if bias_O is None else jnp.zeros_like(bias_O)
    return product(g_TO, weight_OI.astype(g_TO.dtype), (1, 0)).astype(g_TO.dtype), None, no_gradient


packed_linear.defvjp(_forward, _backward)
