"""What each remedy does to loss, gradient and weights, in both engines.

The oracle is PyTorch's own loss, or plain arithmetic on what the engine does without the remedy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from duygu.engines import ENGINES, Engine, State, StepKey, open_engine
from duygu.engines.torch import engine as torch_engine
from duygu.recipe import Recipe
from duygu.training import plan
from duygu.training.parameters import average_rate, blocks_of
from duygu.training.plan import Batch, assemble, fit_shapes
from tests.engines.cases import (
    CASES,
    FP32,
    documents,
    gradients_of,
    labels_of,
    oracle,
    spec_of,
    start,
    tensors_of,
)
from tests.engines.test_twins import trajectory

CASE = CASES[1]  # three layers, three labels
KEY = StepKey(seed=13, step=3)
PLAIN = Recipe(lr=1e-2, weight_decay=0.1)
Tensors = dict[str, np.ndarray]


def batch_for(engine: Engine, weights: np.ndarray | None = None) -> Batch:
    ids, labels = documents(8), labels_of(8, CASE)
    lengths = np.array([len(tokens) for tokens in ids], np.int32)
    (shape,) = fit_shapes([lengths], 1, engine.static_shapes)
    return assemble(ids, np.arange(8, dtype=np.int32), labels, shape, weights)


@dataclass(frozen=True)
class Step:
    """One update from the start, and the gradient that it followed."""

    loss: float
    norm: float
    gradients: Tensors
    weights: Tensors


@cache
def step_of(engine: Engine, recipe: Recipe, key: StepKey = KEY) -> Step:
    """With dropout on; made once, since in JAX each is a compilation."""
    state, batch = start(engine, CASE, recipe), batch_for(engine)
    gradients = gradients_of(engine, state, [batch], key)
    state, result = engine.step(state, [batch], 1e-2, key)
    return Step(result.loss, result.grad_norm, gradients, weights_of(engine, state))


def weights_of(engine: Engine, state: State) -> Tensors:
    return {name: np.array(x) for name, x in engine.tensors(state) if "/" not in name and name != "adam.count"}


def oracle_gradients(smoothing: float, weights: torch.Tensor | None) -> Tensors:
    """Of PyTorch's own cross-entropy on transformers' model, without dropout."""
    model = oracle(CASE)
    logits = torch.cat([model(torch.from_numpy(tokens[None].astype(np.int64))).logits for tokens in documents(8)])
    labels = torch.from_numpy(labels_of(8, CASE)).long()
    F.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing).backward()
    return {name: parameter.grad.numpy() for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_close(found: Tensors, expected: Tensors) -> None:
    for name, value in expected.items():
        scale = max(float(np.linalg.norm(value)), 1e-3)
        assert np.linalg.norm(found[name] - value) / scale < 1e-4, name


def test_label_smoothing_matches_torch(engine: Engine) -> None:
    state = start(engine, CASE, replace(PLAIN, label_smoothing=0.2))
    found = gradients_of(engine, state, [batch_for(engine)], None)
    assert_close(found, oracle_gradients(0.2, None))
    plain = oracle_gradients(0.0, None)["classifier.weight"]
    assert np.abs(found["classifier.weight"] - plain).max() > 1e-2, "smoothing changes the gradient"


def test_class_weights_match_torch(engine: Engine) -> None:
    by_label = torch.tensor([1.5, 0.5, 1.0])
    weights = by_label.numpy()[labels_of(8, CASE)]
    found = gradients_of(engine, start(engine, CASE), [batch_for(engine, weights)], None)
    assert_close(found, oracle_gradients(0.0, by_label))
    plain = oracle_gradients(0.0, None)["classifier.bias"]
    assert np.abs(found["classifier.bias"] - plain).max() > 1e-2, "weights change the gradient"


def torch_distance() -> float:
    """Symmetric Kullback-Leibler divergence between PyTorch's two passes, by its own `kl_div`."""
    engine = open_engine("torch")
    state, batch = start(engine, CASE, PLAIN), batch_for(engine)
    layout = torch_engine._layout(batch, state.device)
    with torch.no_grad():
        one, other = (
            F.log_softmax(torch_engine._classify(state, batch, layout, key), dim=-1) for key in (KEY, KEY.second)
        )
        both = [F.kl_div(a, b, log_target=True, reduction="batchmean") for a, b in ((one, other), (other, one))]
    return float(sum(both) / 2)


def test_r_drop_is_the_mean_of_two_passes_and_their_distance(engine: Engine) -> None:
    first, second, distance = step_of(engine, PLAIN), step_of(engine, PLAIN, KEY.second), torch_distance()
    assert abs(first.loss - second.loss) > 1e-3, "other masks"
    assert distance > 1e-3
    both = step_of(engine, replace(PLAIN, r_drop=4.0))
    assert both.loss == pytest.approx((first.loss + second.loss) / 2 + 4.0 * distance, rel=1e-4)
    mean = (first.gradients["classifier.weight"] + second.gradients["classifier.weight"]) / 2
    assert np.abs(both.gradients["classifier.weight"] - mean).max() > 1e-3, "the distance has a gradient too"


