"""BERT for sequence classification on concatenated tokens. Devlin et al. (2019), arXiv:1810.04805.

    T  flat tokens of all documents     D  documents      C  hidden width       F  intermediate width
    H  attention heads                  K  head width     N  documents of a group, each of length L
    S  places that drop                 Y  labels

The JAX twin holds the same functions in the same order; here they are the ``forward`` of modules whose
``state_dict`` has Hugging Face's names. ``keys`` are those of `dropout`; without them nothing is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duygu.engines.torch.dropout import (
    ATTENTION,
    ATTENTION_OUTPUT,
    EMBEDDING,
    FEED_FORWARD,
    POOLED,
    dropout,
    head_keys,
)
from duygu.models.spec import ModelSpec

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the documents of a batch lie: attention groups of (N, L), one after another without padding."""

    ids_T: Tensor
    positions_T: Tensor
    starts_D: Tensor
    groups: tuple[tuple[int, int], ...]

    def split(self, x: Tensor) -> list[Tensor]:
        """(T, ...) to one (N, L, ...) per group."""
        parts = x.split([count * length for count, length in self.groups])
        return [part.unflatten(0, group) for part, group in zip(parts, self.groups, strict=True)]

    def join(self, parts: list[Tensor]) -> Tensor:
        """One (N, L, ...) per group to (T, ...)."""
        return torch.cat([part.flatten(0, 1) for part in parts])


class Embeddings(nn.Module):
    """Word, position and segment vectors, summed and normalised; every token is of segment 0."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(spec.vocabulary, spec.hidden)
        self.position_embeddings = nn.Embedding(spec.positions, spec.hidden)
        self.token_type_embeddings = nn.Embedding(spec.segments, spec.hidden)
        self.LayerNorm = nn.LayerNorm(spec.hidden, eps=spec.norm_eps)
        self.rate = spec.dropout

    def forward(self, words_TC: Tensor, layout: Layout, keys_ST: Tensor | None) -> Tensor:
        h_TC = words_TC + self.position_embeddings(layout.positions_T) + self.token_type_embeddings.weight[0]
        return dropout(layer_norm(h_TC, self.LayerNorm), site(keys_ST, EMBEDDING), self.rate)


class SelfAttention(nn.Module):
    """Each document attends to itself only."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.query = nn.Linear(spec.hidden, spec.hidden)
        self.key = nn.Linear(spec.hidden, spec.hidden)
        self.value = nn.Linear(spec.hidden, spec.hidden)
        self.heads = spec.heads
        self.rate = spec.attention_dropout

    def forward(self, h_TC: Tensor, layout: Layout, keys_ST: Tensor | None) -> Tensor:
        weight = torch.cat([self.query.weight, self.key.weight, self.value.weight])
        bias = torch.cat([self.query.bias, self.key.bias, self.value.bias])
        qkv_T3HK = F.linear(h_TC, weight, bias).unflatten(-1, (3, self.heads, -1))
        parts = layout.split(qkv_T3HK)
        if keys_ST is None:
            return layout.join([attend(qkv, None, 0.0) for qkv in parts])
        keys = layout.split(head_keys(keys_ST[ATTENTION], self.heads))
        return layout.join([attend(qkv, key, self.rate) for qkv, key in zip(parts, keys, strict=True)])


def attend(qkv_NL3HK: Tensor, keys_NLH: Tensor | None, rate: float) -> Tensor:
    """Scaled dot-product attention within each of N documents of L tokens: (N, L, C). The softmax is in fp32."""
    q_NHLK, k_NHLK, v_NHLK = qkv_NL3HK.permute(2, 0, 3, 1, 4)
    scores_NHLL = (q_NHLK @ k_NHLK.mT).float() / math.sqrt(q_NHLK.shape[-1])
    p_NHLL = torch.softmax(scores_NHLL, dim=-1).to(v_NHLK.dtype)
    p_NHLL = dropout(p_NHLL, None if keys_NLH is None else keys_NLH.transpose(1, 2), rate)
    return (p_NHLL @ v_NHLK).transpose(1, 2).flatten(2)


