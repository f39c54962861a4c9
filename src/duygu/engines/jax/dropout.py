"""Dropout whose mask is an integer hash, the same to the bit in both engines.

A mask is a function of (seed, step, layer, site, document, position, feature) and of nothing else, so it does not
depend on layout, accumulation, devices or framework, and there is no generator state to save. All arithmetic is on
int32 that wraps, with arithmetic shifts, which PyTorch and JAX both define and both do fast. The multipliers are those
of Wellons' "Prospecting for Hash Functions" (lowbias32, 2018); the quality of the masks is tested, not assumed.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

EMBEDDING, ATTENTION, ATTENTION_OUTPUT, FEED_FORWARD, POOLED, SITES = range(6)
FIRST = FEED_FORWARD  # of layer 0, which stands for all that is outside the layers: what a head reads

GOLDEN = 0x9E3779B9 - 2**32
MULTIPLY_1 = 0x7FEB352D
MULTIPLY_2 = 0x846CA68B - 2**32


def scramble(x: Array) -> Array:
    """A well-mixed int32 for each int32."""
    x = (x + GOLDEN) * MULTIPLY_1
    x = (x ^ (x >> 15)) * MULTIPLY_2
    return x ^ (x >> 13)


def site_keys(seed: Array, step: Array, layers: int, numbers_T: Array, positions_T: Array) -> Array:
    """(layers + 1, sites, T) int32: one key per token for every place that drops. Layer 0 is outside the layers."""
    stream = scramble(scramble(seed) ^ step)
    layer = scramble(stream ^ jnp.arange(layers + 1, dtype=jnp.int32))
    site = scramble(layer[:, None] ^ jnp.arange(SITES, dtype=jnp.int32))
    return scramble(scramble(site[..., None] ^ numbers_T) ^ positions_T)


def head_keys(keys_T: Array, heads: int) -> Array:
    """(T, heads) int32: one key per query token and attention head."""
    return scramble(keys_T[:, None] ^ jnp.arange(heads, dtype=jnp.int32))


def keep_mask(keys: Array, features: Array, rate: float) -> Array:
    """(..., F) bool: which ``features`` (F,) of each key's row survive; False with probability ``rate``."""
    x = keys[..., None] ^ scramble(features)
    x = x * MULTIPLY_1
    x = (x ^ (x >> 15)) * MULTIPLY_2
    return x >= round(rate * 2**32) - 2**31


def dropout(x: Array, keys: Array | None, rate: float, features: Array | None = None) -> Array:
    """``x`` (..., F) with features dropped by ``keys`` (...) and the rest scaled up; without keys, ``x``.

    Without ``features`` (F,) they are numbered from 0.
    """
    if keys is None or rate == 0.0:
        return x
    return _dropout(x, keys, jnp.arange(x.shape[-1], dtype=jnp.int32) if features is None else features, rate)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _dropout(x: Array, keys: Array, features: Array, rate: float) -> Array:
    return jnp.where(keep_mask(keys, features, rate), x * (1.0 / (1.0 - rate)), 0)


def _forward(x: Array, keys: Array, features: Array, rate: float) -> tuple[Array, tuple[Array, Array]]:
    return _dropout(x, keys, features, rate), (keys, features)


def _backward(rate: float, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, None, None]:
    """Hashes again: cheaper than keeping the mask."""
    return _dropout(gradient, *saved, rate), None, None


_dropout.defvjp(_forward, _backward)
