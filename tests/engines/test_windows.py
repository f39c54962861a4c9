"""Documents of several windows in both engines: against transformers window by window, and against each other."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from duygu.data.windows import Windows
from duygu.engines import ENGINES, Engine, State, StepKey, open_engine
from duygu.engines.jax import blocks
from duygu.recipe import Recipe
from duygu.training import plan
from duygu.training.plan import Batch, Shape, assemble, fit_shapes, make_plan
from tests.engines import families
from tests.engines.cases import gradients_of, in_order, tensors_of
from tests.engines.families import DOCUMENTS, LABEL_NUMBERS, start

WINDOWS = Windows(length=14, step=9, most=4, before=1, after=1)  # documents of 2 to 40 tokens: 1 to 4 windows
CASES = ("bert", "modernbert, mean")
KEY = StepKey(seed=13, step=3)
EVERY = np.arange(DOCUMENTS, dtype=np.int32)
by_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 16)


def batch(
    case: str, engine: Engine, documents: np.ndarray, normaliser: float | None = None, shape: Shape | None = None
) -> Batch:
    """These documents in one pass, laid out in the shape that fits best or in the one given."""
    ids = [families.documents(case)[number] for number in documents]
    lengths = np.array([len(tokens) for tokens in ids], np.int32)
    shape = shape or fit_shapes([lengths], 1, engine.static_shapes, WINDOWS)[0]
    return assemble(ids, documents, LABEL_NUMBERS[documents], shape, normaliser=normaliser)


@cache
def state(engine: Engine, case: str) -> State:
    """Made once, since in JAX what was compiled is in it; no test takes a step from it."""
    return start(engine, case)


def oracle_logits(case: str) -> torch.Tensor:
    """transformers' of each window alone, averaged: (D, labels)."""
    model, rows = families.oracle(case), []
    for ids in families.documents(case):
        parts = [model(torch.from_numpy(part[None]).long()).logits[0] for part in WINDOWS.divide(ids)]
        rows.append(torch.stack(parts).mean(dim=0))
    return torch.stack(rows)


@cache
def oracle_gradients(case: str) -> dict[str, np.ndarray]:
    """Of the mean cross-entropy of documents, by PyTorch's own autograd."""
    model = families.oracle(case)
    model.zero_grad()
    F.cross_entropy(oracle_logits(case), torch.from_numpy(LABEL_NUMBERS).long()).backward()
    found = {n: p.grad.numpy().copy() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@by_case
def test_logits_match_transformers_window_by_window(engine: Engine, case: str) -> None:
    rows = batch(case, engine, EVERY)
    assert rows.owners is not None
    found = in_order(rows, engine.logits(state(engine, case), rows))
    with torch.inference_mode():
        expected = oracle_logits(case).numpy()
    assert np.abs(expected).max() > 0.5, "logits of order 1, or the comparison proves nothing"
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert np.abs(found - families.oracle_logits(case)).max() > 1e-2, "read whole they are others"


@by_case
def test_gradients_match_transformers_window_by_window(engine: Engine, case: str) -> None:
    found = gradients_of(engine, state(engine, case), [batch(case, engine, EVERY)], None)
    for name, expected in oracle_gradients(case).items():
        if not name.endswith(families.KEYS_BIAS):
            scale = max(float(np.linalg.norm(expected)), 1e-3)
            assert np.linalg.norm(found[name] - expected) / scale < 1e-4, name


@cache
def with_dropout(engine: Engine) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The gradient of all documents together, and the sum of those of each alone; dropout and R-Drop on.

    JAX lays each alone out in the shape of all, which spares compiling.
    """
    begun = start(engine, "bert", Recipe(dropout=0.3, attention_dropout=0.3, r_drop=1.0))
    together = batch("bert", engine, EVERY)
    room = together.shape if engine.static_shapes else None
    alone = [batch("bert", engine, EVERY[n : n + 1], DOCUMENTS, room) for n in range(DOCUMENTS)]
    return gradients_of(engine, begun, [together], KEY), gradients_of(engine, begun, alone, KEY)


def test_documents_together_and_one_by_one_are_the_same(engine: Engine) -> None:
    """With dropout on, so that masks depend on document and window and on no layout."""
    together, alone = with_dropout(engine)
    for name, value in together.items():
        np.testing.assert_allclose(alone[name], value, atol=1e-5, rtol=1e-4, err_msg=name)
    name = "classifier.weight"
    assert np.abs(together[name] - oracle_gradients("bert")[name]).max() > 1e-2, "dropout was on"


def test_gradients_agree_with_dropout_on() -> None:
    one, other = (with_dropout(open_engine(name))[0] for name in ENGINES)
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, atol=1e-5, rtol=1e-4, err_msg=name)


def test_a_document_of_one_window_is_as_without_windows(engine: Engine) -> None:
    """Beside others of several windows, and alone."""
    assert len(families.documents("bert")[0]) <= WINDOWS.length
    rows, alone = batch("bert", engine, EVERY), batch("bert", engine, EVERY[:1])
    assert alone.shape.windows is None
    found = in_order(rows, engine.logits(state(engine, "bert"), rows))
    np.testing.assert_allclose(found[0], engine.logits(state(engine, "bert"), alone)[0], atol=1e-6, rtol=0)


def test_input_gradients_match_transformers(engine: Engine) -> None:
    """Of the mean logit of a document's windows, by the word vector of each of their tokens."""
    case, label, rows = "bert", 1, batch("bert", engine, np.array([1], np.int32))
    model: Any = families.oracle(case)
    parts = WINDOWS.divide(families.documents(case)[1])
    expected = []
    for part in parts:
        words = model.get_input_embeddings()(torch.from_numpy(part[None]).long()).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(model(inputs_embeds=words).logits[0, label] / len(parts), words)
        expected.append(gradient[0].numpy())
    found = engine.input_gradients(state(engine, case), rows, label)[: sum(map(len, parts))]
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-5)


def test_trajectories_agree_and_jax_compiles_one_gradient_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "TRAINING_SHAPES", 1)
    case, recipe = "bert", Recipe(epochs=8, batch=3, microbatch=2, lr=1e-3, dropout=0.1)
    lengths = np.array([len(tokens) for tokens in families.documents(case)], np.int32)
    losses: dict[str, list[float]] = {name: [] for name in ENGINES}
    weights = []
    for name in ENGINES:
        engine = open_engine(name)
        now = start(engine, case, recipe)
        for step in make_plan(EVERY, lengths, recipe, engine.static_shapes, WINDOWS).steps:
            parts = zip(step.microbatches, step.shapes, strict=True)
            laid = [
                assemble([families.documents(case)[n] for n in part], part, LABEL_NUMBERS[part], shape,
                         normaliser=float(len(step.documents)))
                for part, shape in parts
            ]  # fmt: skip
            now, result = engine.step(now, laid, step.lr, StepKey(recipe.seed, step.number))
            losses[name].append(result.loss)
        weights.append({n: np.array(x) for n, x in engine.tensors(now, moments=False)})
        if name == "jax":
            assert Counter(kind for kind, _, _ in now.compiled) == {"gradient": 1, "update": 1, "add": 1}
    np.testing.assert_allclose(losses["jax"], losses["torch"], rtol=1e-4, atol=1e-5)
    assert families.apart(case, *weights) < 1e-3
    assert tensors_of(families.oracle(case)).keys() == weights[0].keys()
