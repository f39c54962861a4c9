"""Rotary positions against transformers, position by position."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from duygu.engines.rotary import scaled_rates, turn_rates, turns
from duygu.models.spec import ModelSpec, read_spec

LLAMA_3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 500_000.0}
PUBLISHED = {  # head width, and what the config says
    "Llama 2": (128, {"rope_type": "default", "rope_theta": 10_000.0}),
    "Llama 3": (128, {"rope_type": "default", "rope_theta": 500_000.0}),
    "Llama 3.1": (128, {**LLAMA_3, "factor": 8.0, "original_max_position_embeddings": 8192}),
    "Llama 3.2 1B": (64, {**LLAMA_3, "factor": 32.0, "original_max_position_embeddings": 8192}),
    "TinyLlama": (64, {"rope_type": "default", "rope_theta": 10_000.0}),
    "Qwen2.5 0.5B": (64, {"rope_type": "default", "rope_theta": 1_000_000.0}),
}
LONGEST = 131_072


def theirs(width: int, says: dict[str, Any]) -> tuple[LlamaRotaryEmbedding, ModelSpec]:
    config = LlamaConfig(
        hidden_size=2 * width, num_attention_heads=2, max_position_embeddings=LONGEST, rope_parameters=dict(says)
    )
    return LlamaRotaryEmbedding(config), read_spec(config.to_dict(), ("a", "b"), "config.json")


@pytest.mark.parametrize("name", PUBLISHED)
def test_rates_match_transformers_to_the_bit(name: str) -> None:
    embedding, spec = theirs(*PUBLISHED[name])
    assert (scaled_rates(spec) == embedding.inv_freq.numpy()).all()


def test_rates_of_other_models_match_within_two_units_in_the_last_place() -> None:
    """PyTorch's fp32 power is not rounded exactly, ours is: one in a hundred is one unit off, its inverse up to two."""
    different, count = 0, 0
    for theta in (20.0, 1000.0, 160_000.0, 1_000_000.0, 5_000_000.0):
        for width in (32, 64, 80, 96, 128, 256):
            embedding, spec = theirs(width, {"rope_type": "default", "rope_theta": theta})
            found, expected = scaled_rates(spec), embedding.inv_freq.numpy()
            np.testing.assert_array_max_ulp(found, expected, maxulp=2)
            different, count = different + int((found != expected).sum()), count + len(found)
    assert different < 0.02 * count


def test_turns_match_transformers_at_every_position() -> None:
    """Angles are the same to the bit, up to 131,072 of them; cosines differ where PyTorch's are not rounded exactly."""
    embedding, spec = theirs(*PUBLISHED["Llama 3.1"])
    ours, step, half = turns(spec, LONGEST), 8192, spec.head_dim // 2
    for start in range(0, LONGEST, step):
        positions = torch.arange(start, start + step)[None]
        for found, expected in zip(ours, embedding(torch.zeros(1), positions), strict=True):
            np.testing.assert_allclose(found[start : start + step], expected[0, :, :half].numpy(), atol=1.2e-7, rtol=0)


def test_unscaled_rates_are_seen() -> None:
    embedding, spec = theirs(*PUBLISHED["Llama 3.1"])
    assert (scaled_rates(replace(spec, rope_scaling=None)) != embedding.inv_freq.numpy()).mean() > 0.4


def test_short_tables_begin_as_long_ones_do() -> None:
    _, spec = theirs(*PUBLISHED["Llama 3.2 1B"])
    assert (turns(spec, 37) == turns(spec, 300)[:, :37]).all()
    assert turns(spec, 1).shape == (2, 1, 32)


@pytest.mark.parametrize(("width", "local"), [(64, 10_000.0), (64, 160_000.0)])
def test_rates_of_both_kinds_of_modernbert_layers_match_transformers_to_the_bit(width: int, local: float) -> None:
    _, spec = theirs(width, {"rope_type": "default", "rope_theta": 160_000.0})
    expected = [theirs(width, {"rope_type": "default", "rope_theta": theta})[0] for theta in (160_000.0, local)]
    for found, one in zip(turn_rates(replace(spec, local_theta=local)), expected, strict=True):
        assert (found == one.inv_freq.numpy()).all()
