"""Rotary positions, made once in numpy for both engines. Su et al. (2021), arXiv:2104.09864.

At position 131,072 one unit in the last place of a rate is an angle of .008. So rates are rounded where transformers
rounds them, and cosines and sines are tables: a compiler that fuses the product of position and rate into what follows
would turn features by another angle than the one that was rounded.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from duygu.models.llama import RopeScaling
from duygu.models.spec import ModelSpec

Floats = NDArray[np.float32]


def turn_rates(spec: ModelSpec) -> Floats:
    """(2, head width / 2) radians per position of each pair of features: in global layers, then in local ones."""
    return np.stack([_rates(theta, spec.head_dim) for theta in (spec.theta, spec.local_theta)])


def scaled_rates(spec: ModelSpec) -> Floats:
    """(head width / 2,) radians per position of each pair of features, slowed down where the spec says so."""
    rates = _rates(spec.theta, spec.head_dim)
    return rates if spec.rope_scaling is None else _slowed(rates, spec.rope_scaling)


def turns(spec: ModelSpec, longest: int) -> Floats:
    """(2, longest, head width / 2) cosines and sines of each position's angles, all layers alike."""
    return _table(spec, 1 << (longest - 1).bit_length())[:, :longest]


@lru_cache(maxsize=4)
def _table(spec: ModelSpec, positions: int) -> Floats:
    """Angles are rounded to fp32, as transformers does; of these cosine and sine are exact up to one rounding."""
    angles = np.arange(positions, dtype=np.float32)[:, None] * scaled_rates(spec)
    return np.stack([np.cos(angles, dtype=np.float64), np.sin(angles, dtype=np.float64)]).astype(np.float32)


def _rates(theta: float, width: int) -> Floats:
    """theta ** (-2 k / width), the power rounded to fp32 once: numpy's own fp32 power is off in one rate of five."""
    exponents = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
    return np.float32(1.0) / (np.float64(theta) ** exponents.astype(np.float64)).astype(np.float32)


def _slowed(rates: Floats, scaling: RopeScaling) -> Floats:
    """Llama 3.1's: short periods as they are, long ones ``factor`` times as long, between them a mixture.

    Every operation in fp32 and in the order of transformers' ``_compute_llama3_parameters``, so that no bit differs.
    """
    factor, low, high, positions = scaling.factor, scaling.low, scaling.high, scaling.positions
    periods = np.float32(2 * math.pi) * (np.float32(1.0) / rates)
    slow = np.where(periods > positions / low, rates / np.float32(factor), rates)
    share = np.float32(positions) * (np.float32(1.0) / periods) - np.float32(low)
    share = share / np.float32(high - low)
    mixed = (np.float32(1.0) - share) * slow / np.float32(factor) + share * slow
    between = (periods >= positions / high) & (periods <= positions / low)
    return np.where(between, mixed, slow).astype(np.float32)
