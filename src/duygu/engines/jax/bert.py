"""BERT and its kind for sequence classification on concatenated tokens: what is in `duygu.models.parts.PARTS`.

    T  flat tokens of all documents     D  documents      C  hidden width       F  intermediate width
    R  rows that ask: T or D            H  heads          K  head width         S  places that drop
    N  documents of a group, each padded to length L                            Y  labels

The PyTorch twin holds the same functions in the same order; here they are pure functions of ``w``, tensors under
Hugging Face's names; those of all layers but the last are stacked and scanned, so compile time does not grow with
depth. ``keys`` are those of `dropout`; without them nothing is dropped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from duygu.engines.jax.attention import attend
from duygu.engines.jax.blocks import attend_in_blocks
from duygu.engines.jax.dropout import (
    ATTENTION,
    ATTENTION_OUTPUT,
    EMBEDDING,
    FEED_FORWARD,
    FIRST,
    POOLED,
    dropout,
    head_keys,
)
from duygu.engines.jax.linear import keep, linear, remembered
from duygu.models.spec import ModelSpec

Weights = Mapping[str, Array]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": lambda x: 0.5 * x * (1.0 + jax.lax.erf(x * math.sqrt(0.5))),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["ids_T", "positions_T", "starts_D", "lengths_D", "rows", "slots"],
    meta_fields=["groups"],
)
@dataclass(frozen=True)
class Layout:
    """Where the documents of a batch lie: attention groups of (N, L), padded, so that few shapes are compiled."""

    ids_T: Array
    positions_T: Array
    starts_D: Array
    lengths_D: Array
    rows: Array  # flat token of each attention slot, T where the slot is padding
    slots: Array  # attention slot of each flat token, past the end where the token is padding
    groups: tuple[tuple[int, int], ...]

    def split(self, x: Array) -> list[Array]:
        """(T, ...) to one (N, L, ...) per group."""
        parts = jnp.split(take(x, self.rows, self.slots), _ends(count * length for count, length in self.groups))
        return [part.reshape(*group, *x.shape[1:]) for part, group in zip(parts, self.groups, strict=True)]

    def join(self, parts: list[Array]) -> Array:
        """One (N, L, ...) per group to (T, ...)."""
        return take(jnp.concatenate([part.reshape(-1, *part.shape[2:]) for part in parts]), self.slots, self.rows)

    def real(self) -> list[Array]:
        """One (N, L) bool per group: which slots hold a token."""
        lengths = jnp.split(self.lengths_D, _ends(count for count, _ in self.groups))
        return [jnp.arange(length) < part[:, None] for (_, length), part in zip(self.groups, lengths, strict=True)]

    def first(self, x: Array) -> Array:
        """(T, ...) to (D, ...): the first token of each document."""
        return x[self.starts_D]

    @property
    def ends_D(self) -> Array:
        """Flat token that each document ends with; of one that only fills the shape, any token."""
        return self.starts_D + jnp.maximum(self.lengths_D, 1) - 1

    def last(self, x: Array) -> Array:
        """(T, ...) to (D, ...): the last token of each document."""
        return x[self.ends_D]

    def own(self) -> Array:
        """(D, T) bool: which tokens are a document's own."""
        after_DT = jnp.arange(len(self.ids_T)) - self.starts_D[:, None]
        return (after_DT >= 0) & (after_DT < self.lengths_D[:, None])


def embed(w: Weights, words_TC: Array, layout: Layout, keys_ST: Array | None, spec: ModelSpec) -> Array:
    """Word, position and segment vectors, summed and normalised; every token is of segment 0."""
    h_TC = words_TC + w[f"{spec.parts.positions}.weight"][layout.positions_T + spec.first_position]
    if spec.segments:
        h_TC = h_TC + w[f"{spec.parts.segments}.weight"][0]
    h_TC = dropout(layer_norm(h_TC, w, spec.parts.embedding_norm, spec), site(keys_ST, EMBEDDING), spec.dropout)
    return h_TC if spec.width == spec.hidden else linear(h_TC, w, spec.parts.projection)


