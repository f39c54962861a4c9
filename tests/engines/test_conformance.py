"""What every engine must fulfil. transformers is the oracle of the mathematics, the plan that of the layouts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from duygu.engines import Engine, Placement, StepKey
from duygu.recipe import Recipe
from duygu.training.plan import Shape, assemble, exact_shape, fit_shapes
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

KEY = StepKey(seed=13, step=3)
by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def oracle_logits(case: Case, ids: list[np.ndarray]) -> np.ndarray:
    model = oracle(case)
    with torch.inference_mode():
        return torch.cat([model(torch.from_numpy(tokens[None].astype(np.int64))).logits for tokens in ids]).numpy()


@by_case
def test_logits_match_transformers(engine: Engine, case: Case) -> None:
    ids = documents(9)
    batch = batch_of(ids, labels_of(9, case), static=engine.static_shapes)
    logits = in_order(batch, engine.logits(start(engine, case), batch))
    expected = oracle_logits(case, ids)
    assert np.abs(expected).max() > 0.5, "logits of order 1, or the comparison proves nothing"
    np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=0)


@by_case
def test_gradients_match_transformers(engine: Engine, case: Case) -> None:
    ids, labels = documents(6), labels_of(6, case)
    model = oracle(case)
    for tokens, label in zip(ids, labels, strict=True):
        target = torch.tensor([int(label)])
        (model(torch.from_numpy(tokens[None].astype(np.int64)), labels=target).loss / len(ids)).backward()
    batch = batch_of(ids, labels, static=engine.static_shapes)
    gradients = dict(engine.gradients(start(engine, case), batch, None))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        scale = max(float(parameter.grad.norm()), 1e-3)
        assert np.linalg.norm(gradients[name] - parameter.grad.numpy()) / scale < 1e-4, name


WRONG = {
    "activation": lambda spec: replace(spec, activation="gelu" if spec.activation == "gelu_tanh" else "gelu_tanh"),
    "norm_eps": lambda spec: replace(spec, norm_eps=spec.norm_eps * 2 + 1e-4),
    "heads": lambda spec: replace(spec, heads=1 if spec.heads > 1 else 2),
}


@pytest.mark.parametrize("wrong", WRONG)
@by_case
def test_wrong_variants_are_seen(engine: Engine, case: Case, wrong: str) -> None:
    """The tolerance above is tight enough to catch the mistakes that published ports have made."""
    ids = documents(9)
    batch = batch_of(ids, labels_of(9, case), static=engine.static_shapes)
    state = engine.start(WRONG[wrong](spec_of(case)), tensors_of(oracle(case)), Recipe(), FP32)
    assert np.abs(in_order(batch, engine.logits(state, batch)) - oracle_logits(case, ids)).max() > 1e-5


def test_layouts_give_the_same_gradient_with_dropout_on(engine: Engine) -> None:
    """All documents together, one by one, and, where the engine takes it, with padding in every place."""
    case = CASES[0]
    ids = [tokens[:length] for tokens, length in zip(documents(40, 1)[-7:], (9, 2, 2, 9, 5, 9, 5), strict=True)]
    labels = labels_of(7, case)
    total = int(sizes(ids).sum())
    roomy = Shape(total + 13, ((5, 12), (5, 9)))
    state = start(engine, case)
    one = gradients_of(engine, state, [batch_of(ids, labels, exact_shape(sizes(ids)))], KEY)
    single = fit_shapes([sizes([tokens]) for tokens in ids], 1, engine.static_shapes)
    alone = [
        assemble([ids[i]], np.array([i], np.int32), labels[i : i + 1], single[i], normaliser=7.0) for i in range(7)
    ]
    assert_same_gradients(one, gradients_of(engine, state, alone, KEY))
    if engine.static_shapes:
        assert_same_gradients(one, gradients_of(engine, state, [batch_of(ids, labels, roomy)], KEY))


def sizes(ids: list[np.ndarray]) -> np.ndarray:
    return np.array([len(tokens) for tokens in ids], np.int32)


def assert_same_gradients(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert max(np.abs(value).max() for value in one.values()) > 1e-2
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, atol=1e-5, rtol=1e-4, err_msg=name)


def test_accumulated_step_equals_whole_step_with_dropout_on(engine: Engine) -> None:
    case, ids = CASES[1], documents(8)
    labels, numbers = labels_of(8, case), np.arange(8, dtype=np.int32)
    weights = np.linspace(0.5, 2.0, 8, dtype=np.float32)
    recipe = Recipe(lr=1e-2, weight_decay=0.1, eps=1e-3)  # at 1e-6, Adam makes whole steps of rounding noise
    results: list[dict[str, np.ndarray]] = []
    for parts in (np.split(numbers, 1), np.split(numbers, [3, 4])):
        lengths = [sizes([ids[i] for i in part]) for part in parts]
        shapes = fit_shapes(lengths, 1, engine.static_shapes)
        batches = [
            assemble([ids[i] for i in part], part, labels[part], shape, weights[part], float(weights.sum()))
            for part, shape in zip(parts, shapes, strict=True)
        ]
        state, result = engine.step(start(engine, case, recipe), batches, 1e-2, KEY)
        numbers_of_step = {"loss": np.array(result.loss), "norm": np.array(result.grad_norm)}
        results.append({**numbers_of_step, **dict(engine.tensors(state))})
    for name, value in results[0].items():
        # The keys' bias has no gradient but rounding noise, which Adam turns into steps of its own.
        if "key.bias" not in name:
            np.testing.assert_allclose(results[1][name], value, atol=1e-5, rtol=1e-4, err_msg=name)


def test_adamw_matches_torch_with_clipping_and_masked_decay(engine: Engine) -> None:
    """Three updates against `torch.optim.AdamW` and `clip_grad_norm_` on transformers' own gradients."""
    case, ids = CASES[2], documents(4)
    labels = labels_of(4, case)
    recipe = Recipe(lr=1e-2, weight_decay=0.1, clip=0.5)
    state, model = start(engine, case, recipe, dropout=0.0), oracle(case)
    decayed = [p for name, p in model.named_parameters() if not name.endswith("bias") and "LayerNorm" not in name]
    plain = [p for name, p in model.named_parameters() if name.endswith("bias") or "LayerNorm" in name]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.999), eps=1e-6)
    for number in range(1, 4):
        optimiser.zero_grad()
        for tokens, label in zip(ids, labels, strict=True):
            inputs = torch.from_numpy(tokens[None].astype(np.int64))
            (model(inputs, labels=torch.tensor([int(label)])).loss / len(ids)).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimiser.step()
        batch = batch_of(ids, labels, static=engine.static_shapes)
        state, result = engine.step(state, [batch], 1e-2, StepKey(13, number))
        assert result.grad_norm == pytest.approx(float(norm), rel=1e-4)
    after = dict(engine.tensors(state, moments=False))
    for name, parameter in model.named_parameters():
        if not name.endswith("key.bias"):
            moved = parameter.detach().numpy()
            np.testing.assert_allclose(after[name], moved, atol=2e-4, rtol=1e-4, err_msg=name)


