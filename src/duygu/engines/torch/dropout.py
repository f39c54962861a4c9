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
FIRST = FEED_FORWARD  # of layer 0, which stands for all that is outside the layers: what a head reads

GOLDEN = 0x9E3779B9 - 2**32
MULTIPLY_1 = 0x7FEB352D
MULTIPLY_2 = 0x846CA68B - 2**32

CHUNK = 1 << 17  # hashes at a time on a CPU: half a MiB
BITS = {2: torch.int16, 4: torch.int32}  # integers of a float's size


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


def keep_mask(keys: Tensor, features: Tensor, rate: float) -> Tensor:
    """(..., F) bool: which ``features`` (F,) of each key's row survive; False with probability ``rate``.

    Some rows at a time, so that what is hashed stays in the cache: four times as fast for the hidden states of a step.
    """
    mixed = scramble(features)
    keep = torch.empty(*keys.shape, len(features), dtype=torch.bool, device=keys.device)
    rows = max(1, CHUNK // len(features)) if keys.device.type == "cpu" else keys.numel()
    for part, out in zip(keys.flatten().split(rows), keep.flatten(0, -2).split(rows), strict=True):
        x = part[:, None] ^ mixed
        x = x.mul_(MULTIPLY_1)
        x = x.bitwise_xor_(x >> 15).mul_(MULTIPLY_2)
        torch.ge(x, round(rate * 2**32) - 2**31, out=out)
    return keep


def masked_(x: Tensor, keep: Tensor | None) -> Tensor:
    """``x`` with 0 where ``keep`` is False, in place; without a mask, ``x``.

    Bits times 0 or 1: the product of a float and a bool, which PyTorch converts first, takes ten times as long.
    """
    if keep is not None:
        x.view(BITS[x.element_size()]).mul_(keep.view(torch.int8))
    return x


def dropout(x: Tensor, keys: Tensor | None, rate: float, features: Tensor | None = None) -> Tensor:
    """``x`` (..., F) with features dropped by ``keys`` (...) and the rest scaled up; without keys, ``x``.

    Without ``features`` (F,) they are numbered from 0.
    """
    if keys is None or rate == 0.0:
        return x
    if features is None:
        features = torch.arange(x.shape[-1], dtype=torch.int32, device=x.device)
    return _Dropout.apply(x, keep_mask(keys, features, rate), 1.0 / (1.0 - rate))


class _Dropout(torch.autograd.Function):
    """Keeps one byte a feature for the backward pass, where autograd's own product would keep four."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, scale: float) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return masked_(x * scale, keep)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (keep,) = ctx.saved_tensors
        return masked_(gradients[0] * ctx.scale, keep), None, None
