"""Four bits a weight: NormalFloat of QLoRA, Dettmers et al. (2023), arXiv:2305.14314, to the bit as in bitsandbytes.

A tensor is one row of N numbers in blocks of 64. A block keeps its largest magnitude, its scale, and of each number
which of 16 levels is nearest to number / scale; two levels a byte, the first in the high half. Scales may be quantised
too: less their mean, in groups of 256 to 8 bits of bitsandbytes' dynamic map. All arithmetic is fp32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK, GROUP = 64, 256  # numbers of a scale, scales of a scale of scales
CHUNK = 1 << 20  # numbers at a time, so that what is computed on the way stays small
KINDS = ("nf4", "nf4-double")

LEVELS = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
        0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ],
    np.float32,
)  # fmt: skip
ZERO = np.uint8(7)  # the level of 0
PAIRS = np.stack([np.repeat(LEVELS, 16), np.tile(LEVELS, 16)], axis=1)  # (256, 2): what a byte stands for


@dataclass(frozen=True, slots=True)
class Packed:
    """A quantised tensor of N numbers."""

    codes: NDArray[np.uint8]  # (ceil(N / 2),)
    scales: NDArray[np.float32] | NDArray[np.uint8]  # (ceil(N / 64),)
    groups: NDArray[np.float32] | None = None  # (ceil(N / 64 / 256),): scales of the scales, where these are 8 bits
    offset: NDArray[np.float32] | None = None  # (): their mean

    def parts(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        named = {"codes": self.codes, "scales": self.scales, "groups": self.groups, "offset": self.offset}
        return {name: part for name, part in named.items() if part is not None}


def quantise(weights: NDArray[np.float32], double: bool) -> Packed:
    """The nearest levels, lower of two as near; ``double`` quantises the scales too."""
    flat = np.ascontiguousarray(weights, np.float32).reshape(-1)
    codes = np.empty((flat.size + 1) // 2, np.uint8)
    scales = np.empty(-(-flat.size // BLOCK), np.float32)
    for begin in range(0, flat.size, CHUNK):
        part = flat[begin : begin + CHUNK]
        scale, level = _nearest(part, BLOCK, _NORMAL_TABLE)
        scales[begin // BLOCK :][: scale.size] = scale
        even = np.append(level, ZERO) if level.size % 2 else level
        codes[begin // 2 :][: even.size // 2] = even[::2] << 4 | even[1::2]
    return _doubly(codes, scales) if double else Packed(codes, scales)


def dequantise(packed: Packed, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The numbers that the codes stand for, in the tensor's shape."""
    flat = PAIRS[packed.codes].reshape(-1)[: math.prod(shape)]
    scales = scales_of(packed)
    whole = flat.size // BLOCK * BLOCK
    out = np.empty_like(flat)
    np.multiply(flat[:whole].reshape(-1, BLOCK), scales[: whole // BLOCK, None], out=out[:whole].reshape(-1, BLOCK))
    np.multiply(flat[whole:], scales[whole // BLOCK :], out=out[whole:])
    return out.reshape(shape)


def scales_of(packed: Packed) -> NDArray[np.float32]:
    """(blocks,) fp32."""
    if packed.groups is None or packed.offset is None:
        return packed.scales.astype(np.float32, copy=False)
    levels = DYNAMIC[packed.scales.astype(np.uint8, copy=False)]
    return levels * np.repeat(packed.groups, GROUP)[: levels.size] + packed.offset


def packed_shapes(shape: tuple[int, ...], double: bool) -> dict[str, tuple[int, ...]]:
    """Shapes of `Packed.parts` for a tensor of this shape."""
    size = math.prod(shape)
    blocks = -(-size // BLOCK)
    shapes: dict[str, tuple[int, ...]] = {"codes": ((size + 1) // 2,), "scales": (blocks,)}
    return {**shapes, "groups": (-(-blocks // GROUP),), "offset": ()} if double else shapes


def packed_bytes(shape: tuple[int, ...], double: bool) -> int:
    """Bytes of a quantised tensor."""
    shapes = packed_shapes(shape, double)
    wide = math.prod(shapes["scales"]) * (1 if double else 4) + 4 * math.prod(shapes.get("groups", (0,)))
    return math.prod(shapes["codes"]) + wide + (4 if double else 0)


def parts_of(name: str, double: bool) -> tuple[str, ...]:
    """Names under which a quantised ``NAME.weight`` is held."""
    layer = name.removesuffix(".weight")
    return tuple(f"{layer}.nf4.{part}" for part in packed_shapes((1,), double))


def packed_at(tensors: Mapping[str, np.ndarray], layer: str) -> Packed:
    """What ``tensors`` hold under the names of `parts_of`."""
    found = {part: tensors[name] for part in Packed.__slots__ if (name := f"{layer}.nf4.{part}") in tensors}
    return Packed(**found)


def _doubly(codes: NDArray[np.uint8], scales: NDArray[np.float32]) -> Packed:
    """With 8-bit scales. Their mean is summed in fp64: that of bitsandbytes, in fp32, depends on the processor."""
    offset = np.array(scales.mean(dtype=np.float64), np.float32)
    groups, levels = _nearest(scales - offset, GROUP, _DYNAMIC_TABLE)
    return Packed(codes, levels, groups, offset)


def _dynamic_map() -> NDArray[np.float32]:
    """bitsandbytes' signed 8-bit numbers: Dettmers (2016), arXiv:1511.04561, finer around 0.

    7 decades of 1, 2, 4 ... 64 evenly spaced magnitudes, both signs, 0 and 1.
    """
    magnitudes: list[NDArray[np.float32]] = []
    for decade in range(7):
        bounds = _evenly(2**decade + 1)
        magnitudes.append(np.float32(10.0 ** (decade - 6)) * ((bounds[:-1] + bounds[1:]) / np.float32(2)))
    positive = np.concatenate(magnitudes)
    return np.sort(np.concatenate([positive, -positive, np.array([0, 1], np.float32)]))


def _evenly(count: int) -> NDArray[np.float32]:
    """From .1 to 1 as ``torch.linspace`` has it, to the bit: counted from the nearer end in steps of fp32."""
    low, high = np.float64(np.float32(0.1)), np.float64(1)
    step = np.float64(np.float32(np.float32(high - low) / np.float32(count - 1)))
    places = np.arange(count)
    return np.where(places < count // 2, low + step * places, high - step * (count - 1 - places)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Table:
    """How to find the nearest level of a number by the upper half of its bits.

    Those leave at most one border between two levels open; a comparison settles it.
    """

    lowest: NDArray[np.uint8]  # (65536,) the level below the border
    border: NDArray[np.float32]  # (65536,) half-way to the next level; infinite where there is none

    @classmethod
    def of(cls, levels: NDArray[np.float32]) -> _Table:
        """The table of these levels, in rising order."""
        halves = np.arange(1 << 16, dtype=np.uint32) << 16
        ends = np.stack([halves.view(np.float32), (halves | 0xFFFF).view(np.float32)])
        low: NDArray[np.float32] = np.fmin(ends[0], ends[1])
        high: NDArray[np.float32] = np.fmax(ends[0], ends[1])
        borders = (levels[:-1] + levels[1:]) / np.float32(2)
        low, high = np.nan_to_num(low, nan=-1.0), np.nan_to_num(high, nan=-1.0)  # no number has them
        lowest: NDArray[np.intp] = np.searchsorted(borders, low)  # borders below the least that the bits can be
        highest: NDArray[np.intp] = np.searchsorted(borders, high)
        assert (highest - lowest <= 1).all()
        border = np.where(highest > lowest, np.append(borders, np.inf)[lowest], np.inf)
        return cls(lowest.astype(np.uint8), border.astype(np.float32))


def _nearest(values: NDArray[np.float32], block: int, table: _Table) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Largest magnitude of each block, and the number of the level nearest to each value over that."""
    short = -values.size % block
    rows = (np.pad(values, (0, short)) if short else values).reshape(-1, block)
    scales = np.abs(np.maximum(rows.max(axis=1), -rows.min(axis=1)))  # no negative zero
    relative = rows * (np.float32(1) / np.maximum(scales, np.float32(1e-38)))[:, None]
    halves = relative.reshape(-1).view(np.uint16)[1::2]  # little-endian
    levels = table.lowest[halves]
    levels += relative.reshape(-1) > table.border[halves]
    return scales, levels[: values.size]


DYNAMIC = _dynamic_map()
_NORMAL_TABLE, _DYNAMIC_TABLE = _Table.of(LEVELS), _Table.of(DYNAMIC)