def test_moments_resume_to_the_bit(engine: Engine) -> None:
    case, ids = CASES[0], documents(6)
    labels, recipe = labels_of(6, case), Recipe(lr=1e-3)
    batch = batch_of(ids, labels, static=engine.static_shapes)
    state = start(engine, case, recipe)
    for number in (1, 2):
        state, _ = engine.step(state, [batch], 1e-3, StepKey(13, number))
    saved = {name: np.array(value) for name, value in engine.tensors(state)}
    resumed = engine.start(spec_of(case), saved, recipe, FP32)
    for number in (3, 4):
        state, _ = engine.step(state, [batch], 1e-3, StepKey(13, number))
        resumed, _ = engine.step(resumed, [batch], 1e-3, StepKey(13, number))
    for (name, value), (_, again) in zip(engine.tensors(state), engine.tensors(resumed), strict=True):
        np.testing.assert_array_equal(np.array(again), np.array(value), err_msg=name)


def test_input_gradients_match_finite_differences(engine: Engine) -> None:
    """A small step of a word vector that occurs once moves the logit by gradient times step."""
    case = CASES[3]
    ids = [np.array([5, 6, 7, 8], np.int32)]
    batch = batch_of(ids, labels_of(1, case), static=engine.static_shapes)
    gradient = engine.input_gradients(start(engine, case), batch, 1)[2]
    direction, size = np.sign(gradient), 1e-3
    logits: list[float] = []
    for side in (size, -size):
        tensors = tensors_of(oracle(case))
        tensors["bert.embeddings.word_embeddings.weight"][7] += side * direction
        state = engine.start(spec_of(case), tensors, Recipe(), FP32)
        logits.append(float(in_order(batch, engine.logits(state, batch))[0, 1]))
    assert (logits[0] - logits[1]) / (2 * size) == pytest.approx(float(gradient @ direction), rel=1e-2)


def test_bf16_stays_near_fp32(engine: Engine) -> None:
    case, ids = CASES[0], documents(8)
    batch = batch_of(ids, labels_of(8, case), static=engine.static_shapes)
    fp32, low = (
        engine.start(spec_of(case), tensors_of(oracle(case)), Recipe(), Placement(precision, 0))
        for precision in ("fp32", "bf16")
    )
    one, other = (gradients_of(engine, state, [batch], KEY) for state in (fp32, low))
    a, b = (np.concatenate([value.ravel() for value in gradients.values()]) for gradients in (one, other))
    cosine = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert 0.99 < cosine < 1 - 1e-9, "near, and really computed in bf16"
    assert all(value.dtype == np.float32 for _, value in engine.tensors(low))
