"""NF4 against bitsandbytes where it is installed, against a plain search, and against values computed with it once."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from duygu.models import nf4

GOLDEN = "a5fef396367a5e60db4eb361b8464f2858c59e49b53ed961e77c62dbcf932ff3"


def weights(shape: tuple[int, ...] = (48, 128), seed: int = 0) -> np.ndarray:
    """Normal numbers with outliers, a block of zeros, and numbers that lie on borders between levels."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(shape).astype(np.float32).reshape(-1)
    values[::97] *= 8
    values[64:128] = 0
    values[128] = 1
    values[129:144] = (nf4.LEVELS[:-1] + nf4.LEVELS[1:]) / np.float32(2)
    values[144:192] = 0
    return values.reshape(shape)


@pytest.fixture(scope="module")
def bitsandbytes() -> Any:
    return pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")


def test_codes_and_scales_equal_bitsandbytes(bitsandbytes: Any) -> None:
    import torch

    values = weights((512, 256))
    theirs, state = bitsandbytes.functional.quantize_4bit(torch.from_numpy(values), quant_type="nf4", blocksize=64)
    ours = nf4.quantise(values, double=False)
    np.testing.assert_array_equal(ours.codes, theirs.numpy().reshape(-1))
    np.testing.assert_array_equal(ours.scales, state.absmax.numpy())
    again = bitsandbytes.functional.dequantize_4bit(theirs, state).numpy()
    np.testing.assert_array_equal(nf4.dequantise(ours, values.shape), again)


def test_scales_of_scales_equal_bitsandbytes(bitsandbytes: Any) -> None:
    """By its table and what its kernels for GPUs compute; its kernel for CPUs looks most codes up and misses some."""
    import torch

    values = weights((512, 256))
    ours, scales = nf4.quantise(values, double=True), nf4.quantise(values, double=False).scales
    table = bitsandbytes.functional.create_dynamic_map()
    np.testing.assert_array_equal(nf4.DYNAMIC, table.numpy())
    assert ours.offset is not None
    rows = torch.from_numpy(scales - ours.offset).view(-1, nf4.GROUP)
    groups = rows.abs().max(dim=1)[0]
    codes = torch.bucketize(rows * (1.0 / groups)[:, None], (table[:-1] + table[1:]) / 2)
    np.testing.assert_array_equal(ours.scales, codes.flatten().numpy())
    np.testing.assert_array_equal(ours.groups, groups.numpy())
    assert abs(float(scales.mean()) - float(ours.offset)) <= np.spacing(ours.offset), "the mean, to the last bit"
    looked_up, state = bitsandbytes.functional.quantize_blockwise(rows.flatten(), blocksize=nf4.GROUP)
    np.testing.assert_array_equal(ours.groups, state.absmax.numpy())
    assert (looked_up.numpy() != ours.scales).mean() < 0.01
    assert np.abs(looked_up.numpy().astype(int) - ours.scales).max() <= 2


def test_codes_are_the_nearest_levels() -> None:
    """A plain search of all levels, in fp64: no level is nearer."""
    values = weights()
    packed = nf4.quantise(values, double=False)
    relative = values.reshape(-1, nf4.BLOCK) / np.maximum(packed.scales[:, None], 1e-38).astype(np.float64)
    level = np.stack([packed.codes >> 4, packed.codes & 15], axis=1).reshape(relative.shape)
    distance = np.abs(relative[..., None] - nf4.LEVELS.astype(np.float64))
    chosen = np.take_along_axis(distance, level[..., None].astype(np.intp), axis=-1)[..., 0]
    assert (chosen <= distance.min(axis=-1) + 1e-7).all()


def test_golden_values() -> None:
    """Computed once with bitsandbytes 0.50.2 (`test_codes_and_scales_equal_bitsandbytes`)."""
    packed = nf4.quantise(weights(), double=False)
    assert hashlib.sha256(packed.codes.tobytes() + packed.scales.tobytes()).hexdigest() == GOLDEN


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 64), (65, 130)])
def test_any_shape_goes_there_and_back(shape: tuple[int, int], double: bool) -> None:
    values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    packed = nf4.quantise(values, double)
    assert {name: part.shape for name, part in packed.parts().items()} == nf4.packed_shapes(shape, double)
    assert sum(part.nbytes for part in packed.parts().values()) == nf4.packed_bytes(shape, double)
    again = nf4.dequantise(packed, shape)
    scales = np.repeat(nf4.quantise(values, False).scales, nf4.BLOCK)[: values.size].reshape(shape)
    assert (np.abs(again - values) <= (0.16 if not double else 0.25) * scales + 1e-6).all(), "half the widest step"


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = nf4.quantise(weights(), double=True)
    monkeypatch.setattr(nf4, "CHUNK", 256)
    parts = nf4.quantise(weights(), double=True)
    assert all(np.array_equal(x, y) for x, y in zip(whole.parts().values(), parts.parts().values(), strict=True))