def self_attention(w: Weights, h_TC: Array, layout: Layout, keys_ST: Array | None, spec: ModelSpec) -> Array:
    """What each token takes from the tokens of its document: (T, C)."""
    parts = spec.parts
    qkv_TO = keep(linear(h_TC, w, parts.query, parts.key, parts.value))
    qkv_T3HK = qkv_TO.reshape(-1, 3, spec.heads, spec.head_dim)
    keys_TH = None if keys_ST is None else head_keys(keys_ST[ATTENTION], spec.heads)
    if in_blocks():
        return attend_in_blocks(qkv_T3HK, layout.starts_D, layout.lengths_D, keys_TH, spec.attention_dropout)
    keys = [None] * len(layout.groups) if keys_TH is None else layout.split(keys_TH)
    groups = zip(layout.split(qkv_T3HK), layout.real(), keys, strict=True)
    rate = spec.attention_dropout
    return layout.join([attend(*thirds(qkv), real_NL[:, None], key, None, rate) for qkv, real_NL, key in groups])


def in_blocks() -> bool:
    """Whether to attend to one block after another, which suits a cache, or to all documents at once."""
    return jax.default_backend() == "cpu"


def first_attention(w: Weights, h_TC: Array, layout: Layout, keys_SD: Array | None, spec: ModelSpec) -> Array:
    """What the first token of each document takes from its document's tokens: (D, C).

    So few rows ask that all of them look at all tokens at once, those of other documents masked.
    """
    parts, heads = spec.parts, (spec.heads, spec.head_dim)
    q_1DHK = linear(layout.first(h_TC), w, parts.query).reshape(1, -1, *heads)
    kv_1T2HK = linear(h_TC, w, parts.key, parts.value).reshape(1, -1, 2, *heads)
    k_1THK, v_1THK = kv_1T2HK[:, :, 0], kv_1T2HK[:, :, 1]
    keys_1DH = None if keys_SD is None else head_keys(keys_SD[ATTENTION], spec.heads)[None]
    own_1DT, rate = layout.own()[None], spec.attention_dropout
    return attend(q_1DHK, k_1THK, v_1THK, own_1DT, keys_1DH, layout.positions_T, rate)[0]


def output(
    w: Weights, dense: str, norm: str, x: Array, residual_RC: Array, keys_R: Array | None, spec: ModelSpec
) -> Array:
    """Project back to the hidden width, drop, add the residual, normalise: the end of both halves of a layer."""
    dropped_RC = dropout(keep(linear(x, w, dense)), keys_R, spec.dropout)
    return layer_norm(residual_RC + dropped_RC, w, norm, spec)


def intermediate(w: Weights, h_RC: Array, spec: ModelSpec) -> Array:
    wide_RF = keep(linear(h_RC, w, spec.parts.intermediate))
    return ACTIVATIONS[spec.activation](wide_RF.astype(jnp.float32)).astype(wide_RF.dtype)


def after_attention(w: Weights, context_RC: Array, h_RC: Array, keys_SR: Array | None, spec: ModelSpec) -> Array:
    """The rest of a layer: project, then feed-forward."""
    parts = spec.parts
    dense, norm = parts.attention_output, parts.attention_norm
    h_RC = output(w, dense, norm, context_RC, h_RC, site(keys_SR, ATTENTION_OUTPUT), spec)
    wide_RF = intermediate(w, h_RC, spec)
    return output(w, parts.output, parts.output_norm, wide_RF, h_RC, site(keys_SR, FEED_FORWARD), spec)


def layer(w: Weights, h_TC: Array, layout: Layout, keys_ST: Array | None, spec: ModelSpec) -> Array:
    """Post-norm transformer layer: (T, C)."""
    return after_attention(w, self_attention(w, h_TC, layout, keys_ST, spec), h_TC, keys_ST, spec)


def last_layer(w: Weights, h_TC: Array, layout: Layout, keys_ST: Array | None, spec: ModelSpec) -> Array:
    """The last layer, of which only the first token of each document is read: (D, C)."""
    keys_SD = None if keys_ST is None else layout.first(keys_ST.T).T
    context_DC = first_attention(w, h_TC, layout, keys_SD, spec)
    return after_attention(w, context_DC, layout.first(h_TC), keys_SD, spec)


