"""Layers computed again in the backward pass: the same gradient from less memory, in both engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from duygu.engines import StepKey, open_engine
from duygu.models.spec import ModelSpec
from duygu.recipe import Recipe
from duygu.training.plan import Batch, assemble, exact_shape
from tests.engines import families
from tests.engines.cases import FP32
from tests.engines.shapes import BERT, MODERNBERT, random_tensors, saved_bytes

KEY = StepKey(13, 3)
OFF = Recipe(dropout=0.1, attention_dropout=0.1)
ON = OFF.changed({"gradient_checkpointing": "true"})
DOCUMENTS, LENGTH = 16, 64
INPUT = DOCUMENTS * LENGTH * BERT.hidden * 4  # bytes of what a layer reads


def batch() -> Batch:
    numbers = np.arange(DOCUMENTS, dtype=np.int32)
    ids = [np.arange(1 + number, 1 + number + LENGTH, dtype=np.int32) for number in range(DOCUMENTS)]
    return assemble(ids, numbers, numbers % 2, exact_shape(np.full(DOCUMENTS, LENGTH, np.int32)))


@pytest.mark.parametrize("case", ["bert", "roberta", "modernbert", "modernbert, mean"])
def test_gradient_of_torch_is_the_same_to_the_bit(case: str) -> None:
    """Dropout and R-Drop on; the oracle is the engine without checkpointing."""
    engine, rows = open_engine("torch"), families.batch(case, False)
    recipes = (recipe.changed({"r_drop": 1.0}) for recipe in (OFF, ON))
    plain, again = (dict(engine.gradients(families.start(engine, case, one), rows, KEY)) for one in recipes)
    assert max(np.abs(value).max() for value in plain.values()) > 1e-2
    for name, value in plain.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)


@pytest.mark.parametrize("spec", [BERT, MODERNBERT], ids=["bert", "modernbert"])
def test_torch_saves_the_input_of_a_layer_only(spec: ModelSpec) -> None:
    """The oracle: the tensors that autograd packs for the backward pass."""
    plain, again = (saved_bytes(spec, recipe, "fp32", batch(), KEY) for recipe in (OFF, ON))
    inputs = (spec.layers - 1) * INPUT
    assert again < plain / 3
    assert inputs < again < inputs + 0.3 * plain


@pytest.mark.parametrize("spec", [pytest.param(BERT, marks=pytest.mark.slow), MODERNBERT], ids=["bert", "modernbert"])
def test_jax_has_the_same_gradient_from_less_memory(spec: ModelSpec) -> None:
    """The oracles: the engine without checkpointing, and XLA's own account of what was compiled."""
    (plain, plain_bytes), (again, again_bytes) = (gradient_of_jax(spec, recipe) for recipe in (OFF, ON))
    for name, value in plain.items():
        np.testing.assert_allclose(again[name], value, atol=1e-6, rtol=0, err_msg=name)
    assert max(np.abs(value).max() for value in plain.values()) > 1e-2
    assert (
        again_bytes < plain_bytes - (spec.layers - 2) * 5 * INPUT
    )  # a layer keeps that much besides its input, and more


def gradient_of_jax(spec: ModelSpec, recipe: Recipe) -> tuple[dict[str, np.ndarray], int]:
    """The gradient with dropout on, and the temporary memory that it takes."""
    engine: Any = open_engine("jax")
    state = engine.start(spec, random_tensors(spec), recipe, FP32)
    found = dict(engine.gradients(state, batch(), KEY))
    (compiled,) = state.compiled.values()
    return found, compiled.memory_analysis().temp_size_in_bytes
