"""Tiny models with adapters in both engines and in PEFT, and what is measured of them."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from duygu.data.tokens import TextTokenizer
from duygu.engines import Engine, Placement, State, StepKey
from duygu.models import nf4
from duygu.models.adapter_folder import Base
from duygu.models.adapters import adapter_shapes, linear_layers, trained_shapes, with_adapters
from duygu.models.folder import write_adapted
from duygu.models.spec import tensor_shapes
from duygu.recipe import Recipe
from duygu.training.plan import assemble, make_plan
from tests.engines import families
from tests.engines.cases import FP32, tensors_of

Tensors = dict[str, np.ndarray]

STEPS = 20
RECIPE = Recipe(lora_rank=4, lora_alpha=6.0, length=16, dropout=0.0, attention_dropout=0.0)


def base_tensors(case: str) -> Tensors:
    return tensors_of(families.oracle(case))


def started(case: str, recipe: Recipe) -> Tensors:
    """What an engine starts from; B is random, since at 0 no adapter does anything."""
    spec, random = families.spec_of(case), np.random.default_rng(7)
    tensors = dict(with_adapters(base_tensors(case), spec, recipe))
    for name, shape in adapter_shapes(tensor_shapes(spec), recipe).items():
        if "lora_B" in name:
            tensors[name] = random.standard_normal(shape, np.float32) * np.float32(0.3)
    return tensors


def start(engine: Engine, case: str, recipe: Recipe, placement: Placement = FP32) -> State:
    return engine.start(families.spec_of(case), started(case, recipe), recipe, placement)


def logits(engine: Engine, case: str, recipe: Recipe) -> np.ndarray:
    return families.logits(engine, case, start(engine, case, recipe))


def gradients(engine: Engine, case: str, recipe: Recipe) -> Tensors:
    rows = families.batch(case, engine.static_shapes)
    return dict(engine.gradients(start(engine, case, recipe), rows, None))


def save(case: str, recipe: Recipe, folder: Path) -> tuple[Path, Path]:
    """The base and the adapter folder, as a run would leave it."""
    model: Any = families.oracle(case)
    model.config.id2label = dict(enumerate(families.LABELS))
    model.save_pretrained(folder / "base")
    tokenizer, spec = TextTokenizer.train(["ab"], 20), families.spec_of(case)
    tokenizer.save(folder / "base", 16)
    learnt = {name: started(case, recipe)[name] for name in trained_shapes(spec, recipe)}
    base = Base(str(folder / "base"), None)
    write_adapted(folder / "adapter", base, spec, recipe, learnt.items(), tokenizer)
    return folder / "base", folder / "adapter"


def peft_model(case: str, recipe: Recipe, folder: Path) -> Any:
    """PEFT's own model of what duygu saved; a quantised base is the numbers that its codes stand for."""
    import peft

    _, adapter = save(case, recipe, folder)
    base: Any = copy.deepcopy(families.oracle(case))
    if recipe.quantise != "none":
        _round(base, case, recipe)
    return peft.PeftModel.from_pretrained(base, str(adapter), is_trainable=True).eval()


def _round(base: torch.nn.Module, case: str, recipe: Recipe) -> None:
    shapes, double = tensor_shapes(families.spec_of(case)), recipe.quantise == "nf4-double"
    with torch.no_grad():
        for layer in linear_layers(shapes):
            weight: Any = base.get_submodule(layer).weight
            packed = nf4.quantise(weight.numpy(), double)
            weight.copy_(torch.from_numpy(nf4.dequantise(packed, shapes[f"{layer}.weight"])))


def peft_logits(model: Any, case: str) -> np.ndarray:
    with torch.inference_mode():
        rows = [model(torch.from_numpy(tokens[None].astype(np.int64))).logits for tokens in families.documents(case)]
    return torch.cat(rows).numpy()


def peft_padded_logits(model: Any, case: str, side: Literal["left", "right"]) -> np.ndarray:
    """All documents in one padded batch."""
    pad = families.spec_of(case).pad_id
    ids = [torch.from_numpy(tokens.astype(np.int64)) for tokens in families.documents(case)]
    inputs = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=pad, padding_side=side)
    with torch.inference_mode():
        return model(inputs, attention_mask=(inputs != pad).long()).logits.numpy()


def peft_gradients(model: Any, case: str) -> Tensors:
    """Of the mean loss, by duygu's names."""
    for tokens, label in zip(families.documents(case), families.LABEL_NUMBERS, strict=True):
        ids, target = torch.from_numpy(tokens[None].astype(np.int64)), torch.tensor([int(label)])
        (model(ids, labels=target).loss / families.DOCUMENTS).backward()
    return {
        name.removeprefix("base_model.model.").replace(".default", "").replace(".modules_to_save", ""): p.grad.numpy()
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def trained(engine: Engine, case: str, recipe: Recipe, stop: int = STEPS, state: State | None = None) -> Any:
    """Losses of some steps with dropout on, and the state after them; with a state, those that are left."""
    recipe = replace(recipe, epochs=STEPS, batch=families.DOCUMENTS, lr=1e-2, warmup=0.0)
    lengths = np.array([len(tokens) for tokens in families.documents(case)], np.int32)
    plan = make_plan(np.arange(families.DOCUMENTS, dtype=np.int32), lengths, recipe, engine.static_shapes)
    steps = plan.steps[:stop] if state is None else plan.steps[stop:]
    state, losses = state or start(engine, case, recipe), []
    for step in steps:
        (part,), (shape,) = step.microbatches, step.shapes
        rows = assemble([families.documents(case)[i] for i in part], part, families.LABEL_NUMBERS[part], shape)
        state, result = engine.step(state, [rows], step.lr, StepKey(recipe.seed, step.number))
        losses.append(result.loss)
    return np.array(losses), state


def resumed(engine: Engine, case: str, recipe: Recipe) -> bool:
    """Whether training that stops half-way and goes on ends with the same weights to the bit."""
    _, whole = trained(engine, case, recipe)
    wanted = {name: np.array(x) for name, x in engine.tensors(whole)}
    _, half = trained(engine, case, recipe, STEPS // 2)
    saved = {name: np.array(x) for name, x in engine.tensors(half)}
    again = engine.start(families.spec_of(case), {**started(case, recipe), **saved}, recipe, FP32)
    _, ended = trained(engine, case, recipe, STEPS // 2, again)
    return all(np.array_equal(wanted[name], x) for name, x in engine.tensors(ended))


def dropping(recipe: Recipe) -> Recipe:
    return replace(recipe, dropout=0.1, attention_dropout=0.1, lora_dropout=0.2)
