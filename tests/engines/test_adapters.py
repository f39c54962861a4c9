"""Adapters and weights of 4 bits in both engines: against PEFT, against numpy, and against each other."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from duygu.engines import ENGINES, Engine, Placement, StepKey, open_engine
from duygu.models import nf4
from duygu.models.adapters import merged, trained_shapes
from duygu.models.folder import open_classifier
from tests.engines import adapted, families
from tests.engines.adapted import RECIPE

# PEFT asks transformers 5 by an older name whether a model checkpoints its gradients
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")

CASES = ("bert", "electra, projected", "modernbert", "llama", "qwen2", "qwen3")
FORMS = {"full": RECIPE, "4 bits": replace(RECIPE, quantise="nf4-double")}
# JAX compiles each for seconds
QUICK = (("bert", "full"), ("modernbert", "4 bits"), ("llama", "4 bits"), ("qwen2", "4 bits"))
TRAINED = (("bert", "full"), ("bert", "4 bits"), ("llama", "4 bits"))
LEARNING = [case for case in CASES if "electra" not in case]  # whose head learns little in 20 steps that drop so much
by_case = pytest.mark.parametrize("case", CASES)
by_form = pytest.mark.parametrize("form", FORMS)


def slow_but(quick: Container[tuple[str, str]], cases: Iterable[str] = CASES) -> pytest.MarkDecorator:
    """Every case in every form; all but the quick ones belong to the long campaigns."""
    pairs = [(case, form) for case in cases for form in FORMS]
    return pytest.mark.parametrize(
        ("case", "form"), [pair if pair in quick else pytest.param(*pair, marks=pytest.mark.slow) for pair in pairs]
    )


@slow_but(QUICK)
def test_logits_and_gradients_match_peft(engine: Engine, case: str, form: str, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    model = adapted.peft_model(case, FORMS[form], tmp_path)
    expected = adapted.peft_logits(model, case)
    assert np.abs(expected - families.oracle_logits(case)).max() > 0.1, "adapters that do something"
    np.testing.assert_allclose(adapted.logits(engine, case, FORMS[form]), expected, atol=1e-5, rtol=0)
    found, wanted = adapted.gradients(engine, case, FORMS[form]), adapted.peft_gradients(model, case)
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-5, rtol=1e-4, err_msg=name)


@slow_but(TRAINED, LEARNING)
def test_trajectories_agree_with_dropout_on(case: str, form: str) -> None:
    recipe = adapted.dropping(FORMS[form])
    (losses, state), (others, other) = (adapted.trained(open_engine(name), case, recipe) for name in ENGINES)
    assert losses[-5:].mean() < 0.9 * losses[:5].mean(), "it learns"
    np.testing.assert_allclose(others, losses, rtol=0, atol=1e-4)
    ours, theirs = (
        dict(open_engine(n).tensors(s, moments=False)) for n, s in zip(ENGINES, (state, other), strict=True)
    )
    assert ours.keys() == theirs.keys()
    assert max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours) < 1e-3
    for name, ended in zip(ENGINES, (state, other), strict=True):
        _require_moments_of_what_learns(open_engine(name), ended, case, form)


def _require_moments_of_what_learns(engine: Engine, state: Any, case: str, form: str) -> None:
    """Nothing else has any: neither in what is saved nor in what is held."""
    wanted = trained_shapes(families.spec_of(case), FORMS[form])
    names = {name for name, _ in engine.tensors(state)}
    assert names == {*wanted, *(f"adam.{kind}/{name}" for kind in "mv" for name in wanted), "adam.count"}
    if engine.name == "torch":
        held = sum(entry["exp_avg"].numel() for entry in state.optimiser.state.values())
    else:
        held = sum(moment.size for moment in state.moments.mu.values())
    assert held == sum(int(np.prod(shape)) for shape in wanted.values())


@by_case
def test_layers_computed_again_have_the_same_gradient_in_torch(case: str) -> None:
    """Of adapters on weights of 4 bits, dropout on: the oracle is the engine without gradient checkpointing."""
    plain = adapted.dropping(FORMS["4 bits"])
    engine, rows = open_engine("torch"), families.batch(case, False)
    recipes = (plain, replace(plain, gradient_checkpointing=True))
    one, again = (dict(engine.gradients(adapted.start(engine, case, own), rows, StepKey(13, 3))) for own in recipes)
    assert max(np.abs(value).max() for value in one.values()) > 1e-3
    for name, value in one.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)


def test_adapters_drop_what_they_read() -> None:
    """At a rate of its own: with it alone on, the losses are others, and equal in both engines."""
    recipe = replace(RECIPE, lora_dropout=0.2)
    losses = [adapted.trained(open_engine(name), "bert", recipe, 5)[0] for name in ENGINES]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0, atol=1e-5)
    without = adapted.trained(open_engine("torch"), "bert", RECIPE, 5)[0]
    assert np.abs(without - losses[0]).min() > 1e-4


@pytest.mark.parametrize("name", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
def test_a_run_goes_on_as_if_nothing_had_been(name: str) -> None:
    assert adapted.resumed(open_engine(name), "bert", adapted.dropping(FORMS["4 bits"]))


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("shape", [(7, 64), (65, 130), (3, 5)])
def test_dequantised_weights_equal_numpys_to_the_bit(engine: Engine, shape: tuple[int, int], double: bool) -> None:
    packed = nf4.quantise(np.random.default_rng(3).standard_normal(shape).astype(np.float32), double)
    found = _dequantised(engine.name, packed, shape[1])
    np.testing.assert_array_equal(found, nf4.dequantise(packed, shape))


def _dequantised(engine: str, packed: nf4.Packed, inputs: int) -> np.ndarray:
    parts: list[Any] = [packed.codes, packed.scales, packed.groups, packed.offset]
    if engine == "torch":
        import torch

        from duygu.engines.torch.nf4 import dequantise

        tensors = [None if part is None else torch.from_numpy(part) for part in parts]
        return dequantise(tuple(tensors), inputs).numpy()  # pyright: ignore[reportArgumentType]
    import jax

    from duygu.engines.jax.nf4 import dequantise as in_jax

    return np.asarray(jax.jit(in_jax, static_argnums=1)(tuple(parts), inputs))


def test_bf16_agrees_with_fp32(engine: Engine) -> None:
    """Weights that stay as they are are held in bf16 only: logits as near as that type's 8 bits can be."""
    recipe = FORMS["4 bits"]
    state = adapted.start(engine, "bert", recipe, Placement("bf16", 0))
    rough = families.logits(engine, "bert", state)
    exact = adapted.logits(engine, "bert", recipe)
    assert 0 < np.abs(rough - exact).max() < 0.05 * np.abs(exact).max()


