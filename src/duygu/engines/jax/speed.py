"""Whether bf16 pays on this device. The PyTorch twin holds the same functions in the same order."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

FAST = 1.5  # bf16 pays for its copies and its rounding only where its products are this much faster
TIMINGS = 60  # of each product that tells; a third of a second


def fast_bf16() -> bool:
    """Whether a matrix product of a small encoder's size is much faster in bf16: the best of many timings of each,
    taken in turn, since others may use the machine for moments. Summed in fp32, as the engine does."""
    best: dict[Any, float] = {}
    product = jax.jit(partial(jnp.matmul, preferred_element_type=jnp.float32))
    pairs = [(jnp.ones((512, 1024), dtype), jnp.ones((1024, 1024), dtype)) for dtype in (jnp.float32, jnp.bfloat16)]
    for _ in range(TIMINGS):
        for a, b in pairs:
            began = time.perf_counter()
            product(a, b).block_until_ready()
            best[a.dtype.name] = min(best.get(a.dtype.name, math.inf), time.perf_counter() - began)
    return best["float32"] > FAST * best["bfloat16"]
