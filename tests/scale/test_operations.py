"""Operations counted by hand, against PyTorch's own counter on the engine's module."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from duygu.engines.torch import attention
from duygu.engines.torch.bert import BertClassifier, Layout
from duygu.engines.torch.engine import FAMILIES, Classifier
from duygu.engines.torch.lora import adapt
from duygu.models.adapters import adapter_shapes, trained_shapes
from duygu.models.spec import ModelSpec, tensor_shapes
from duygu.recipe import Recipe
from duygu.scale.operations import operations

SPEC = ModelSpec(
    family="bert", vocabulary=50, positions=64, segments=2, layers=3, hidden=24, heads=3, intermediate=40,
    activation="gelu", norm_eps=1e-12, dropout=0.0, attention_dropout=0.0, classifier_dropout=0.0,
    initializer_range=0.02, pad_id=0, labels=("a", "b", "c"),
)  # fmt: skip
MODERN = replace(
    SPEC, family="modernbert", layers=4, segments=0, global_every=3, window=4, theta=160_000.0, local_theta=10_000.0
)
LLAMA = replace(SPEC, family="llama", segments=0, heads=4, kv_heads=2, head_width=6, activation="silu", theta=10_000.0)
QWEN3 = replace(LLAMA, family="qwen3", head_width=8, head_norms=True)  # its queries are wider than its hidden states
PLAIN, ADAPTERS = Recipe(), Recipe(lora_rank=5)
FEW = Recipe(lora_rank=5, lora_targets="q_proj,v_proj")
HEAD = 2 * 24 * (24 + 3)  # pooler and classifier of one document, which `operations` leaves out


@pytest.mark.parametrize("lengths", [[20, 20, 7], [1], [64, 3]])
def test_scoring_is_counted_as_pytorch_counts_it(lengths: list[int]) -> None:
    others = 4 * 24 * (len(lengths) - 1) * sum(lengths)  # that first tokens look at and mask, in the last layer
    found = counted(BertClassifier(SPEC), lengths)
    assert operations(SPEC, lengths, training=False) + HEAD * len(lengths) + others == found


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("lengths", [[20, 20, 7], [1], [64, 3]])
def test_scoring_of_modernbert_is_counted_as_pytorch_counts_it(
    lengths: list[int], pooling: Literal["first", "mean"]
) -> None:
    """Up to what the engine computes besides; the layers are global, local, local, global."""
    spec = replace(MODERN, pooling=pooling)
    tokens, documents = sum(lengths), len(lengths)
    if pooling == "first":  # of the last layer: tokens of other documents, and queries of tokens that do not ask
        beyond = 4 * 24 * (documents - 1) * tokens + 2 * 24 * 24 * (tokens - documents)
    else:  # the mean is a product over all tokens
        beyond = 2 * 24 * documents * tokens
    far = sum(length * length - near(length, 4) for length in lengths)
    found = counted(FAMILIES["modernbert"](spec), lengths)
    assert operations(spec, lengths, training=False) + HEAD * documents + beyond + 2 * 4 * 24 * far == found


def test_local_layers_in_blocks_compute_little_more_than_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BLOCK", 4)
    spec = replace(MODERN, layers=2, pooling="mean")
    (whole,), (blocks,) = ([counted(FAMILIES["modernbert"](spec), [size])] for size in (23, 64))
    assert attention.is_long(64, 4)
    assert not attention.is_long(23, 4)
    assert blocks < 64 / 23 * whole + 4 * 24 * 64 * 64  # the global layer's scores grow with the square


@pytest.mark.parametrize("recipe", [PLAIN, ADAPTERS, FEW], ids=["plain", "adapters", "few"])
@pytest.mark.parametrize("spec", [LLAMA, QWEN3], ids=["llama", "qwen3"])
@pytest.mark.parametrize("training", [False, True], ids=["scoring", "training"])
@pytest.mark.parametrize("lengths", [[20, 20, 7], [1], [64, 3]])
def test_decoders_are_counted_as_pytorch_counts_them(
    spec: ModelSpec, training: bool, lengths: list[int], recipe: Recipe
) -> None:
    """Up to what the engine computes besides: later tokens, which it masks, and tokens of other documents in the last
    layer; scores again in the backward pass."""
    wide, passes, head = spec.heads * spec.head_dim, 3 if training else 1, 2 * 24 * 3 * len(lengths)
    later = 4 * wide * sum(length * (length - 1) // 2 for length in lengths)  # of one layer; two have all ask
    others = 4 * wide * (len(lengths) - 1) * sum(lengths)
    again = 2 * wide * sum(length * length for length in lengths) if training else 0
    beyond = passes * (head + others + 2 * later) + 2 * again
    adapted = recipe if training else PLAIN
    found = counted(learning(spec, adapted), lengths, training)
    assert operations(spec, lengths, training, adapted) + beyond == found


@pytest.mark.parametrize("recipe", [PLAIN, ADAPTERS], ids=["plain", "adapters"])
@pytest.mark.parametrize("lengths", [[20, 20, 7], [64, 3]])
def test_training_of_bert_is_counted_as_pytorch_counts_it(lengths: list[int], recipe: Recipe) -> None:
    """Up to tokens of other documents in the last layer, and scores again in the backward pass of the others."""
    others = 4 * 24 * (len(lengths) - 1) * sum(lengths)
    again = 2 * 2 * 24 * sum(length * length for length in lengths)
    found = counted(learning(SPEC, recipe), lengths, training=True)
    assert operations(SPEC, lengths, True, recipe) + 3 * (HEAD * len(lengths) + others) + again == found


def learning(spec: ModelSpec, recipe: Recipe) -> Classifier:
    """The engine's module with what the recipe trains."""
    module, learns = FAMILIES[spec.family](spec), trained_shapes(spec, recipe)
    adapters = adapter_shapes(tensor_shapes(spec), recipe)
    adapt(module, {name: torch.zeros(shape) for name, shape in adapters.items()}, recipe)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in learns)
    return module


def counted(module: Classifier, lengths: list[int], training: bool = False) -> int:
    """What PyTorch counts of a forward pass, and of the backward pass that follows it in training."""
    positions = torch.cat([torch.arange(length) for length in lengths])
    starts = torch.tensor(np.cumsum([0, *lengths[:-1]]))
    groups = tuple((1, length) for length in lengths)
    layout = Layout(torch.ones(sum(lengths), dtype=torch.int64), positions, starts, torch.tensor(lengths), groups)
    with FlopCounterMode(display=False) as counter, torch.inference_mode(not training):
        logits = module(module.words(layout), layout)
        if training:
            logits.sum().backward()
    return counter.get_total_flops()


def near(length: int, window: int) -> int:
    """Pairs of tokens at most ``window`` apart, counted one by one."""
    places = np.arange(length)
    return int((np.abs(places[:, None] - places) <= window).sum())


def test_training_takes_three_times_as_many() -> None:
    assert operations(SPEC, [9, 30], training=True) == 3 * operations(SPEC, [9, 30], training=False)