@by_case
@by_form
def test_the_adapter_folder_answers_as_the_run_did(case: str, form: str, tmp_path: Path) -> None:
    """Opened by duygu, opened by PEFT, and merged into a whole model."""
    pytest.importorskip("peft", reason="peft is not installed")
    engine, recipe = open_engine("torch"), FORMS[form]
    expected = adapted.logits(engine, case, recipe)
    model = adapted.peft_model(case, recipe, tmp_path)
    opened = open_classifier(tmp_path / "adapter")
    state = engine.start(opened.spec, opened.tensors, opened.recipe, families.FP32)
    np.testing.assert_array_equal(families.logits(engine, case, state), expected)
    np.testing.assert_allclose(adapted.peft_logits(model.merge_and_unload(), case), expected, atol=1e-5, rtol=0)
    start = adapted.started(case, recipe)
    learnt = {name: start[name] for name in trained_shapes(opened.spec, recipe)}
    whole = dict(merged(start, learnt, opened.spec, recipe))
    plain = engine.start(opened.spec, whole, families.Recipe(), families.FP32)
    np.testing.assert_allclose(families.logits(engine, case, plain), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_batches_of_a_llama_answer_as_documents_do(side: Literal["left", "right"], tmp_path: Path) -> None:
    """Opened as docs/lora.md has it: the base names no padding token, the adapters' own config does."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    base, adapter = adapted.save("llama", RECIPE, tmp_path)
    config = {**json.loads((base / "config.json").read_text(encoding="utf-8")), "pad_token_id": None}
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    pad = json.loads((adapter / "config.json").read_text(encoding="utf-8"))["pad_token_id"]
    (adapter / "tokenizer_config.json").unlink()  # of another vocabulary than the random model's
    load = peft.AutoPeftModelForSequenceClassification.from_pretrained
    model = load(str(adapter), num_labels=3, pad_token_id=pad).eval()
    expected = adapted.logits(open_engine("torch"), "llama", RECIPE)
    np.testing.assert_allclose(adapted.peft_padded_logits(model, "llama", side), expected, atol=1e-5, rtol=0)
    assert open_classifier(adapter).spec.pad_id == pad


def test_auto_peft_opens_the_folder(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    adapted.save("bert", RECIPE, tmp_path)
    (tmp_path / "adapter" / "tokenizer_config.json").unlink()  # of another vocabulary than the random model's
    model = peft.AutoPeftModelForSequenceClassification.from_pretrained(str(tmp_path / "adapter"), num_labels=3)
    found = adapted.peft_logits(model.eval(), "bert")
    np.testing.assert_allclose(found, adapted.logits(open_engine("torch"), "bert", RECIPE), atol=1e-5, rtol=0)
