"""Whether bf16 pays on this device. The JAX twin holds the same functions in the same order."""

from __future__ import annotations

import math
import time

import torch

FAST = 1.5  # bf16 pays for its copies and its rounding only where its products are this much faster
TIMINGS = 60  # of each product that tells; a third of a second


def fast_bf16(device: torch.device) -> bool:
    """Whether a matrix product of a small encoder's size is much faster in bf16: the best of many timings of each,
    taken in turn, since others may use the machine for moments."""
    best: dict[torch.dtype, float] = {}
    pairs = [
        (torch.ones(512, 1024, dtype=dtype, device=device), torch.ones(1024, 1024, dtype=dtype, device=device))
        for dtype in (torch.float32, torch.bfloat16)
    ]
    for _ in range(TIMINGS):
        for a, b in pairs:
            began = time.perf_counter()
            float((a @ b)[0, 0])
            best[a.dtype] = min(best.get(a.dtype, math.inf), time.perf_counter() - began)
    return best[torch.float32] > FAST * best[torch.bfloat16]
