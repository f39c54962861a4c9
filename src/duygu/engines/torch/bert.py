"""BERT and its kind for sequence classification on concatenated tokens: what is in `duygu.models.parts.PARTS`.

    T  flat tokens of all documents     D  documents      C  hidden width       F  intermediate width
    R  rows that ask: T or D            H  heads          K  head width         S  places that drop
    N  documents of a group, each of length L                                   Y  labels

The JAX twin holds the same functions in the same order; here they are functions of ``w``, a module whose ``state_dict``
has Hugging Face's names: a `Layer` of it, or all. ``keys`` are those of `dropout`; without them nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from duygu.engines.torch.attention import attend, attend_to_own
from duygu.engines.torch.dropout import (
    ATTENTION,
    ATTENTION_OUTPUT,
    EMBEDDING,
    FEED_FORWARD,
    FIRST,
    POOLED,
    dropout,
    head_keys,
)
from duygu.engines.torch.products import multiply
from duygu.models.spec import ModelSpec

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
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

    @property
    def ends_D(self) -> Tensor:
        """Flat token that each document ends with."""
        return self.starts_D + self.lengths_D - 1

    def last(self, x: Tensor) -> Tensor:
        """(T, ...) to (D, ...): the last token of each document."""
        return x.index_select(0, self.ends_D)

    def own(self) -> Tensor:
        """(D, T) bool: which tokens are a document's own."""
        after_DT = torch.arange(len(self.ids_T), device=self.ids_T.device) - self.starts_D[:, None]
        return (after_DT >= 0) & (after_DT < self.lengths_D[:, None])


def embed(w: nn.Module, words_TC: Tensor, layout: Layout, keys_ST: Tensor | None, spec: ModelSpec) -> Tensor:
    """Word, position and segment vectors, summed and normalised; every token is of segment 0."""
    h_TC = words_TC + part(w, spec.parts.positions)(layout.positions_T + spec.first_position)
    if spec.segments:
        h_TC = h_TC + part(w, spec.parts.segments).weight[0]
    h_TC = dropout(layer_norm(h_TC, w, spec.parts.embedding_norm), site(keys_ST, EMBEDDING), spec.dropout)
    return h_TC if spec.width == spec.hidden else linear(h_TC, w, spec.parts.projection)


def self_attention(w: nn.Module, h_TC: Tensor, layout: Layout, keys_ST: Tensor | None, spec: ModelSpec) -> Tensor:
    """What each token takes from the tokens of its document: (T, C)."""
    parts = spec.parts
    qkv_TO = linear(h_TC, w, parts.query, parts.key, parts.value)
    qkv_T3HK = qkv_TO.unflatten(-1, (3, spec.heads, -1))
    keys_TH = None if keys_ST is None else head_keys(keys_ST[ATTENTION], spec.heads)
    return attend(qkv_T3HK, layout.groups, keys_TH, spec.attention_dropout)


def first_attention(w: nn.Module, h_TC: Tensor, layout: Layout, keys_SD: Tensor | None, spec: ModelSpec) -> Tensor:
    """What the first token of each document takes from its document's tokens: (D, C).

    So few rows ask that all of them look at all tokens at once, those of other documents masked.
    """
    parts = spec.parts
    q_DHK = linear(layout.first(h_TC), w, parts.query).unflatten(-1, (spec.heads, -1))
    kv_T2HK = linear(h_TC, w, parts.key, parts.value).unflatten(-1, (2, spec.heads, -1))
    keys_DH = None if keys_SD is None else head_keys(keys_SD[ATTENTION], spec.heads)
    return attend_to_own(q_DHK, kv_T2HK, layout.own(), keys_DH, layout.positions_T.int(), spec.attention_dropout)


def output(
    w: nn.Module, dense: str, norm: str, x: Tensor, residual_RC: Tensor, keys_R: Tensor | None, spec: ModelSpec
) -> Tensor:
    """Project back to the hidden width, drop, add the residual, normalise: the end of both halves of a layer."""
    dropped_RC = dropout(linear(x, w, dense), keys_R, spec.dropout)
    return layer_norm(residual_RC + dropped_RC, w, norm)


def intermediate(w: nn.Module, h_RC: Tensor, spec: ModelSpec) -> Tensor:
    wide_RF = linear(h_RC, w, spec.parts.intermediate)
    return ACTIVATIONS[spec.activation](wide_RF)


def after_attention(w: nn.Module, context_RC: Tensor, h_RC: Tensor, keys_SR: Tensor | None, spec: ModelSpec) -> Tensor:
    """The rest of a layer: project, then feed-forward."""
    parts = spec.parts
    dense, norm = parts.attention_output, parts.attention_norm
    h_RC = output(w, dense, norm, context_RC, h_RC, site(keys_SR, ATTENTION_OUTPUT), spec)
    wide_RF = intermediate(w, h_RC, spec)
    return output(w, parts.output, parts.output_norm, wide_RF, h_RC, site(keys_SR, FEED_FORWARD), spec)


