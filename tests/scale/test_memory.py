"""Predicted memory: its parts against the engines themselves, its sum against what runs really took."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duygu.engines import Placement, StepKey, open_engine
from duygu.engines.torch import attention
from duygu.engines.torch.dropout import SITES
from duygu.models.presets import PRESETS
from duygu.models.spec import ModelSpec, in_low_precision, parameters, tensor_shapes
from duygu.recipe import Recipe
from duygu.scale import activations
from duygu.scale.activations import jax_saved, torch_saved
from duygu.scale.memory import SCORED, Room, predict, to_score, to_train
from duygu.training.plan import EVALUATION_TOKENS, Batch, assemble, exact_shape, fit_shapes
from tests.engines.shapes import LLAMA, MODERNBERT, random_tensors, saved_bytes

SPEC = ModelSpec(
    family="bert", vocabulary=1000, positions=512, segments=2, layers=4, hidden=192, heads=6, intermediate=768,
    activation="gelu", norm_eps=1e-12, dropout=0.1, attention_dropout=0.1, classifier_dropout=0.1,
    initializer_range=0.02, pad_id=0, labels=("a", "b"),
)  # fmt: skip
MODERN = replace(MODERNBERT, vocabulary=1000, hidden=192, heads=6, intermediate=288)
LOCAL = replace(MODERN, layers=5)  # for documents so long that local layers attend in blocks
GROUPED = replace(LLAMA, vocabulary=1000, layers=5, hidden=192, heads=6, intermediate=288, head_width=32)
HEADED = replace(GROUPED, family="qwen3", head_norms=True)
AGAIN, R_DROP = {"gradient_checkpointing": "true"}, {"r_drop": "1"}
SETTINGS = ({}, R_DROP, {"dropout": "0", "attention_dropout": "0"}, AGAIN)
ADAPTERS = {"lora_rank": "8", "quantise": "nf4-double"}
GIB = 1 << 30


def batch(documents: int, length: int, static: bool) -> Batch:
    numbers = np.arange(documents, dtype=np.int32)
    lengths = np.full(documents, length, np.int32)
    shape = fit_shapes([lengths], 6, True)[0] if static else exact_shape(lengths)
    ids = [np.full(length, 7, np.int32) for _ in numbers]
    return assemble(ids, numbers, numbers % 2, shape)


def test_a_scoring_pass_is_as_large_as_the_plan_makes_it() -> None:
    assert SCORED == EVALUATION_TOKENS


def test_long_documents_are_those_of_the_engine() -> None:
    spec = replace(MODERN, layers=2, global_every=2)
    for length in (64, 511, 512, 2048, 2049, 8192):
        for number, window in enumerate((spec.positions, spec.window)):
            assert activations._in_blocks(spec, number, length) == attention.is_long(length, window)
    assert (activations.BLOCK, activations.LONG, activations.SITES) == (attention.BLOCK, attention.LONG, SITES)


@pytest.mark.parametrize("low", ["fp32", "bf16"])
@pytest.mark.parametrize("length", [64, 128])
@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "r_drop", "no dropout", "again"])
@pytest.mark.parametrize("spec", [SPEC, MODERN, LOCAL], ids=["bert", "modernbert", "long"])
def test_torch_saves_what_autograd_says(spec: ModelSpec, settings: dict[str, str], length: int, low: Any) -> None:
    """The oracle: every tensor that autograd packs for the backward pass, each storage once, weights apart."""
    recipe = Recipe().changed(settings)
    length, documents = (8 * length, 2) if spec is LOCAL else (length, 16)
    found = saved_bytes(spec, recipe, low, batch(documents, length, False), StepKey(1, 1))
    assert torch_saved(spec, low, documents * length, length, recipe) == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize("low", ["fp32", "bf16"])
@pytest.mark.parametrize("settings", [{}, ADAPTERS, ADAPTERS | AGAIN], ids=["plain", "adapters", "again"])
@pytest.mark.parametrize("spec", [GROUPED, HEADED, SPEC, MODERN], ids=["llama", "qwen3", "bert", "modernbert"])
def test_torch_saves_what_autograd_says_beside_adapters(spec: ModelSpec, settings: dict[str, str], low: Any) -> None:
    """The oracle as above; of Llama also without them, and with what it drops when asked to."""
    dropping = {"dropout": "0.1", "attention_dropout": "0.1"} if spec is GROUPED else {}
    for recipe in (Recipe().changed(settings), Recipe().changed(settings | dropping)):
        found = saved_bytes(spec, recipe, low, batch(16, 128, False), StepKey(1, 1))
        assert torch_saved(spec, low, 16 * 128, 128, recipe) == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize(
    ("spec", "low", "settings"),
    [
        pytest.param(SPEC, "fp32", {}, id="bert-fp32"),
        pytest.param(SPEC, "bf16", {}, id="bert-bf16", marks=pytest.mark.slow),
        pytest.param(SPEC, "fp32", AGAIN, id="bert-again", marks=pytest.mark.slow),
        pytest.param(SPEC, "fp32", R_DROP, id="bert-r_drop", marks=pytest.mark.slow),
        pytest.param(MODERN, "fp32", {}, id="modernbert-fp32", marks=pytest.mark.slow),
        pytest.param(MODERN, "fp32", AGAIN, id="modernbert-again", marks=pytest.mark.slow),
    ],
)
def test_jax_needs_what_its_compiler_says(spec: ModelSpec, low: Any, settings: dict[str, str]) -> None:
    """The oracle: XLA's own account of a gradient's temporary memory; twice the tokens tell what a token takes."""
    engine: Any = open_engine("jax", 2)
    recipe = Recipe().changed(settings)
    state = engine.start(spec, random_tensors(spec), recipe, Placement(low, 2))
    found: list[int] = []
    for documents in (16, 32):
        shape = batch(documents, 128, True).shape
        engine.compile(state, [shape], [])
        compiled = next(made for (name, made_for, _), made in state.compiled.items() if made_for == shape)
        found.append(compiled.memory_analysis().temp_size_in_bytes)
    per_token = (found[1] - found[0]) / (16 * 128)
    one, two = (to_train(spec, "jax", low, tokens, 128, recipe).activations for tokens in (2048, 4096))
    assert (two - one) / 2048 == pytest.approx(per_token, rel=0.25)
    assert jax_saved(spec, 4096, recipe) < found[1]


@pytest.mark.parametrize("engine", ["torch", "jax"])
def test_state_is_counted_to_the_byte(engine: Any) -> None:
    count = parameters(SPEC)
    need = to_train(SPEC, engine, "fp32", 4096, 256)
    assert (need.masters, need.moments, need.gradients, need.copies) == (4 * count, 8 * count, 4 * count, 0)
    rounded = sum(int(np.prod(shape)) for name, shape in tensor_shapes(SPEC).items() if in_low_precision(name))
    assert to_train(SPEC, engine, "bf16", 4096, 256).copies == 2 * rounded
    assert to_score(SPEC, engine, "fp32", 256).gradients == 0
    averaged = {low: to_train(SPEC, engine, low, 4096, 256, Recipe(ema=0.99)).averages for low in ("fp32", "bf16")}
    assert need.averages == 0
    assert averaged == {"fp32": 4 * count, "bf16": 4 * count + (2 * rounded if engine == "torch" else 0)}


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
    (fits,) = predict(SPEC, recipe, {"torch": False}, {"torch": Room(whole)})["findings"]
    assert "fits" in fits
    (smaller,) = predict(SPEC, recipe, {"torch": False}, {"torch": Room(eight)})["findings"]
    assert "--set microbatch=8 does and trains the same" in smaller
    again = to_train(SPEC, "torch", "fp32", 256, 256, replace(recipe, gradient_checkpointing=True)).total
    (less,) = predict(SPEC, recipe, {"torch": False}, {"torch": Room(again)})["findings"]
    assert "--set microbatch=1 --set gradient_checkpointing=true does and trains the same" in less
    device = to_train(SPEC, "torch", "fp32", 64 * 256, 256).on_device
    (on_gpu,) = predict(SPEC, recipe, {"torch": False}, {"torch": Room(device, gpu=True)})["findings"]
    assert on_gpu.endswith("GiB that are free on the GPU"), "the process and its heap are the host's"
    (nothing,) = predict(SPEC, recipe, {"torch": False}, {"torch": Room(1000)})["findings"]
    assert "not even one document" in nothing
    assert predict(SPEC, recipe, {"torch": False}, {"torch": Room(None)})["findings"] == []


def test_auto_precision_is_what_the_engine_would_choose() -> None:
    def chosen(fast: bool | None) -> list[str]:
        needs = predict(SPEC, Recipe(), {"jax": fast}, {"jax": Room(None)})["needs"]
        return [need["precision"] for need in needs if need["what"] == "training"]

    assert (chosen(True), chosen(False), chosen(None)) == (["bf16"], ["fp32"], ["fp32", "bf16"])
    needs = predict(SPEC, Recipe(microbatch=4), {"jax": True}, {"jax": Room(8 * GIB)})["needs"]
    assert needs[0]["total_bytes"] == to_train(SPEC, "jax", "bf16", 4 * 256, 256).total


def test_all_windows_of_a_document_are_in_memory_at_once() -> None:
    found = predict(
        SPEC, Recipe(precision="fp32", long="windows", max_windows=20), {"torch": None}, {"torch": Room(GIB // 2)}
    )
    totals = {need["what"]: need["total_bytes"] for need in found["needs"]}
    assert totals["training"] == to_train(SPEC, "torch", "fp32", 16 * 20 * 256, 256).total
    assert totals["scoring"] == to_score(SPEC, "torch", "fp32", 256, 20).total
    assert totals["scoring"] > to_score(SPEC, "torch", "fp32", 256).total, "one document is more than a pass has else"
    assert (found["documents"], found["windows"], found["length"]) == (16, 20, 256)
