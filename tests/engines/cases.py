"""Random tiny models and documents, built by transformers, that both engines and the oracle are run on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from duygu.engines import Engine, Placement, State, StepKey
from duygu.models.spec import ModelSpec
from duygu.recipe import Recipe
from duygu.training.plan import Batch, Shape, assemble, exact_shape, fit_shapes

FP32 = Placement("fp32", 0)


@dataclass(frozen=True)
class Case:
    """A model of odd sizes; every value that a wrong engine could ignore differs from its default."""

    name: str
    hidden: int
    heads: int
    layers: int
    intermediate: int
    activation: str
    norm_eps: float
    labels: int


CASES = (
    Case("gelu", 24, 3, 2, 40, "gelu", 1e-12, 2),
    Case("gelu_tanh", 20, 2, 3, 52, "gelu_new", 1e-12, 3),
    Case("eps", 36, 4, 1, 60, "gelu", 1e-1, 5),
    Case("relu", 16, 1, 2, 24, "relu", 1e-5, 2),
    Case("pytorch_tanh", 28, 7, 2, 36, "gelu_pytorch_tanh", 1e-2, 4),
    Case("deep", 12, 2, 5, 20, "gelu", 1e-6, 2),
)
ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
VOCABULARY, POSITIONS = 83, 48


def oracle(case: Case) -> BertForSequenceClassification:
    """transformers' model with weights of standard deviation .2 and random norms and biases: logits of order 1."""
    config = BertConfig(
        vocab_size=VOCABULARY, max_position_embeddings=POSITIONS, hidden_size=case.hidden,
        num_attention_heads=case.heads, num_hidden_layers=case.layers, intermediate_size=case.intermediate,
        hidden_act=case.activation, layer_norm_eps=case.norm_eps, num_labels=case.labels, type_vocab_size=2,
    )  # fmt: skip
    model = BertForSequenceClassification(config).eval()
    generator = torch.Generator().manual_seed(case.hidden)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0.0, 0.2, generator=generator).add_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
    return model


def spec_of(case: Case, dropout: float = 0.1) -> ModelSpec:
    return ModelSpec(
        family="bert", vocabulary=VOCABULARY, positions=POSITIONS, segments=2, layers=case.layers, hidden=case.hidden,
        heads=case.heads, intermediate=case.intermediate,
        activation=ACTIVATIONS.get(case.activation, case.activation),  # pyright: ignore[reportArgumentType]
        norm_eps=case.norm_eps, dropout=dropout, attention_dropout=dropout, classifier_dropout=dropout,
        initializer_range=0.02, pad_id=0, labels=tuple(f"label {number}" for number in range(case.labels)),
    )  # fmt: skip


def tensors_of(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: parameter.detach().numpy().copy() for name, parameter in model.named_parameters()}


def documents(count: int, seed: int = 0) -> list[np.ndarray]:
    """Documents of 2 to all positions."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, POSITIONS + 1, size=count)
    return [random.integers(1, VOCABULARY, size=length).astype(np.int32) for length in lengths]


def labels_of(count: int, case: Case) -> np.ndarray:
    return (np.arange(count) % case.labels).astype(np.int32)


def batch_of(ids: list[np.ndarray], labels: np.ndarray, shape: Shape | None = None, static: bool = False) -> Batch:
    """All documents in one batch: exactly, in the static shape that fits best, or in the shape given."""
    lengths = np.array([len(tokens) for tokens in ids], np.int32)
    shape = shape or fit_shapes([lengths], 1, static)[0]
    return assemble(ids, np.arange(len(ids), dtype=np.int32), labels, shape)


def in_order(batch: Batch, rows: np.ndarray) -> np.ndarray:
    """Rows of a batch in the order of the documents' numbers, padding rows left out."""
    real = batch.numbers >= 0
    return rows[real][np.argsort(batch.numbers[real])]


def start(engine: Engine, case: Case, recipe: Recipe | None = None, dropout: float = 0.1) -> State:
    return engine.start(spec_of(case, dropout), tensors_of(oracle(case)), recipe or Recipe(), FP32)


def gradients_of(engine: Engine, state: State, batches: list[Batch], key: StepKey | None) -> dict[str, np.ndarray]:
    """The summed gradient of several batches."""
    total: dict[str, np.ndarray] = {}
    for batch in batches:
        for name, gradient in engine.gradients(state, batch, key):
            total[name] = total[name] + gradient if name in total else gradient
    return total


def exact(ids: list[np.ndarray]) -> Shape:
    return exact_shape(np.array([len(tokens) for tokens in ids], np.int32))
