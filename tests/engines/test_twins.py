"""The two engines side by side: one training, step by step, with dropout on."""

from __future__ import annotations

import numpy as np
import pytest

from duygu.engines import ENGINES, StepKey, open_engine
from duygu.recipe import Recipe
from duygu.training import plan
from duygu.training.plan import assemble, make_plan
from tests.engines.cases import (
    CASES,
    FP32,
    Case,
    batch_of,
    documents,
    gradients_of,
    in_order,
    labels_of,
    oracle,
    spec_of,
    start,
    tensors_of,
)


def trajectory(name: str, case: Case, recipe: Recipe) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Losses, gradient norms and final weights."""
    engine = open_engine(name)
    ids, labels = documents(40), labels_of(40, case)
    lengths = np.array([len(tokens) for tokens in ids], np.int32)
    steps = make_plan(np.arange(40, dtype=np.int32), lengths, recipe, engine.static_shapes).steps
    state = engine.start(spec_of(case), tensors_of(oracle(case)), recipe, FP32)
    losses, norms = [], []
    for step in steps:
        batches = [
            assemble([ids[i] for i in part], part, labels[part], shape, normaliser=float(len(step.documents)))
            for part, shape in zip(step.microbatches, step.shapes, strict=True)
        ]
        state, result = engine.step(state, batches, step.lr, StepKey(recipe.seed, step.number))
        losses.append(result.loss)
        norms.append(result.grad_norm)
    return np.array(losses), np.array(norms), {n: np.array(x) for n, x in engine.tensors(state, moments=False)}


@pytest.mark.parametrize(("case", "microbatch"), [(CASES[0], 0), (CASES[1], 4)], ids=["whole", "accumulated"])
def test_trajectories_agree_with_dropout_on(case: Case, microbatch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "TRAINING_SHAPES", 2)  # each is a compilation
    recipe = Recipe(epochs=12, batch=8, microbatch=microbatch, lr=2e-3)
    (losses, norms, weights), (other_losses, other_norms, other_weights) = (
        trajectory(name, case, recipe) for name in ENGINES
    )
    assert len(losses) == 60
    assert losses[-10:].mean() < losses[:10].mean(), "it learns"
    np.testing.assert_allclose(other_losses, losses, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(other_norms, norms, rtol=2e-3)
    before = tensors_of(oracle(case))
    moved = sum(float(((weights[name] - before[name]) ** 2).sum()) for name in weights if "key.bias" not in name)
    apart = sum(float(((weights[n] - other_weights[n]) ** 2).sum()) for n in weights if "key.bias" not in n)
    assert np.sqrt(apart / moved) < 1e-3


def test_attention_in_blocks_and_at_once_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX attends block by block on a CPU and to all documents at once on a GPU: same logits, same gradient."""
    from duygu.engines.jax import bert, blocks

    case, ids = CASES[0], documents(7)
    batch = batch_of(ids, labels_of(7, case), static=True)
    monkeypatch.setattr(blocks, "BLOCK", 16)  # documents of one block, of several, and ends within a block
    found = []
    for in_blocks in (True, False):
        monkeypatch.setattr(bert, "in_blocks", lambda chosen=in_blocks: chosen)
        engine = open_engine("jax")
        state = start(engine, case)
        gradients = gradients_of(engine, state, [batch], StepKey(13, 3))
        found.append({"logits": in_order(batch, engine.logits(state, batch)), **gradients})
    assert np.abs(found[0]["logits"]).max() > 0.1
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, atol=1e-5, rtol=1e-4, err_msg=name)
