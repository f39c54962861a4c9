"""Predicted memory: its parts against the engines themselves, its sum against what runs really took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duygu.engines import Placement, StepKey, open_engine
from duygu.models.presets import PRESETS
from duygu.models.spec import ModelSpec, in_low_precision, parameters, tensor_shapes
from duygu.recipe import Recipe
from duygu.scale.memory import SCORED, jax_saved, predict, to_score, to_train, torch_saved
from duygu.training.plan import EVALUATION_TOKENS, Batch, assemble, exact_shape, fit_shapes

SPEC = ModelSpec(
    family="bert", vocabulary=1000, positions=512, segments=2, layers=4, hidden=192, heads=6, intermediate=768,
    activation="gelu", norm_eps=1e-12, dropout=0.1, attention_dropout=0.1, classifier_dropout=0.1,
    initializer_range=0.02, pad_id=0, labels=("a", "b"),
)  # fmt: skip
GIB = 1 << 30


def batch(documents: int, length: int, static: bool) -> Batch:
    numbers = np.arange(documents, dtype=np.int32)
    lengths = np.full(documents, length, np.int32)
    shape = fit_shapes([lengths], 6, True)[0] if static else exact_shape(lengths)
    ids = [np.full(length, 7, np.int32) for _ in numbers]
    return assemble(ids, numbers, numbers % 2, shape)


def weights(spec: ModelSpec) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {name: 0.02 * generator.standard_normal(shape, np.float32) for name, shape in tensor_shapes(spec).items()}


def test_a_scoring_pass_is_as_large_as_the_plan_makes_it() -> None:
    assert SCORED == EVALUATION_TOKENS


@pytest.mark.parametrize("low", ["fp32", "bf16"])
@pytest.mark.parametrize("length", [64, 128])
def test_torch_saves_what_autograd_says(low: Any, length: int) -> None:
    """The oracle: every tensor that autograd packs for the backward pass, each storage once, weights apart."""
    import torch

    from duygu.engines.torch.engine import _keys, _layout, _loss

    engine: Any = open_engine("torch", 2)
    state = engine.start(SPEC, weights(SPEC), Recipe(), Placement(low, 2))
    own = {one.untyped_storage().data_ptr() for one in [*state.masters.values(), *state.module.parameters()]}
    packed: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        packed.append(tensor)
        return tensor

    one = batch(16, length, False)
    layout = _layout(one, state.device)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        _loss(state.module(state.module.words(layout), layout, _keys(state, one, StepKey(1, 1))), one, 0.0)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in packed}
    found = sum(size for place, size in storages.items() if place not in own)
    assert torch_saved(SPEC, low, 16 * length, length) == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize("low", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_jax_needs_what_its_compiler_says(low: Any) -> None:
    """The oracle: XLA's own account of a gradient's temporary memory; twice the tokens tell what a token takes."""
    engine: Any = open_engine("jax", 2)
    state = engine.start(SPEC, weights(SPEC), Recipe(), Placement(low, 2))
    found: list[int] = []
    for documents in (16, 32):
        shape = batch(documents, 128, True).shape
        engine.compile(state, [shape], [])
        compiled = next(made for (name, made_for, _), made in state.compiled.items() if made_for == shape)
        found.append(compiled.memory_analysis().temp_size_in_bytes)
    per_token = (found[1] - found[0]) / (16 * 128)
    predicted = to_train(SPEC, "jax", low, 4096, 128).activations - to_train(SPEC, "jax", low, 2048, 128).activations
    assert predicted / 2048 == pytest.approx(per_token, rel=0.25)
    assert jax_saved(SPEC, 4096) < found[1]


@pytest.mark.parametrize("engine", ["torch", "jax"])
def test_state_is_counted_to_the_byte(engine: Any) -> None:
    count = parameters(SPEC)
    need = to_train(SPEC, engine, "fp32", 4096, 256)
    assert (need.masters, need.moments, need.gradients, need.copies) == (4 * count, 8 * count, 4 * count, 0)
    rounded = sum(int(np.prod(shape)) for name, shape in tensor_shapes(SPEC).items() if in_low_precision(name))
    assert to_train(SPEC, engine, "bf16", 4096, 256).copies == 2 * rounded
    assert to_score(SPEC, engine, "fp32", 256).gradients == 0


@pytest.mark.parametrize(("engine", "least"), [("torch", 0.75), ("jax", 0.4)])  # a warm cache spares JAX compiling
def test_tiny_runs_took_about_what_was_predicted(
    engine: Any, least: float, tiny_runs: dict[str, tuple[Path, dict[str, Any]]]
) -> None:
    """Almost all of it is the process itself."""
    peak = tiny_runs[engine][1]["memory"]["peak_bytes"]
    spec = PRESETS["tiny"].spec(PRESETS["tiny"].vocabulary, 0, ("a", "b"))
    total = to_train(spec, engine, "fp32", 4 * 32, 32).total
    assert least * total < peak < 1.25 * total


def test_what_does_not_fit_is_met_with_a_microbatch_that_does() -> None:
    recipe = Recipe(precision="fp32", batch=64)
    whole = to_train(SPEC, "torch", "fp32", 64 * 256, 256).total
    eight = to_train(SPEC, "torch", "fp32", 8 * 256, 256).total
    (fits,) = predict(SPEC, recipe, {"torch": False}, whole)["findings"]
    assert "fits" in fits
    (smaller,) = predict(SPEC, recipe, {"torch": False}, eight)["findings"]
    assert "--set microbatch=8 does and trains the same" in smaller
    (nothing,) = predict(SPEC, recipe, {"torch": False}, 1000)["findings"]
    assert "not even one document" in nothing
    assert predict(SPEC, recipe, {"torch": False}, None)["findings"] == []


def test_auto_precision_is_what_the_engine_would_choose() -> None:
    def chosen(fast: bool | None) -> list[str]:
        needs = predict(SPEC, Recipe(), {"jax": fast}, None)["needs"]
        return [need["precision"] for need in needs if need["what"] == "training"]

    assert (chosen(True), chosen(False), chosen(None)) == (["bf16"], ["fp32"], ["fp32", "bf16"])
    needs = predict(SPEC, Recipe(microbatch=4), {"jax": True}, 8 * GIB)["needs"]
    assert needs[0]["total_bytes"] == to_train(SPEC, "jax", "bf16", 4 * 256, 256).total


def test_all_windows_of_a_document_are_in_memory_at_once() -> None:
    found = predict(SPEC, Recipe(precision="fp32", long="windows", max_windows=20), {"torch": None}, GIB // 2)
    totals = {need["what"]: need["total_bytes"] for need in found["needs"]}
    assert totals["training"] == to_train(SPEC, "torch", "fp32", 16 * 20 * 256, 256).total
    assert totals["scoring"] == to_score(SPEC, "torch", "fp32", 256, 20).total
    assert totals["scoring"] > to_score(SPEC, "torch", "fp32", 256).total, "one document is more than a pass has else"
    assert (found["documents"], found["windows"], found["length"]) == (16, 20, 256)