class Output(nn.Module):
    """Project back to the hidden width, drop, add the residual, normalise: the end of both halves of a layer."""

    def __init__(self, spec: ModelSpec, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, spec.hidden)
        self.LayerNorm = nn.LayerNorm(spec.hidden, eps=spec.norm_eps)
        self.rate = spec.dropout

    def forward(self, x: Tensor, residual_TC: Tensor, keys_T: Tensor | None) -> Tensor:
        return layer_norm(residual_TC + dropout(self.dense(x), keys_T, self.rate), self.LayerNorm)


class Attention(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.self = SelfAttention(spec)
        self.output = Output(spec, spec.hidden)

    def forward(self, h_TC: Tensor, layout: Layout, keys_ST: Tensor | None) -> Tensor:
        return self.output(self.self(h_TC, layout, keys_ST), h_TC, site(keys_ST, ATTENTION_OUTPUT))


class Intermediate(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.dense = nn.Linear(spec.hidden, spec.intermediate)
        self.activation = ACTIVATIONS[spec.activation]

    def forward(self, h_TC: Tensor) -> Tensor:
        return self.activation(self.dense(h_TC))


class Layer(nn.Module):
    """Post-norm transformer layer: attention, then feed-forward."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.attention = Attention(spec)
        self.intermediate = Intermediate(spec)
        self.output = Output(spec, spec.intermediate)

    def forward(self, h_TC: Tensor, layout: Layout, keys_ST: Tensor | None) -> Tensor:
        h_TC = self.attention(h_TC, layout, keys_ST)
        return self.output(self.intermediate(h_TC), h_TC, site(keys_ST, FEED_FORWARD))


class Encoder(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(spec) for _ in range(spec.layers))

    def forward(self, h_TC: Tensor, layout: Layout, keys_LST: Tensor | None) -> Tensor:
        for number, layer in enumerate(self.layer, start=1):
            h_TC = layer(h_TC, layout, None if keys_LST is None else keys_LST[number])
        return h_TC


class Pooler(nn.Module):
    """The first token of each document, once more through a layer."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.dense = nn.Linear(spec.hidden, spec.hidden)

    def forward(self, h_TC: Tensor, layout: Layout) -> Tensor:
        return torch.tanh(self.dense(h_TC.index_select(0, layout.starts_D)))


class Bert(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.embeddings = Embeddings(spec)
        self.encoder = Encoder(spec)
        self.pooler = Pooler(spec)


class BertClassifier(nn.Module):
    """Token ids to logits. ``low`` is the type that the encoder's layers compute in; all else is fp32."""

    def __init__(self, spec: ModelSpec, low: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.bert = Bert(spec)
        self.classifier = nn.Linear(spec.hidden, len(spec.labels))
        self.rate = spec.classifier_dropout
        self.low = low

    def words(self, layout: Layout) -> Tensor:
        """(T, C) word vectors of the tokens."""
        return self.bert.embeddings.word_embeddings(layout.ids_T)

    def forward(self, words_TC: Tensor, layout: Layout, keys_LST: Tensor | None = None) -> Tensor:
        """Word vectors (T, C) to logits (D, Y)."""
        outside = None if keys_LST is None else keys_LST[0]
        h_TC = self.bert.embeddings(words_TC, layout, outside)
        h_TC = self.bert.encoder(h_TC.to(self.low), layout, keys_LST).float()
        pooled_DC = self.bert.pooler(h_TC, layout)
        keys_D = None if outside is None else outside[POOLED].index_select(0, layout.starts_D)
        return self.classifier(dropout(pooled_DC, keys_D, self.rate))


def layer_norm(x_TC: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Normalise in fp32, return the type that came in."""
    return F.layer_norm(x_TC.float(), norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(x_TC.dtype)


def site(keys_ST: Tensor | None, place: int) -> Tensor | None:
    """The keys (T,) of one place that drops."""
    return None if keys_ST is None else keys_ST[place]
