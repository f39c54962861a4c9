"""BERT for sequence classification on concatenated tokens. Devlin et al. (2019), arXiv:1810.04805.

    T  flat tokens of all documents     D  documents      C  hidden width       F  intermediate width
    H  attention heads                  K  head width     N  documents of a group, each of length L
    R  rows that go on: T or D          S  places that drop                 Y  labels

The JAX twin holds the same functions in the same order; here they are the ``forward`` of modules whose
``state_dict`` has Hugging Face's names. ``keys`` are those of `dropout`; without them nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duygu.engines.torch.attention import attend, attend_to_own
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
    lengths_D: Tensor
    groups: tuple[tuple[int, int], ...]

    def first(self, x: Tensor) -> Tensor:
        """(T, ...) to (D, ...): the first token of each document."""
        return x.index_select(0, self.starts_D)

    def own(self) -> Tensor:
        """(D, T) bool: which tokens are a document's own."""
        after_DT = torch.arange(len(self.ids_T), device=self.ids_T.device) - self.starts_D[:, None]
        return (after_DT >= 0) & (after_DT < self.lengths_D[:, None])


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
        """What each token takes from the tokens of its document: (T, C)."""
        qkv_T3HK = linear(h_TC, self.query, self.key, self.value).unflatten(-1, (3, self.heads, -1))
        keys_TH = None if keys_ST is None else head_keys(keys_ST[ATTENTION], self.heads)
        return attend(qkv_T3HK, layout.groups, keys_TH, self.rate)

    def first(self, h_TC: Tensor, layout: Layout, keys_SD: Tensor | None) -> Tensor:
        """What the first token of each document takes from its document's tokens: (D, C).

        So few rows ask that all of them look at all tokens at once, those of other documents masked.
        """
        q_DHK = linear(layout.first(h_TC), self.query).unflatten(-1, (self.heads, -1))
        kv_T2HK = linear(h_TC, self.key, self.value).unflatten(-1, (2, self.heads, -1))
        keys_DH = None if keys_SD is None else head_keys(keys_SD[ATTENTION], self.heads)
        return attend_to_own(q_DHK, kv_T2HK, layout.own(), keys_DH, layout.positions_T.int(), self.rate)


class Output(nn.Module):
    """Project back to the hidden width, drop, add the residual, normalise: the end of both halves of a layer."""

    def __init__(self, spec: ModelSpec, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, spec.hidden)
        self.LayerNorm = nn.LayerNorm(spec.hidden, eps=spec.norm_eps)
        self.rate = spec.dropout

    def forward(self, x: Tensor, residual_RC: Tensor, keys_R: Tensor | None) -> Tensor:
        return layer_norm(residual_RC + dropout(self.dense(x), keys_R, self.rate), self.LayerNorm)


class Attention(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.self = SelfAttention(spec)
        self.output = Output(spec, spec.hidden)


class Intermediate(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.dense = nn.Linear(spec.hidden, spec.intermediate)
        self.activation = ACTIVATIONS[spec.activation]

    def forward(self, h_RC: Tensor) -> Tensor:
        return self.activation(self.dense(h_RC))


class Layer(nn.Module):
    """Post-norm transformer layer: attention, then feed-forward."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.attention = Attention(spec)
        self.intermediate = Intermediate(spec)
        self.output = Output(spec, spec.intermediate)

    def after_attention(self, context_RC: Tensor, h_RC: Tensor, keys_SR: Tensor | None) -> Tensor:
        """The rest of a layer: project, then feed-forward."""
        h_RC = self.attention.output(context_RC, h_RC, site(keys_SR, ATTENTION_OUTPUT))
        return self.output(self.intermediate(h_RC), h_RC, site(keys_SR, FEED_FORWARD))

    def forward(self, h_TC: Tensor, layout: Layout, keys_ST: Tensor | None) -> Tensor:
        """(T, C)."""
        return self.after_attention(self.attention.self(h_TC, layout, keys_ST), h_TC, keys_ST)

    def last(self, h_TC: Tensor, layout: Layout, keys_ST: Tensor | None) -> Tensor:
        """As the last layer, of which only the first token of each document is read: (D, C)."""
        keys_SD = None if keys_ST is None else keys_ST.index_select(1, layout.starts_D)
        context_DC = self.attention.self.first(h_TC, layout, keys_SD)
        return self.after_attention(context_DC, layout.first(h_TC), keys_SD)


class Encoder(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(spec) for _ in range(spec.layers))

    def forward(self, h_TC: Tensor, layout: Layout, keys_LST: Tensor | None) -> Tensor:
        """All layers, one after the other: (D, C)."""
        keys = [None] * len(self.layer) if keys_LST is None else list(keys_LST[1:])
        *layers, last = self.layer
        for layer, keys_ST in zip(layers, keys, strict=False):
            h_TC = layer(h_TC, layout, keys_ST)
        return cast(Layer, last).last(h_TC, layout, keys[-1])


class Pooler(nn.Module):
    """The first token of each document, once more through a layer."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.dense = nn.Linear(spec.hidden, spec.hidden)

    def forward(self, h_DC: Tensor) -> Tensor:
        return torch.tanh(self.dense(h_DC))


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
        h_DC = self.bert.encoder(h_TC.to(self.low), layout, keys_LST).float()
        keys_D = None if outside is None else layout.first(outside[POOLED])
        return self.classifier(dropout(self.bert.pooler(h_DC), keys_D, self.rate))


def linear(x_TI: Tensor, *layers: nn.Linear) -> Tensor:
    """(T, O), the outputs of several layers side by side."""
    if len(layers) == 1:
        return layers[0](x_TI)
    return F.linear(x_TI, torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers]))


def layer_norm(x_TC: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Normalise in fp32, return the type that came in."""
    return F.layer_norm(x_TC.float(), norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(x_TC.dtype)


def site(keys_ST: Tensor | None, place: int) -> Tensor | None:
    """The keys (T,) of one place that drops."""
    return None if keys_ST is None else keys_ST[place]