def test_layer_decay_scales_every_layers_step(engine: Engine) -> None:
    recipe, before = replace(PLAIN, weight_decay=0.0), tensors_of(oracle(CASE))
    plain, decayed = step_of(engine, recipe), step_of(engine, replace(recipe, layer_decay=0.5))
    assert decayed.norm == pytest.approx(plain.norm, rel=1e-6), "the gradient is the same"
    for name, block in blocks_of(before).items():
        scale = 0.5 ** max(0, CASE.layers - block)
        step, whole = decayed.weights[name] - before[name], plain.weights[name] - before[name]
        np.testing.assert_allclose(step, scale * whole, atol=1e-6, err_msg=name)
    lowest = "bert.embeddings.LayerNorm.bias"
    assert np.abs(plain.weights[lowest] - before[lowest]).max() > 1e-3


@pytest.mark.parametrize("frozen", [1, 3])
def test_frozen_blocks_stay_to_the_bit_and_the_rest_learns_as_before(engine: Engine, frozen: int) -> None:
    before, plain = tensors_of(oracle(CASE)), step_of(engine, PLAIN)
    found = step_of(engine, replace(PLAIN, frozen=frozen))
    for name, block in blocks_of(before).items():
        if block < frozen:
            assert not found.gradients[name].any(), name
            np.testing.assert_array_equal(found.weights[name], before[name], err_msg=name)
        else:
            np.testing.assert_allclose(found.gradients[name], plain.gradients[name], atol=1e-6, rtol=1e-4, err_msg=name)
    length = np.sqrt(sum(float((value**2).sum()) for value in found.gradients.values()))
    assert found.norm == pytest.approx(length, rel=1e-4)
    assert found.norm < plain.norm
    assert np.abs(found.weights["classifier.weight"] - before["classifier.weight"]).max() > 1e-3


def test_averages_follow_the_weights_and_are_what_is_scored(engine: Engine) -> None:
    recipe = replace(PLAIN, ema=0.3)
    batch, state = batch_for(engine), start(engine, CASE, replace(PLAIN, ema=0.3))
    expected = weights_of(engine, state)
    for number in range(1, 5):
        state, _ = engine.step(state, [batch], 1e-2, StepKey(13, number))
        rate = np.float32(average_rate(recipe, number))
        now = weights_of(engine, state)
        expected = {name: value + rate * (now[name] - value) for name, value in expected.items()}
    kept = {name: np.array(x) for name, x in engine.tensors(state, moments=False)}
    assert list(kept) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(kept[name], value, atol=1e-6, err_msg=name)
    logits = engine.logits(state, batch)
    alone = engine.start(spec_of(CASE), kept, PLAIN, FP32)
    np.testing.assert_allclose(logits, engine.logits(alone, batch), atol=1e-6)
    current = engine.start(spec_of(CASE), now, PLAIN, FP32)
    assert np.abs(logits - engine.logits(current, batch)).max() > 1e-3, "not the weights themselves"


ALL = Recipe(
    lr=2e-3, epochs=4, batch=8, label_smoothing=0.1, r_drop=1.0, layer_decay=0.8, frozen=1, ema=0.9, microbatch=4
)


def test_everything_at_once_resumes_to_the_bit(engine: Engine) -> None:
    batch, state = batch_for(engine), start(engine, CASE, ALL)
    for number in (1, 2):
        state, _ = engine.step(state, [batch], 1e-3, StepKey(13, number))
    engine.logits(state, batch)
    frozen = {f"adam.{moment}/{name}" for moment in "mv" for name, block in blocks_of(tensors_of(oracle(CASE))).items()
              if block < ALL.frozen}  # fmt: skip
    saved = {name: np.array(value) for name, value in engine.tensors(state) if name not in frozen}
    resumed = engine.start(spec_of(CASE), saved, ALL, FP32)
    for number in (3, 4):
        state, _ = engine.step(state, [batch], 1e-3, StepKey(13, number))
        resumed, _ = engine.step(resumed, [batch], 1e-3, StepKey(13, number))
    found = dict(engine.tensors(resumed))
    for name, value in engine.tensors(state):
        np.testing.assert_array_equal(np.array(found[name]), np.array(value), err_msg=name)
    np.testing.assert_array_equal(engine.logits(state, batch), engine.logits(resumed, batch))


def test_trajectories_agree_with_every_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "TRAINING_SHAPES", 1)
    (losses, norms, weights), (other_losses, other_norms, other_weights) = (
        trajectory(name, CASE, ALL) for name in ENGINES
    )
    np.testing.assert_allclose(other_losses, losses, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(other_norms, norms, rtol=2e-3)
    before = tensors_of(oracle(CASE))
    moved = sum(float(((weights[name] - before[name]) ** 2).sum()) for name in weights if "key.bias" not in name)
    apart = sum(float(((weights[n] - other_weights[n]) ** 2).sum()) for n in weights if "key.bias" not in n)
    assert np.sqrt(apart / moved) < 1e-3
