"""Dropout whose mask is an integer hash, the same to the bit in both engines.

A mask is a function of (seed, step, layer, site, document, position, feature) and of nothing else, so it does not
depend on layout, accumulation, devices or framework, and there is no generator state to save. All arithmetic is on
int32 that wraps, with arithmetic shifts, which PyTorch and JAX both define and both do fast. The multipliers are those
of Wellons' "Prospecting for Hash Functions" (lowbias32, 2018); the quality of the masks is tested, not assumed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from duygu.engines import StepKey

EMBEDDING, ATTENTION, ATTENTION_OUTPUT, FEED_FORWARD, POOLED, SITES = range(6)

GOLDEN = 0x9E3779B9 - 2**32
MULTIPLY_1 = 0x7FEB352D
MULTIPLY_2 = 0x846CA68B - 2**32


def scramble(x: Tensor) -> Tensor:
    """A well-mixed int32 for each int32."""
    x = (x + GOLDEN) * MULTIPLY_1
    x = (x ^ (x >> 15)) * MULTIPLY_2
    return x ^ (x >> 13)


def site_keys(key: StepKey, layers: int, numbers_T: Tensor, positions_T: Tensor) -> Tensor:
    """(layers + 1, sites, T) int32: one key per token for every place that drops. Layer 0 is outside the layers."""
    device = numbers_T.device
    step = scramble(scramble(torch.tensor(key.seed, dtype=torch.int32, device=device)) ^ key.step)
    layer = scramble(step ^ torch.arange(layers + 1, dtype=torch.int32, device=device))
    site = scramble(layer[:, None] ^ torch.arange(SITES, dtype=torch.int32, device=device))
    return scramble(scramble(site[..., None] ^ numbers_T) ^ positions_T)


def head_keys(keys_T: Tensor, heads: int) -> Tensor:
    """(T, heads) int32: one key per query token and attention head."""
    return scramble(keys_T[:, None] ^ torch.arange(heads, dtype=torch.int32, device=keys_T.device))


def keep_mask(keys: Tensor, features: int, rate: float) -> Tensor:
    """(..., features) bool: which features of each key's row survive; False with probability ``rate``."""
    x = keys[..., None] ^ scramble(torch.arange(features, dtype=torch.int32, device=keys.device))
    x = x.mul_(MULTIPLY_1)
    x = x.bitwise_xor_(x >> 15).mul_(MULTIPLY_2)
    return x >= round(rate * 2**32) - 2**31


def dropout(x: Tensor, keys: Tensor | None, rate: float) -> Tensor:
    """``x`` (..., features) with features dropped by ``keys`` (...) and the rest scaled up; without keys, ``x``."""
    if keys is None or rate == 0.0:
        return x
    return _Dropout.apply(x, keep_mask(keys, x.shape[-1], rate), 1.0 / (1.0 - rate))


class _Dropout(torch.autograd.Function):
    """Keeps one byte a feature for the backward pass, where autograd's own product would keep four."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, scale: float) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return (x * scale).mul_(keep)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (keep,) = ctx.saved_tensors
        return (gradients[0] * ctx.scale).mul_(keep), None, None
