"""BERT for sequence classification on concatenated tokens. Devlin et al. (2019), arXiv:1810.04805.

    T  flat tokens of all documents     D  documents      C  hidden width       F  intermediate width
    H  attention heads                  K  head width     N  documents of a group, each padded to length L
    S  places that drop                 Y  labels

The PyTorch twin holds the same functions in the same order; here they are pure functions of ``w``, tensors under
Hugging Face's names; those of the layers are stacked and scanned, so compile time does not grow with depth. ``keys``
are those of `dropout`; without them nothing is dropped.
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

from duygu.engines.jax.dropout import (
    ATTENTION,
    ATTENTION_OUTPUT,
    EMBEDDING,
    FEED_FORWARD,
    POOLED,
    dropout,
    head_keys,
)
from duygu.models.spec import ModelSpec

Weights = Mapping[str, Array]

LAYERS = "bert.encoder.layer."  # names of stacked tensors are LAYERS + number + "." + the name within a layer

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
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


def embed(w: Weights, words_TC: Array, layout: Layout, keys_ST: Array | None, spec: ModelSpec) -> Array:
    """Word, position and segment vectors, summed and normalised; every token is of segment 0."""
    h_TC = words_TC + w["bert.embeddings.position_embeddings.weight"][layout.positions_T]
    h_TC = h_TC + w["bert.embeddings.token_type_embeddings.weight"][0]
    return dropout(layer_norm(h_TC, w, "bert.embeddings.LayerNorm", spec), site(keys_ST, EMBEDDING), spec.dropout)


def self_attention(w: Weights, h_TC: Array, layout: Layout, keys_ST: Array | None, spec: ModelSpec) -> Array:
    """Each document attends to itself only."""
    weight = jnp.concatenate([w[f"attention.self.{name}.weight"] for name in ("query", "key", "value")])
    bias = jnp.concatenate([w[f"attention.self.{name}.bias"] for name in ("query", "key", "value")])
    qkv_T3HK = (h_TC @ weight.T + bias).reshape(-1, 3, spec.heads, spec.head_dim)
    parts = layout.split(qkv_T3HK)
    real = layout.real()
    if keys_ST is None:
        return layout.join([attend(qkv, valid, None, 0.0) for qkv, valid in zip(parts, real, strict=True)])
    keys = layout.split(head_keys(keys_ST[ATTENTION], spec.heads))
    rate = spec.attention_dropout
    return layout.join([attend(qkv, valid, key, rate) for qkv, valid, key in zip(parts, real, keys, strict=True)])


def attend(qkv_NL3HK: Array, real_NL: Array, keys_NLH: Array | None, rate: float) -> Array:
    """Scaled dot-product attention within each of N documents of up to L tokens: (N, L, C). The softmax is in fp32."""
    q_NHLK, k_NHLK, v_NHLK = qkv_NL3HK.transpose(2, 0, 3, 1, 4)
    scores_NHLL = (q_NHLK @ k_NHLK.mT).astype(jnp.float32) / math.sqrt(q_NHLK.shape[-1])
    scores_NHLL = jnp.where(real_NL[:, None, None, :], scores_NHLL, -1e30)
    p_NHLL = jax.nn.softmax(scores_NHLL, axis=-1).astype(v_NHLK.dtype)
    p_NHLL = dropout(p_NHLL, None if keys_NLH is None else keys_NLH.transpose(0, 2, 1), rate)
    return (p_NHLL @ v_NHLK).transpose(0, 2, 1, 3).reshape(*real_NL.shape, -1)


def output(w: Weights, name: str, x: Array, residual_TC: Array, keys_T: Array | None, spec: ModelSpec) -> Array:
    """Project back to the hidden width, drop, add the residual, normalise: the end of both halves of a layer."""
    dropped_TC = dropout(linear(x, w, f"{name}.dense"), keys_T, spec.dropout)
    return layer_norm(residual_TC + dropped_TC, w, f"{name}.LayerNorm", spec)


def attention(w: Weights, h_TC: Array, layout: Layout, keys_ST: Array | None, spec: ModelSpec) -> Array:
    context_TC = self_attention(w, h_TC, layout, keys_ST, spec)
    return output(w, "attention.output", context_TC, h_TC, site(keys_ST, ATTENTION_OUTPUT), spec)


def intermediate(w: Weights, h_TC: Array, spec: ModelSpec) -> Array:
    return ACTIVATIONS[spec.activation](linear(h_TC, w, "intermediate.dense"))


def layer(w: Weights, h_TC: Array, layout: Layout, keys_ST: Array | None, spec: ModelSpec) -> Array:
    """Post-norm transformer layer: attention, then feed-forward."""
    h_TC = attention(w, h_TC, layout, keys_ST, spec)
    return output(w, "output", intermediate(w, h_TC, spec), h_TC, site(keys_ST, FEED_FORWARD), spec)


def encode(stacked: Weights, h_TC: Array, layout: Layout, keys_LST: Array | None, spec: ModelSpec) -> Array:
    def body(h_TC: Array, one: tuple[Weights, Array | None]) -> tuple[Array, None]:
        w, keys_ST = one
        return layer(w, h_TC, layout, keys_ST, spec), None

    return jax.lax.scan(body, h_TC, (stacked, None if keys_LST is None else keys_LST[1:]))[0]


def pool(w: Weights, h_TC: Array, layout: Layout) -> Array:
    """The first token of each document, once more through a layer."""
    return jnp.tanh(linear(h_TC[layout.starts_D], w, "bert.pooler.dense"))


def words(w: Weights, layout: Layout) -> Array:
    """(T, C) word vectors of the tokens."""
    return w["bert.embeddings.word_embeddings.weight"][layout.ids_T]


def classify(
    w: Weights,
    stacked: Weights,
    words_TC: Array,
    layout: Layout,
    keys_LST: Array | None,
    spec: ModelSpec,
) -> Array:
    """Word vectors (T, C) to logits (D, Y). The layers compute in the type of ``stacked``'s linear weights."""
    low = stacked["intermediate.dense.weight"].dtype
    outside = None if keys_LST is None else keys_LST[0]
    h_TC = embed(w, words_TC, layout, outside, spec)
    h_TC = encode(stacked, h_TC.astype(low), layout, keys_LST, spec).astype(jnp.float32)
    pooled_DC = pool(w, h_TC, layout)
    keys_D = None if outside is None else outside[POOLED][layout.starts_D]
    return linear(dropout(pooled_DC, keys_D, spec.classifier_dropout), w, "classifier")


def linear(x: Array, w: Weights, name: str) -> Array:
    """PyTorch's orientation: the weight is (out, in)."""
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def layer_norm(x_TC: Array, w: Weights, name: str, spec: ModelSpec) -> Array:
    """Normalise in fp32, return the type that came in. Two passes, as one loses digits where the mean is large."""
    x = x_TC.astype(jnp.float32)
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = jax.lax.rsqrt((centred * centred).mean(axis=-1, keepdims=True) + spec.norm_eps)
    return (centred * scale * w[f"{name}.weight"] + w[f"{name}.bias"]).astype(x_TC.dtype)


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