class Layer(nn.Module):
    """Post-norm transformer layer: (T, C)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec, parts, hidden = spec, spec.parts, spec.hidden
        for name in (parts.query, parts.key, parts.value, parts.attention_output):
            put(self, name, nn.Linear(hidden, hidden))
        put(self, parts.attention_norm, nn.LayerNorm(hidden, spec.norm_eps))
        put(self, parts.intermediate, nn.Linear(hidden, spec.intermediate))
        put(self, parts.output, nn.Linear(spec.intermediate, hidden))
        put(self, parts.output_norm, nn.LayerNorm(hidden, spec.norm_eps))

    def forward(self, h_TC: Tensor, layout: Layout, keys_ST: Tensor | None) -> Tensor:
        context_TC = self_attention(self, h_TC, layout, keys_ST, self.spec)
        return after_attention(self, context_TC, h_TC, keys_ST, self.spec)


def last_layer(w: nn.Module, h_TC: Tensor, layout: Layout, keys_ST: Tensor | None, spec: ModelSpec) -> Tensor:
    """The last layer, of which only the first token of each document is read: (D, C)."""
    keys_SD = None if keys_ST is None else keys_ST.index_select(1, layout.starts_D)
    context_DC = first_attention(w, h_TC, layout, keys_SD, spec)
    return after_attention(w, context_DC, layout.first(h_TC), keys_SD, spec)


def encode(w: nn.Module, h_TC: Tensor, layout: Layout, keys_LST: Tensor | None, spec: ModelSpec, again: bool) -> Tensor:
    """All layers, one after the other: (D, C)."""
    keys = [None] * spec.layers if keys_LST is None else list(keys_LST[1:])
    *layers, last = part(w, spec.parts.layers)
    for layer, keys_ST in zip(layers, keys, strict=False):
        h_TC = remembered(layer, again)(h_TC, layout, keys_ST)
    return last_layer(last, h_TC, layout, keys[-1], spec)


def pool(w: nn.Module, h_DC: Tensor, keys_SD: Tensor | None, spec: ModelSpec) -> Tensor:
    """The first token of each document, once more through a layer; what of it the classifier reads."""
    parts, rate = spec.parts, spec.classifier_dropout
    if parts.drops_twice:
        h_DC = dropout(h_DC, site(keys_SD, FIRST), rate)
    h_DC = ACTIVATIONS[parts.head_activation](linear(h_DC, w, parts.dense))
    return dropout(h_DC, site(keys_SD, POOLED), rate)


class BertClassifier(nn.Module):
    """Token ids to logits. ``low`` is the type that the encoder's layers compute in; all else is fp32."""

    def __init__(self, spec: ModelSpec, low: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.spec, self.low, parts = spec, low, spec.parts
        put(self, parts.words, nn.Embedding(spec.vocabulary, spec.width))
        put(self, parts.positions, nn.Embedding(spec.first_position + spec.positions, spec.width))
        if spec.segments:
            put(self, parts.segments, nn.Embedding(spec.segments, spec.width))
        put(self, parts.embedding_norm, nn.LayerNorm(spec.width, spec.norm_eps))
        if spec.width != spec.hidden:
            put(self, parts.projection, nn.Linear(spec.width, spec.hidden))
        put(self, parts.layers, nn.ModuleList(Layer(spec) for _ in range(spec.layers)))
        put(self, parts.dense, nn.Linear(spec.hidden, spec.hidden))
        put(self, parts.classifier, nn.Linear(spec.hidden, len(spec.labels)))

    def words(self, layout: Layout) -> Tensor:
        """(T, C) word vectors of the tokens."""
        return part(self, self.spec.parts.words)(layout.ids_T)

    def forward(self, words_TC: Tensor, layout: Layout, keys_LST: Tensor | None = None, again: bool = False) -> Tensor:
        """Word vectors (T, C) to logits (D, Y); ``again`` as in `remembered`."""
        spec, outside = self.spec, None if keys_LST is None else keys_LST[0]
        h_TC = embed(self, words_TC, layout, outside, spec).to(self.low)
        h_DC = encode(self, h_TC, layout, keys_LST, spec, again).float()
        keys_SD = None if outside is None else outside.index_select(1, layout.starts_D)
        return linear(pool(self, h_DC, keys_SD, spec), self, spec.parts.classifier)


def remembered(layer: Callable[..., Tensor], again: bool) -> Callable[..., Tensor]:
    """The layer; with ``again`` its backward pass finds the input only, and computes the layer again.

    Chen et al. (2016), arXiv:1604.06174. Dropout is a function of its keys, so there is no random state to restore.
    """
    return partial(checkpoint, layer, use_reentrant=False, preserve_rng_state=False) if again else layer


def part(w: nn.Module, name: str) -> Any:
    """What lies under a dotted name."""
    return attrgetter(name)(w)


def put(w: nn.Module, name: str, what: nn.Module) -> None:
    """Lay a module under a dotted name."""
    *path, last = name.split(".")
    for step in path:
        if step not in w._modules:
            w.add_module(step, nn.Module())
        w = w.get_submodule(step)
    w.add_module(last, what)


def linear(x_TI: Tensor, w: nn.Module, *names: str) -> Tensor:
    """(T, O), the outputs of several layers side by side."""
    layers = [part(w, name) for name in names]
    if not all(isinstance(layer, nn.Linear) for layer in layers):  # adapted, or in 4 bits
        return torch.cat([layer(x_TI) for layer in layers], dim=-1) if len(layers) > 1 else layers[0](x_TI)
    if len(layers) == 1:
        return multiply(x_TI, layers[0].weight, layers[0].bias)
    return multiply(x_TI, torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers]))


def layer_norm(x_TC: Tensor, w: nn.Module, name: str) -> Tensor:
    """Normalise in fp32, return the type that came in."""
    norm = part(w, name)
    return F.layer_norm(x_TC.float(), norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(x_TC.dtype)


def site(keys_ST: Tensor | None, place: int) -> Tensor | None:
    """The keys (T,) of one place that drops."""
    return None if keys_ST is None else keys_ST[place]
