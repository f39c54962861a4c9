"""One random tiny model per family, transformers as its oracle, its wrong variants, and what is measured of it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from duygu.data.tokens import TextTokenizer
from duygu.engines import ENGINES, Engine, Placement, State, StepKey
from duygu.engines.jax import blocks
from duygu.engines.jax import llama as jax_llama
from duygu.engines.torch import llama as torch_llama
from duygu.models import parts
from duygu.models.folder import open_classifier, write_model
from duygu.models.spec import ModelSpec, read_spec
from duygu.recipe import Recipe
from duygu.training.plan import Batch, Shape, assemble, fit_shapes, make_plan
from tests.engines.cases import FP32, in_order, tensors_of

Tensors = dict[str, np.ndarray]

VOCABULARY, LENGTH, DOCUMENTS = 83, 40, 8
LABELS = ("bad", "good", "none")
STEPS = 60
KEYS_BIAS = ("key.bias", "k_lin.bias")  # their gradient is 0 up to rounding: they move a row's scores alike
SIZES = {"num_hidden_layers": 3, "hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 40}
TEXT = {"vocab_size": VOCABULARY, "num_labels": 3}
WITHIN = {"max_position_embeddings": 48}
AFTER_PADDING = {"max_position_embeddings": 46, "pad_token_id": 3, "layer_norm_eps": 1e-3}
MODERN = {  # of the last case the last layer is local
    "max_position_embeddings": 48, "pad_token_id": 0, "local_attention": 8, "norm_eps": 1e-4,
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 1000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
    },
}  # fmt: skip
LLAMA = {  # of the four pairs of features one keeps its pace, one is in between, two are slowed down
    "max_position_embeddings": 96, "pad_token_id": 0, "rms_norm_eps": 1e-3, "hidden_size": 32,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40,
    "rope_parameters": {
        "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}  # fmt: skip
PLAIN_LLAMA = {
    **SIZES, "max_position_embeddings": 48, "pad_token_id": 0, "head_dim": 10,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
}  # fmt: skip
QWEN = {**LLAMA, "max_position_embeddings": 48, "rope_parameters": PLAIN_LLAMA["rope_parameters"]}
CASES: Mapping[str, tuple[str, dict[str, Any]]] = {  # model_type and what its config says, by name of the case
    "bert": ("bert", {**SIZES, **WITHIN}),
    "electra": ("electra", {**SIZES, **WITHIN, "embedding_size": 24}),
    "electra, projected": ("electra", {**SIZES, **WITHIN, "embedding_size": 16}),
    "distilbert": ("distilbert", {"n_layers": 3, "dim": 24, "n_heads": 3, "hidden_dim": 40, **WITHIN}),
    "roberta": ("roberta", {**SIZES, **AFTER_PADDING}),
    "xlm-roberta": ("xlm-roberta", {**SIZES, **AFTER_PADDING, "type_vocab_size": 1}),
    "modernbert": ("modernbert", {**SIZES, **MODERN, "num_hidden_layers": 4, "classifier_pooling": "cls"}),
    "modernbert, mean": ("modernbert", {**SIZES, **MODERN, "classifier_pooling": "mean"}),
    "llama": ("llama", LLAMA),
    "llama, plain": ("llama", PLAIN_LLAMA),
    "qwen2": ("qwen2", QWEN),
    "qwen3": ("qwen3", {**QWEN, "head_dim": 10}),
}


@dataclass(frozen=True)
class Variant:
    """A mistake that ports of a family have made, or could: another spec, other tensors, parts, texts or code."""

    spec: Callable[[ModelSpec], ModelSpec] = lambda spec: spec
    tensors: Callable[[Tensors], Tensors] = lambda tensors: tensors
    parts: Mapping[str, Any] | None = None  # fields of `Parts`
    documents: Callable[[np.ndarray], np.ndarray] = lambda ids: ids
    code: Mapping[str, tuple[str, Any]] | None = None  # by engine, what takes the place of a name


def _changed(ending: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: change(x) if name.endswith(ending) else x for name, x in tensors.items()}


TANH_GELU = Variant(spec=lambda spec: replace(spec, activation="gelu_tanh"))
NO_SEGMENT = Variant(tensors=_changed("token_type_embeddings.weight", np.zeros_like))
SHIFTED = Variant(tensors=_changed("position_embeddings.weight", lambda x: np.roll(x, 1, axis=0)))
INTERLEAVED = [0, 2, 4, 6, 1, 3, 5, 7]  # the pairs of features that some other models turn


def _reordered(weight: np.ndarray) -> np.ndarray:
    """Queries, keys and values whose features engines turn in other pairs; scores without turns stay."""
    return weight.reshape(3, 3, 8, 24)[:, :, INTERLEAVED].reshape(weight.shape)


def _tiled(tensors: Tensors) -> Tensors:
    """Heads of queries in the order in which keys and values would serve them if these were tiled, not repeated."""
    order = np.arange(4).reshape(2, 2).T.flatten()
    found = dict(tensors)
    for name, x in tensors.items():
        if name.endswith("q_proj.weight"):
            found[name] = x.reshape(4, 8, 32)[order].reshape(x.shape)
        if name.endswith("o_proj.weight"):
            found[name] = x.reshape(32, 4, 8)[:, order].reshape(x.shape)
    return found


def _head_reordered(weight: np.ndarray) -> np.ndarray:
    """As `_reordered`, of queries or of keys alone."""
    return weight.reshape(-1, 8, 32)[:, INTERLEAVED].reshape(weight.shape)


def _swapped(one: str, other: str) -> Callable[[Tensors], Tensors]:
    """Two tensors of each layer under each other's names."""
    names = {one: other, other: one}
    return lambda tensors: {
        re.sub(f"{one}|{other}", lambda found: names[found[0]], name): x for name, x in tensors.items()
    }