def encode(
    layers: Callable[[int | None], Weights],
    h_TC: Array,
    layout: Layout,
    keys_LST: Array | None,
    spec: ModelSpec,
    again: bool,
) -> Array:
    """All layers, one after the other: (D, C)."""

    @partial(remembered, again=again)
    def body(h_TC: Array, one: tuple[Weights, Array | None]) -> tuple[Array, None]:
        w, keys_ST = one
        return layer(w, h_TC, layout, keys_ST, spec), None

    last = spec.layers - 1
    if last > 0:
        h_TC = jax.lax.scan(body, h_TC, (layers(None), None if keys_LST is None else keys_LST[1:-1]))[0]
    return last_layer(layers(last), h_TC, layout, None if keys_LST is None else keys_LST[-1], spec)


def pool(w: Weights, h_DC: Array, keys_SD: Array | None, spec: ModelSpec) -> Array:
    """The first token of each document, once more through a layer; what of it the classifier reads."""
    parts, rate = spec.parts, spec.classifier_dropout
    if parts.drops_twice:
        h_DC = dropout(h_DC, site(keys_SD, FIRST), rate)
    h_DC = ACTIVATIONS[parts.head_activation](linear(h_DC, w, parts.dense))
    return dropout(h_DC, site(keys_SD, POOLED), rate)


def stacked(spec: ModelSpec) -> tuple[str, range]:
    """Prefix of a layer's tensors, and the numbers of the layers that are scanned."""
    return spec.parts.layers, range(spec.layers - 1)


def words(w: Weights, layout: Layout, spec: ModelSpec) -> Array:
    """(T, C) word vectors of the tokens."""
    return w[f"{spec.parts.words}.weight"][layout.ids_T]


def classify(
    w: Weights,
    layers: Callable[[int | None], Weights],
    words_TC: Array,
    layout: Layout,
    keys_LST: Array | None,
    spec: ModelSpec,
    low: DTypeLike,
    again: bool = False,
) -> Array:
    """Word vectors (T, C) to logits (D, Y). The layers compute in the type ``low``, all else in fp32.

    ``layers`` gives the tensors of a layer that stands alone, by its number, or the stacked ones; ``again`` as in
    `remembered`.
    """
    outside = None if keys_LST is None else keys_LST[0]
    h_TC = embed(w, words_TC, layout, outside, spec).astype(low)
    h_DC = encode(layers, h_TC, layout, keys_LST, spec, again).astype(jnp.float32)
    keys_SD = None if outside is None else layout.first(outside.T).T
    return linear(pool(w, h_DC, keys_SD, spec), w, spec.parts.classifier)


def thirds(qkv_NL3HK: Array) -> tuple[Array, Array, Array]:
    """Queries, keys and values, (N, L, H, K) each."""
    return qkv_NL3HK[:, :, 0], qkv_NL3HK[:, :, 1], qkv_NL3HK[:, :, 2]


def layer_norm(x_TC: Array, w: Weights, name: str, spec: ModelSpec) -> Array:
    """Normalise in fp32, return the type that came in. Two passes, as one loses digits where the mean is large."""
    x = x_TC.astype(jnp.float32)
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = jax.lax.rsqrt((centred * centred).mean(axis=-1, keepdims=True) + spec.norm_eps)
    normed = centred * scale * w[f"{name}.weight"]
    return (normed + w[f"{name}.bias"] if f"{name}.bias" in w else normed).astype(x_TC.dtype)


def site(keys_ST: Array | None, place: int) -> Array | None:
    """The keys (T,) of one place that drops."""
    return None if keys_ST is None else keys_ST[place]


@jax.custom_vjp
def take(x: Array, index: Array, inverse: Array) -> Array:
    """Rows ``x[index]``, zeros where the index is out of range; ``inverse`` takes them back.

    Every row is taken at most once, so the gradient is a gather too: fast, and the same to the bit on every device,
    where the scatter that JAX would derive is neither.
    """
    return jnp.take(x, index, axis=0, mode="fill", fill_value=0)


def _take_forward(x: Array, index: Array, inverse: Array) -> tuple[Array, tuple[Array, Array]]:
    return take(x, index, inverse), (index, inverse)


def _take_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, None, None]:
    index, inverse = saved
    return take(gradient, inverse, index), None, None


take.defvjp(_take_forward, _take_backward)


def _ends(sizes: Iterable[int]) -> list[int]:
    """Where each part but the last ends."""
    return list(itertools.accumulate(sizes))[:-1]
