"""Weights of 4 bits, made whole again inside the layer that multiplies by them: `duygu.models.nf4` in PyTorch.

The JAX twin holds the same functions in the same order; all three give the same numbers to the bit. A backward pass
makes them whole once more, so that nothing but codes and scales is kept between the two.

    T  rows      I  inputs      O  outputs
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duygu.models import nf4
from duygu.models.nf4 import BLOCK, GROUP

PIECE = {"cpu": 1 << 13, "cuda": 1 << 19}  # blocks made whole at a time: what a core's cache holds; few launches
Packed = tuple[Tensor, Tensor, Tensor | None, Tensor | None]  # codes, scales, groups, offset: as models.nf4.Packed


def dequantise(packed: Packed, inputs: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """(O, I), computed in fp32 and rounded to ``dtype``: piece by piece, so that no more than it is ever in memory."""
    codes, scales = packed[0], scales_of(packed)
    pairs, size, piece = _tables(codes.device)[0], 2 * len(codes) // inputs * inputs, PIECE[codes.device.type]
    rows = torch.empty(len(scales), BLOCK, dtype=dtype, device=codes.device)
    for codes_B, scales_S, part in zip(
        codes.split(piece * BLOCK // 2), scales.split(piece), rows.split(piece), strict=True
    ):
        levels = pairs.index_select(0, codes_B.int()).view(torch.float32)
        levels = F.pad(levels, (0, -len(levels) % BLOCK)).view(-1, BLOCK)
        part.copy_(levels.mul_(scales_S[:, None]))
    return rows.flatten()[:size].view(-1, inputs)


def scales_of(packed: Packed) -> Tensor:
    """(blocks,) fp32."""
    _, scales, groups, offset = packed
    if groups is None or offset is None:
        return scales
    dynamic = _tables(scales.device)[1]
    wide = groups.repeat_interleave(GROUP)[: len(scales)]
    return dynamic.index_select(0, scales.int()) * wide + offset


def packed_linear(x_TI: Tensor, packed: Packed, bias_O: Tensor | None) -> Tensor:
    """(T, O), in the type of ``x_TI``. Neither weight nor bias learns."""
    return _PackedLinear.apply(x_TI, bias_O, *packed)


class _PackedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TI: Tensor, bias_O: Tensor | None, *packed: Tensor | None) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(*packed)
        return F.linear(x_TI, _weight(packed, x_TI), bias_O)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (g_TO,), packed = gradients, ctx.saved_tensors  # once: where layers are computed again, a second look fails
        weight_OI = _weight(packed, g_TO, 2 * len(packed[0]) // g_TO.shape[-1])
        return (g_TO @ weight_OI, None, *[None] * len(packed))


def _weight(packed: Any, x: Tensor, inputs: int | None = None) -> Tensor:
    """(O, I) in the type of ``x``, which has I columns unless that is said."""
    return dequantise(packed, inputs or x.shape[-1], x.dtype)


class PackedWeight(nn.Module):
    """Holds a quantised weight as buffers under the names of `models.nf4.Packed`."""

    def __init__(self, parts: dict[str, Tensor]) -> None:
        super().__init__()
        for name in nf4.Packed.__slots__:
            like = parts.get(name)
            self.register_buffer(name, None if like is None else torch.empty(like.shape, dtype=like.dtype))

    def packed(self) -> Packed:
        """The tensors."""
        codes, scales, groups, offset = (getattr(self, name) for name in nf4.Packed.__slots__)
        return codes, scales, groups, offset


@cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor]:
    """What a byte of codes stands for, two numbers of 4 bytes as one of 8: (256,); and a scale of 8 bits: (256,)."""
    pairs = torch.from_numpy(nf4.PAIRS).view(torch.int64).flatten()  # looking up one is twice as fast
    return pairs.to(device), torch.from_numpy(nf4.DYNAMIC).to(device)
