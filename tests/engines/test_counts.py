"""What speed rests on, counted instead of timed: tokens computed, shapes compiled, memory, optimiser passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from duygu.engines import StepKey, open_engine
from duygu.engines.jax import engine as jax_engine
from duygu.recipe import Recipe
from duygu.training import plan
from duygu.training.plan import Batch, Shape, assemble, exact_shape, make_plan
from tests.engines.cases import CASES, Case, batch_of, documents, exact, labels_of, spec_of, start, tensors_of

KEY = StepKey(13, 1)
WIDE = Case("wide", 64, 4, 3, 256, "gelu", 1e-12, 2)


def test_linear_layers_of_torch_see_real_tokens_only() -> None:
    """And of the last layer, one row a document beyond keys and values."""
    case, ids = CASES[0], documents(9)
    batch = batch_of(ids, labels_of(9, case), exact(ids))
    engine = open_engine("torch")
    state = start(engine, case)
    rows: Counter[tuple[int, int]] = Counter()

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.ops.aten.addmm.default:  # forward; what autograd calls has no bias
                rows[args[1].shape[0], args[2].shape[1]] += 1
            return function(*args, **(kwargs or {}))

    with Products():
        list(engine.gradients(state, batch, None))
    tokens, width = sum(map(len, ids)), case.hidden
    assert rows[tokens, 3 * width] == case.layers - 1
    assert rows[tokens, 2 * width] == 1
    assert rows[tokens, case.intermediate] == case.layers - 1
    assert rows[9, case.intermediate] == 1
    assert {count for count, _ in rows} == {tokens, 9}, "no padded row anywhere"


@dataclass
class Step:
    """What one step of PyTorch asks for."""

    operations: int
    bytes: int
    calls: Counter[str]


def counted_step(lengths: list[int]) -> Step:
    engine = open_engine("torch")
    random = np.random.default_rng(0)
    ids = [random.integers(1, 80, size=length).astype(np.int32) for length in lengths]
    batch = batch_of(ids, labels_of(len(ids), WIDE), exact_shape(np.array(lengths, np.int32)))
    spec = spec_of(WIDE)
    state = engine.start(spec, random_tensors(), Recipe(), jax_engine.Placement("bf16", 0))
    state, _ = engine.step(state, [batch], 1e-3, KEY)
    found = Step(0, 0, Counter())

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            found.operations += 1
            found.calls[function.name()] += 1
            if isinstance(result, torch.Tensor) and not result._is_view() and "_." not in function.name():
                found.bytes += result.nbytes
            return result

    with Counting():
        engine.step(state, [batch], 1e-3, StepKey(13, 2))
    return found


def random_tensors() -> dict[str, np.ndarray]:
    from tests.engines.cases import oracle

    return tensors_of(oracle(WIDE))


def test_operations_and_memory_of_a_torch_step() -> None:
    """Twice the documents of each length: the same operations, and twice the memory, not more."""
    one, two = counted_step([40, 24, 16]), counted_step([40, 40, 24, 24, 16, 16])
    assert two.operations <= one.operations * 1.05
    weights = sum(tensor.nbytes for tensor in random_tensors().values())
    assert two.bytes - one.bytes <= one.bytes * 1.02
    assert one.operations <= 1600
    assert one.bytes <= 3 * weights + 80 * 620 * WIDE.hidden * 2


def test_one_optimiser_pass_a_step() -> None:
    """One fused call for what decays and one for what does not; no tensor is visited by another."""
    calls = counted_step([40, 24]).calls
    assert calls["aten::_fused_adamw_"] == 2
    assert not calls["aten::addcdiv_"] + calls["aten::lerp_.Scalar"] + calls["aten::addcmul_"]


def test_jax_compiles_one_gradient_a_shape_and_one_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "TRAINING_SHAPES", 2)
    case, ids = CASES[0], documents(24)
    engine = open_engine("jax")
    lengths = np.array([len(tokens) for tokens in ids], np.int32)
    steps = make_plan(np.arange(24, dtype=np.int32), lengths, Recipe(batch=6, epochs=2), static=True).steps
    state = start(engine, case)
    for step in steps:
        (part,), (shape,) = step.microbatches, step.shapes
        batch = assemble([ids[n] for n in part], part, labels_of(24, case)[part], shape)
        state, _ = engine.step(state, [batch], step.lr, StepKey(13, step.number))
    assert Counter(name for name, _, _ in state.compiled) == {"gradient": 2, "update": 1}


def analysed(name: str, shape: Shape | None, precision: str = "fp32") -> tuple[Any, Mapping[str, int]]:
    """A compiled function of the JAX engine and how much memory it takes."""
    engine = open_engine("jax")
    state = engine.start(spec_of(WIDE), random_tensors(), Recipe(), jax_engine.Placement(precision, 0))  # pyright: ignore[reportArgumentType]
    if name == "update":
        arguments = (state.masters, state.moments, state.masters, np.float32(0))
    else:
        assert shape is not None
        batch: Batch = jax_engine._sample(shape)
        arguments = (state.masters, jax_engine._arrays(batch), jax_engine._scalars(KEY))
    compiled = jax_engine._compile(state, name, shape, *arguments)
    memory = compiled.memory_analysis()
    masters = sum(x.nbytes for x in state.masters.values())
    return compiled, {"temp": memory.temp_size_in_bytes, "alias": memory.alias_size_in_bytes, "masters": masters}


def test_update_of_jax_takes_over_the_memory_of_what_it_replaces() -> None:
    _, memory = analysed("update", None)
    assert memory["alias"] >= 3 * memory["masters"]


def test_memory_of_jax_attention_does_not_grow_with_length_squared() -> None:
    """As many tokens in one document as in eight: the same memory."""
    _, short = analysed("gradient", Shape(1024, ((8, 128),)))
    _, long = analysed("gradient", Shape(1024, ((1, 1024),)))
    assert long["temp"] <= short["temp"] * 1.05
    scores = 1024 * 1024 * WIDE.heads * 4
    assert long["temp"] < short["temp"] + scores / 4


def test_products_of_jax_in_bf16_are_not_widened_first() -> None:
    """XLA on a CPU multiplies bf16 at full rate only if it is not made to convert both sides to fp32."""
    if not open_engine("jax").probe().fast_bf16:
        pytest.skip("this processor multiplies bf16 no faster than fp32")
    compiled, _ = analysed("gradient", Shape(1024, ((8, 128),)), "bf16")
    products = [line for line in compiled.as_text().splitlines() if " dot(" in line and "[1024," in line]
    widened = [line for line in products if "f32[1024,256]" in line.split("dot(")[1]]
    assert len(products) >= 8
    assert not widened, widened[0]