def _as_it_is(x_RHK: Any, *arguments: Any) -> Any:
    """In place of a head's norm."""
    return x_RHK


def _over_all_heads(norm: Callable[..., Any]) -> Callable[..., Any]:
    """A head's norm by the mean square of all heads, as OLMo 2 has it."""

    def head_norm(x_RHK: Any, *arguments: Any) -> Any:
        square = x_RHK * x_RHK
        shrink = square.mean(axis=-1, keepdims=True) / square.mean(axis=(-2, -1), keepdims=True)
        return norm(x_RHK, *arguments) * shrink**0.5

    return head_norm


KIND = blocks.Kind
FIRST_TOKEN = property(lambda layout: layout.starts_D)
EPSILON = Variant(spec=lambda spec: replace(spec, norm_eps=spec.norm_eps / 2 + 1e-5))
WRONG: Mapping[str, Mapping[str, Variant]] = {
    "bert": {"tanh gelu": TANH_GELU, "no segment": NO_SEGMENT, "position off by one": SHIFTED, "norm eps": EPSILON},
    "electra": {
        "tanh gelu": TANH_GELU,
        "no segment": NO_SEGMENT,
        "BERT's head": Variant(parts={"head_activation": "tanh"}),
    },
    "distilbert": {
        "tanh gelu": TANH_GELU,
        "BERT's head": Variant(parts={"head_activation": "tanh"}),
        "norms swapped": Variant(parts={"attention_norm": "output_layer_norm", "output_norm": "sa_layer_norm"}),
    },
    "roberta": {
        "position 0 first": Variant(tensors=_changed("position_embeddings.weight", lambda x: np.roll(x, 4, axis=0))),
        "no segment": NO_SEGMENT,
        "tanh gelu": TANH_GELU,
        "BERT's norm eps": Variant(spec=lambda spec: replace(spec, norm_eps=1e-12)),
        "ELECTRA's head": Variant(parts={"head_activation": "gelu"}),
    },
    "modernbert": {
        "one theta": Variant(spec=lambda spec: replace(spec, local_theta=spec.theta)),
        "window off by one": Variant(spec=lambda spec: replace(spec, window=spec.window + 1)),
        "no local layers": Variant(spec=lambda spec: replace(spec, global_every=1)),
        "other pooling": Variant(spec=lambda spec: replace(spec, pooling={"first": "mean"}.get(spec.pooling, "first"))),
        "gate and input swapped": Variant(tensors=_changed("mlp.Wi.weight", lambda x: np.roll(x, len(x) // 2, axis=0))),
        "interleaved turns": Variant(tensors=_changed("attn.Wqkv.weight", _reordered)),
        "tanh gelu": TANH_GELU,
    },
    "llama": {
        "unscaled turns": Variant(spec=lambda spec: replace(spec, rope_scaling=None)),
        "interleaved turns": Variant(
            tensors=lambda tensors: _changed("k_proj.weight", _head_reordered)(
                _changed("q_proj.weight", _head_reordered)(tensors)
            )
        ),
        "later tokens seen": Variant(
            code={
                "torch": ("duygu.engines.torch.attention.Sight.hidden", lambda sight, *view: None),
                "jax": ("duygu.engines.jax.blocks.Kind", lambda rate, heads, causal=False: KIND(rate, heads)),
            }
        ),
        "keys and values tiled": Variant(tensors=_tiled),
        "first token read": Variant(
            code={name: (f"duygu.engines.{name}.bert.Layout.ends_D", FIRST_TOKEN) for name in ENGINES}
        ),
        "padding read, right": Variant(documents=lambda ids: np.pad(ids, (0, LENGTH - len(ids)))),
        "padding read, left": Variant(documents=lambda ids: np.pad(ids, (LENGTH - len(ids), 0))),
        "norm eps": EPSILON,
        "gelu": Variant(spec=lambda spec: replace(spec, activation="gelu")),
        "gate and input swapped": Variant(tensors=_swapped("gate_proj", "up_proj")),
    },
    "qwen2": {
        "no biases": Variant(tensors=_changed("_proj.bias", np.zeros_like)),
        "keys without biases": Variant(tensors=_changed("k_proj.bias", np.zeros_like)),
        "norm eps": EPSILON,
    },
    "qwen3": {
        "no head norms": Variant(code={name: (f"duygu.engines.{name}.llama.head_norm", _as_it_is) for name in ENGINES}),
        "head norms swapped": Variant(tensors=_swapped("q_norm", "k_norm")),
        "head norms of 1": Variant(tensors=_changed("_norm.weight", np.ones_like)),
        "norm over all heads": Variant(
            code={
                "torch": ("duygu.engines.torch.llama.head_norm", _over_all_heads(torch_llama.head_norm)),
                "jax": ("duygu.engines.jax.llama.head_norm", _over_all_heads(jax_llama.head_norm)),
            }
        ),
        "norm eps": EPSILON,
    },
}  # fmt: skip


def wrong_variants(case: str) -> Mapping[str, Variant]:
    """Of the case's family; XLM-RoBERTa is RoBERTa by another name, and a plain Llama can make fewer mistakes."""
    if case == "llama, plain":
        return {name: WRONG["llama"][name] for name in ("later tokens seen", "norm eps", "gelu")}
    return WRONG[{"xlm-roberta": "roberta"}.get(CASES[case][0], CASES[case][0])]


@functools.cache
def oracle(case: str) -> torch.nn.Module:
    """transformers' model, weights of standard deviation .2 around 0, norms around 1: logits of order 1."""
    family, settings = CASES[case]
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family, **TEXT, **settings)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = name.endswith("orm.weight")
            parameter.normal_(0.0, 0.2, generator=generator).add_(1.0 if is_norm else 0.0)
    return model


def spec_of(case: str) -> ModelSpec:
    """As it is read from the config that transformers writes."""
    config: Any = oracle(case).config
    return read_spec(config.to_dict(), LABELS, case)


@functools.cache
def documents(case: str) -> tuple[np.ndarray, ...]:
    """Documents of 2 to all positions, padding's id left out."""
    random, pad = np.random.default_rng(2), spec_of(case).pad_id
    lengths = [2, LENGTH, *random.integers(3, LENGTH, size=DOCUMENTS - 2)]
    ids = [random.integers(pad + 1, VOCABULARY, size=length).astype(np.int32) for length in lengths]
    return tuple(ids)


LABEL_NUMBERS = (np.arange(DOCUMENTS) % len(LABELS)).astype(np.int32)


def batch(case: str, static: bool, shape: Shape | None = None, variant: Variant | None = None) -> Batch:
    """All documents as one step, as they are or as a mistake makes them."""
    ids, numbers = list(documents(case)), np.arange(DOCUMENTS, dtype=np.int32)
    ids = [variant.documents(one) for one in ids] if variant else ids
    shape = shape or fit_shapes([np.array([len(tokens) for tokens in ids], np.int32)], 1, static)[0]
    return assemble(ids, numbers, LABEL_NUMBERS, shape)


def start(engine: Engine, case: str, recipe: Recipe | None = None, placement: Placement = FP32) -> State:
    return engine.start(spec_of(case), tensors_of(oracle(case)), recipe or Recipe(dropout=0.1), placement)


def logits(engine: Engine, case: str, state: State | None = None, shape: Shape | None = None) -> np.ndarray:
    """(D, labels) in the order of the documents."""
    rows = batch(case, engine.static_shapes, shape)
    return in_order(rows, engine.logits(state or start(engine, case), rows))


def logits_of_variant(engine: Engine, case: str, variant: Variant) -> np.ndarray:
    """What the engine would answer, had it the mistake."""
    family = CASES[case][0]
    with ExitStack() as stack:
        if variant.parts:
            changed = replace(parts.PARTS[family], **variant.parts)
            stack.enter_context(mock.patch.dict(parts.PARTS, {family: changed}))  # pyright: ignore[reportArgumentType]
        if variant.code:
            stack.enter_context(mock.patch(*variant.code[engine.name]))
        state = engine.start(variant.spec(spec_of(case)), variant.tensors(tensors_of(oracle(case))), Recipe(), FP32)
        rows = batch(case, engine.static_shapes, variant=variant)
        return in_order(rows, engine.logits(state, rows))


@functools.cache
def oracle_logits(case: str, padded: bool = False, side: Literal["left", "right"] = "right") -> np.ndarray:
    """transformers', document by document or all in one batch, padded and masked."""
    model, pad = oracle(case), spec_of(case).pad_id
    ids = [torch.from_numpy(tokens.astype(np.int64)) for tokens in documents(case)]
    with torch.inference_mode():
        if not padded:
            return torch.cat([model(tokens[None]).logits for tokens in ids]).numpy()
        inputs = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=pad, padding_side=side)
        return model(inputs, attention_mask=(inputs != pad).long()).logits.numpy()


@functools.cache
def oracle_gradients(case: str) -> Tensors:
    """Of the mean loss, without dropout."""
    model = oracle(case)
    model.zero_grad()
    for tokens, label in zip(documents(case), LABEL_NUMBERS, strict=True):
        target = torch.tensor([int(label)])
        (model(torch.from_numpy(tokens[None].astype(np.int64)), labels=target).loss / DOCUMENTS).backward()
    zero = np.zeros(1, np.float32)
    return {n: zero if p.grad is None else p.grad.numpy().copy() for n, p in model.named_parameters()}


def gradient_error(engine: Engine, case: str) -> float:
    """Largest difference to transformers' gradient of a tensor, relative to its length."""
    found = dict(engine.gradients(start(engine, case), batch(case, engine.static_shapes), None))
    expected = oracle_gradients(case)
    assert found.keys() == expected.keys()
    names = [name for name in expected if not name.endswith(KEYS_BIAS)]
    return max(_relative(found[name], expected[name], 1e-3) for name in names)


def trajectory(engine: Engine, case: str) -> tuple[np.ndarray, Tensors]:
    """Losses of 60 steps with dropout on, and the weights after them."""
    recipe = Recipe(epochs=STEPS, batch=DOCUMENTS, lr=1e-3, dropout=0.1, attention_dropout=0.1)
    lengths = np.array([len(tokens) for tokens in documents(case)], np.int32)
    plan = make_plan(np.arange(DOCUMENTS, dtype=np.int32), lengths, recipe, engine.static_shapes)
    state, losses = start(engine, case, recipe), []
    for step in plan.steps:
        (part,), (shape,) = step.microbatches, step.shapes
        rows = assemble([documents(case)[i] for i in part], part, LABEL_NUMBERS[part], shape)
        state, result = engine.step(state, [rows], step.lr, StepKey(recipe.seed, step.number))
        losses.append(result.loss)
    return np.array(losses), {name: np.array(x) for name, x in engine.tensors(state, moments=False)}


def apart(case: str, one: Tensors, other: Tensors) -> float:
    """Distance of two trained models, relative to the way that training went."""
    before = tensors_of(oracle(case))
    names = [name for name in before if not name.endswith(KEYS_BIAS)]
    moved, distance = (sum(float(((one[n] - y[n]) ** 2).sum()) for n in names) for y in (before, other))
    return float(np.sqrt(distance / moved))


def round_trip(engine: Engine, case: str, folder: Path) -> bool:
    """transformers -> file -> engine -> file -> transformers: whether every weight is the same to the bit.

    And whether it finds all it wants and nothing more, and answers as before: products of weights that lie elsewhere in
    memory may round otherwise.
    """
    model: Any = oracle(case)
    tokenizer = TextTokenizer.train(["ab"], 20)
    model.config.id2label = dict(enumerate(LABELS))
    model.save_pretrained(folder / "theirs")
    tokenizer.save(folder / "theirs", 16)
    opened = open_classifier(folder / "theirs")
    state = engine.start(opened.spec, opened.tensors, Recipe(), FP32)
    write_model(folder / "ours", opened.spec, engine.tensors(state, moments=False), tokenizer, 16, 0.75)
    again, report = AutoModelForSequenceClassification.from_pretrained(folder / "ours", output_loading_info=True)
    after, before = again.state_dict(), model.state_dict()
    same = after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    tokens = torch.from_numpy(documents(case)[1][None].astype(np.int64))
    with torch.inference_mode():
        near = torch.allclose(again.eval()(tokens).logits, model(tokens).logits, rtol=0, atol=1e-6)
    return same and near and not any(report.values())


def _relative(found: np.ndarray, expected: np.ndarray, least: float) -> float:
    return float(np.linalg.norm(found - expected) / max(float(np.linalg.norm(expected)), least))
