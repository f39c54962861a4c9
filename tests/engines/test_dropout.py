"""The masks: equal to the bit in both engines, and good enough as random numbers."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from duygu.engines import StepKey
from duygu.engines.jax import dropout as jax_dropout
from duygu.engines.torch import dropout as torch_dropout

LAYERS, FEATURES, RATE = 3, 256, 0.1


def torch_masks(seed: int, step: int, numbers: np.ndarray, positions: np.ndarray, rate: float = RATE) -> np.ndarray:
    """(layers + 1, sites, T, features) bool."""
    key = StepKey(seed, step)
    keys = torch_dropout.site_keys(key, LAYERS, torch.from_numpy(numbers), torch.from_numpy(positions))
    return torch_dropout.keep_mask(keys, torch.arange(FEATURES, dtype=torch.int32), rate).numpy()


def jax_masks(seed: int, step: int, numbers: np.ndarray, positions: np.ndarray, rate: float = RATE) -> np.ndarray:
    scalars = jnp.int32(seed), jnp.int32(step)
    keys = jax_dropout.site_keys(*scalars, LAYERS, jnp.asarray(numbers), jnp.asarray(positions))
    return np.asarray(jax_dropout.keep_mask(keys, jnp.arange(FEATURES, dtype=jnp.int32), rate))


def tokens(documents: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.repeat(np.arange(documents, dtype=np.int32), length)
    return numbers, np.tile(np.arange(length, dtype=np.int32), documents)


@pytest.mark.parametrize(
    ("seed", "step", "rate"), [(13, 1, 0.1), (0, 0, 0.5), (2**31 - 1, 10**6, 0.01), (42, 7, 0.9), (42, -7, 0.1)]
)
def test_masks_are_equal_to_the_bit(seed: int, step: int, rate: float) -> None:
    numbers, positions = tokens(5, 17)
    one, other = torch_masks(seed, step, numbers, positions, rate), jax_masks(seed, step, numbers, positions, rate)
    np.testing.assert_array_equal(one, other)
    assert 0 < one.mean() < 1


def test_head_keys_are_equal_to_the_bit() -> None:
    keys = np.arange(-50, 50, dtype=np.int32) * 10_000_019
    one = torch_dropout.head_keys(torch.from_numpy(keys), 12).numpy()
    np.testing.assert_array_equal(one, np.asarray(jax_dropout.head_keys(jnp.asarray(keys), 12)))
    assert len(np.unique(one)) == one.size


def test_dropped_values_and_gradients_are_equal() -> None:
    numbers, positions = tokens(2, 9)
    x = np.random.default_rng(0).normal(size=(18, FEATURES)).astype(np.float32)
    keys = torch_dropout.site_keys(StepKey(1, 2), 1, torch.from_numpy(numbers), torch.from_numpy(positions))[1, 2]
    leaf = torch.from_numpy(x).requires_grad_()
    dropped = torch_dropout.dropout(leaf, keys, RATE)
    (dropped**2).sum().backward()
    assert leaf.grad is not None
    import jax

    jax_keys = jnp.asarray(keys.numpy())
    gradient = jax.grad(lambda y: (jax_dropout.dropout(y, jax_keys, RATE) ** 2).sum())(jnp.asarray(x))
    np.testing.assert_allclose(np.asarray(gradient), leaf.grad.numpy(), rtol=1e-6)
    np.testing.assert_allclose(dropped.detach().numpy().mean(), x.mean(), atol=0.02)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3, 0.5])
def test_rate_is_met_overall_and_in_every_row_and_column(rate: float) -> None:
    masks = torch_masks(13, 5, *tokens(8, 64), rate)
    count = masks.size
    assert abs((~masks).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / count)
    for axis in (-1, -2):
        means = (~masks).mean(axis=axis)
        spread = np.sqrt(rate * (1 - rate) / masks.shape[axis])
        assert np.abs(means - rate).max() < 6 * spread
        assert means.std() == pytest.approx(spread, rel=0.1), "neither too even nor too clustered"


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_masks_of_steps_seeds_layers_sites_and_documents_are_uncorrelated() -> None:
    base = torch_masks(13, 5, *tokens(4, 64))
    limit = 5 / np.sqrt(base[0, 0].size)
    pairs = {"step": torch_masks(13, 6, *tokens(4, 64)), "seed": torch_masks(14, 5, *tokens(4, 64))}
    second = StepKey(13, 5).second
    pairs["R-Drop's second pass"] = torch_masks(second.seed, second.step, *tokens(4, 64))
    for name, other in pairs.items():
        assert abs(correlation(base, other)) < 5 / np.sqrt(base.size), name
    flat = base.reshape(-1, *base.shape[2:])  # layers and sites
    for one, other in itertools.combinations(flat, 2):
        assert abs(correlation(one, other)) < limit
    per_document = base.reshape(-1, 4, 64, FEATURES)
    for one, other in itertools.combinations(range(4), 2):
        assert abs(correlation(per_document[:, one], per_document[:, other])) < 5 / np.sqrt(per_document[:, 0].size)


@pytest.mark.parametrize("shift", [1, 2, 3, 16, 32, 128])
def test_masks_of_shifted_positions_and_features_are_uncorrelated(shift: int) -> None:
    masks = torch_masks(3, 1, *tokens(2, 256))
    assert abs(correlation(masks[..., shift:, :], masks[..., :-shift, :])) < 5 / np.sqrt(masks.size)
    assert abs(correlation(masks[..., shift:], masks[..., :-shift])) < 5 / np.sqrt(masks.size)


def test_four_corners_of_rectangles_are_uncorrelated() -> None:
    """Rows and columns meet in an xor, where the four corners of every rectangle cancel: the mix must hide it."""
    masks = torch_masks(3, 1, *tokens(2, 256), 0.5)[1, 1].astype(np.float64) - 0.5
    for row, column in [(1, 1), (7, 3), (64, 128), (100, 31)]:
        corners = masks[:-row, :-column] * masks[row:, :-column] * masks[:-row, column:] * masks[row:, column:]
        assert abs(corners.mean()) < 5 * corners.std() / np.sqrt(corners.size)
