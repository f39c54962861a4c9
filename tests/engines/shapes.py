"""Models wide and deep enough that what a training step takes is mostly its layers, and what PyTorch saves of them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

from duygu.engines import Placement, StepKey, open_engine
from duygu.models.adapters import with_adapters
from duygu.models.spec import ModelSpec, tensor_shapes
from duygu.recipe import Recipe
from duygu.training.plan import Batch

BERT = ModelSpec(
    family="bert", vocabulary=100, positions=512, segments=2, layers=6, hidden=64, heads=4, intermediate=256,
    activation="gelu", norm_eps=1e-12, dropout=0.1, attention_dropout=0.1, classifier_dropout=0.1,
    initializer_range=0.02, pad_id=0, labels=("a", "b"),
)  # fmt: skip
MODERNBERT = ModelSpec(
    family="modernbert", vocabulary=100, positions=8192, segments=0, layers=6, hidden=64, heads=4, intermediate=96,
    activation="gelu", norm_eps=1e-5, dropout=0.1, attention_dropout=0.1, classifier_dropout=0.1,
    initializer_range=0.02, pad_id=0, labels=("a", "b"), embedding_dropout=0.1, global_every=3, window=64,
    theta=160_000.0, local_theta=10_000.0,
)  # fmt: skip
LLAMA = ModelSpec(
    family="llama", vocabulary=100, positions=8192, segments=0, layers=6, hidden=64, heads=4, intermediate=96,
    activation="silu", norm_eps=1e-5, dropout=0.0, attention_dropout=0.0, classifier_dropout=0.0,
    initializer_range=0.02, pad_id=0, labels=("a", "b"), theta=10_000.0, kv_heads=2, head_width=16,
)  # fmt: skip


def random_tensors(spec: ModelSpec, scale: float = 0.02) -> dict[str, np.ndarray]:
    """Norms around 1, all else around 0."""
    generator = np.random.default_rng(0)
    return {
        name: np.float32(scale) * generator.standard_normal(shape, np.float32) + np.float32("orm.weight" in name)
        for name, shape in tensor_shapes(spec).items()
    }


def saved_bytes(spec: ModelSpec, recipe: Recipe, low: Literal["fp32", "bf16"], batch: Batch, key: StepKey) -> int:
    """Bytes of all tensors that autograd packs for the backward pass, each storage once, weights apart."""
    from duygu.engines.torch.engine import _layout, _objective

    engine: Any = open_engine("torch")
    started = with_adapters(random_tensors(spec), spec, recipe)
    state = engine.start(spec, started, recipe, Placement(low, 0))
    layout = _layout(batch, state.device)
    weights = [*state.masters.values(), *state.module.parameters(), *state.module.buffers()]
    mine = [*weights, layout.starts_D, layout.ids_T, layout.positions_T]
    own = {one.untyped_storage().data_ptr() for one in mine}
    packed: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        packed.append(tensor.detach())  # a tensor that is held by the graph that it holds would stay for good
        return packed[-1]

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = _objective(state, batch, key)
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in packed}
    assert loss.requires_grad
    return sum(size for place, size in storages.items() if place not in own)
