"""ModernBERT for sequence classification on concatenated tokens. Warner et al. (2024), arXiv:2412.13663.

    T  flat tokens of all documents     D  documents      C  hidden width       F  intermediate width
    R  rows that ask: T or D            H  heads          K  head width         S  places that drop
    N  documents of a group, each padded to length L                            Y  labels

Norms before, not after; rotary positions; a gate in the feed-forward; no biases; layers that see all of a document, and
local ones between them. The PyTorch twin holds the same functions in the same order. Layer 0, which has no norm before
its attention, and the last stand alone; the others are stacked and scanned: what makes one local is data.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from duygu.engines.jax.attention import attend
from duygu.engines.jax.bert import ACTIVATIONS, Layout, Weights, in_blocks, layer_norm, site, thirds
from duygu.engines.jax.blocks import attend_in_blocks
from duygu.engines.jax.dropout import (
    ATTENTION,
    ATTENTION_OUTPUT,
    EMBEDDING,
    FEED_FORWARD,
    POOLED,
    dropout,
    head_keys,
)
from duygu.engines.jax.linear import keep, linear, remembered
from duygu.engines.rotary import turn_rates
from duygu.models.spec import ModelSpec

Reach = tuple[Array, Array]  # cosines and sines of a layer's angles (2, T, K / 2); tokens to either side that it sees


def embed(w: Weights, words_TC: Array, keys_ST: Array | None, spec: ModelSpec) -> Array:
    """Word vectors, normalised; positions come in with the attention."""
    h_TC = layer_norm(words_TC, w, "model.embeddings.norm", spec)
    return dropout(h_TC, site(keys_ST, EMBEDDING), spec.embedding_dropout)


def reaches(layout: Layout, spec: ModelSpec) -> tuple[Array, Array]:
    """Reach of global layers, then of local ones, side by side: (2, 2, T, K / 2) and (2,)."""
    angles_2TK = layout.positions_T[:, None] * turn_rates(spec)[:, None, :]
    return jnp.stack([jnp.cos(angles_2TK), jnp.sin(angles_2TK)], axis=1), jnp.array([spec.positions, spec.window])


def rotate(x_TPHK: Array, turns_2TK: Array) -> Array:
    """Turn features k and k + K / 2 of each head by the angle of its token."""
    cos_T11K, sin_T11K = turns_2TK[:, :, None, None]
    a, b = jnp.split(x_TPHK.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([a * cos_T11K - b * sin_T11K, b * cos_T11K + a * sin_T11K], axis=-1)
    return turned.astype(x_TPHK.dtype)


def queries_keys_values(w: Weights, h_TC: Array, turns_2TK: Array, spec: ModelSpec) -> Array:
    """(T, 3, H, K), the first two turned."""
    qkv_T3HK = keep(linear(normed(w, h_TC, spec), w, "attn.Wqkv")).reshape(-1, 3, spec.heads, spec.head_dim)
    return jnp.concatenate([rotate(qkv_T3HK[:, :2], turns_2TK), qkv_T3HK[:, 2:]], axis=1)


def normed(w: Weights, h_TC: Array, spec: ModelSpec) -> Array:
    """What attention reads; layer 0 reads the embeddings, which are normalised."""
    return layer_norm(h_TC, w, "attn_norm", spec) if "attn_norm.weight" in w else h_TC


def self_attention(
    w: Weights, h_TC: Array, layout: Layout, keys_ST: Array | None, reach: Reach, spec: ModelSpec
) -> Array:
    """What each token takes from the tokens of its document within reach: (T, C)."""
    turns_2TK, window = reach
    qkv_T3HK = queries_keys_values(w, h_TC, turns_2TK, spec)
    keys_TH = None if keys_ST is None else head_keys(keys_ST[ATTENTION], spec.heads)
    rate = spec.attention_dropout
    if in_blocks():
        return attend_in_blocks(qkv_T3HK, layout.starts_D, layout.lengths_D, keys_TH, rate, window)
    keys = [None] * len(layout.groups) if keys_TH is None else layout.split(keys_TH)
    parts = []
    for qkv, real_NL, key in zip(layout.split(qkv_T3HK), layout.real(), keys, strict=True):
        places_L = jnp.arange(real_NL.shape[1])
        near_LL = jnp.abs(places_L[:, None] - places_L) <= window
        parts.append(attend(*thirds(qkv), real_NL[:, None] & near_LL, key, None, rate))
    return layout.join(parts)


def first_attention(
    w: Weights, h_TC: Array, layout: Layout, keys_SD: Array | None, reach: Reach, spec: ModelSpec
) -> Array:
    """What the first token of each document takes from its document's tokens within reach: (D, C).

    So few rows ask that all of them look at all tokens at once, those of other documents masked.
    """
    turns_2TK, window = reach
    qkv_T3HK = queries_keys_values(w, h_TC, turns_2TK, spec)
    q_1DHK, k_1THK, v_1THK = layout.first(qkv_T3HK[:, 0])[None], qkv_T3HK[None, :, 1], qkv_T3HK[None, :, 2]
    keys_1DH = None if keys_SD is None else head_keys(keys_SD[ATTENTION], spec.heads)[None]
    seen_1DT = (layout.own() & (layout.positions_T <= window))[None]
    return attend(q_1DHK, k_1THK, v_1THK, seen_1DT, keys_1DH, layout.positions_T, spec.attention_dropout)[0]


def gated(w: Weights, h_RC: Array, keys_R: Array | None, spec: ModelSpec) -> Array:
    """(R, F): one half of the features times the activation of the other."""
    wide_RF2 = keep(linear(h_RC, w, "mlp.Wi"))
    through_RF, gate_RF = jnp.split(wide_RF2.astype(jnp.float32), 2, axis=-1)
    return dropout((ACTIVATIONS[spec.activation](through_RF) * gate_RF).astype(wide_RF2.dtype), keys_R, spec.dropout)


def after_attention(w: Weights, context_RC: Array, h_RC: Array, keys_SR: Array | None, spec: ModelSpec) -> Array:
    """The rest of a layer: project, then feed-forward."""
    projected_RC = keep(linear(context_RC, w, "attn.Wo"))
    h_RC = h_RC + dropout(projected_RC, site(keys_SR, ATTENTION_OUTPUT), spec.attention_dropout)
    wide_RF = gated(w, layer_norm(h_RC, w, "mlp_norm", spec), site(keys_SR, FEED_FORWARD), spec)
    return h_RC + linear(wide_RF, w, "mlp.Wo")


def layer(w: Weights, h_TC: Array, layout: Layout, keys_ST: Array | None, reach: Reach, spec: ModelSpec) -> Array:
    """Pre-norm transformer layer: (T, C)."""
    return after_attention(w, self_attention(w, h_TC, layout, keys_ST, reach, spec), h_TC, keys_ST, spec)


def last_layer(w: Weights, h_TC: Array, layout: Layout, keys_ST: Array | None, reach: Reach, spec: ModelSpec) -> Array:
    """The last layer, where only the first token of each document is read: (D, C)."""
    keys_SD = None if keys_ST is None else layout.first(keys_ST.T).T
    context_DC = first_attention(w, h_TC, layout, keys_SD, reach, spec)
    return after_attention(w, context_DC, layout.first(h_TC), keys_SD, spec)


def encode(
    layers: Callable[[int | None], Weights],
    h_TC: Array,
    layout: Layout,
    keys_LST: Array | None,
    spec: ModelSpec,
    again: bool,
) -> Array:
    """All layers, one after the other: (D, C) where first tokens are read, (T, C) where all are."""
    turns_22TK, windows_2 = reaches(layout, spec)
    local_L = jnp.array([int(spec.is_local(number)) for number in range(spec.layers)])

    @partial(remembered, again=again)
    def body(h_TC: Array, one: tuple[Weights, Array | None, Array]) -> tuple[Array, None]:
        w, keys_ST, local = one
        return layer(w, h_TC, layout, keys_ST, (turns_22TK[local], windows_2[local]), spec), None

    def keys(number: int) -> Array | None:
        return None if keys_LST is None else keys_LST[number + 1]

    last = spec.layers - 1
    if last > 0:
        h_TC, _ = body(h_TC, (layers(0), keys(0), local_L[0]))
    if last > 1:
        inner = (layers(None), None if keys_LST is None else keys_LST[2:-1], local_L[1:-1])
        h_TC, _ = jax.lax.scan(body, h_TC, inner)
    reach = turns_22TK[local_L[last]], windows_2[local_L[last]]
    final = last_layer if spec.pooling == "first" else layer
    return final(layers(last), h_TC, layout, keys(last), reach, spec)


def pool(w: Weights, h: Array, layout: Layout, keys_D: Array | None, spec: ModelSpec) -> Array:
    """A document's first token, or the mean of its tokens, once more through a layer; what the classifier reads."""
    h = layer_norm(h, w, "model.final_norm", spec)
    if spec.pooling == "mean":
        h = layout.own().astype(jnp.float32) @ h / jnp.maximum(layout.lengths_D, 1)[:, None]
    h_DC = layer_norm(ACTIVATIONS[spec.head_activation](linear(h, w, "head.dense")), w, "head.norm", spec)
    return dropout(h_DC, keys_D, spec.classifier_dropout)


def stacked(spec: ModelSpec) -> tuple[str, range]:
    """Prefix of a layer's tensors, and the numbers of the layers that are scanned."""
    return "model.layers", range(1, spec.layers - 1)


def words(w: Weights, layout: Layout, spec: ModelSpec) -> Array:
    """(T, C) word vectors of the tokens."""
    return w["model.embeddings.tok_embeddings.weight"][layout.ids_T]


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

    ``again`` as in `remembered`.
    """
    outside = None if keys_LST is None else keys_LST[0]
    h_TC = embed(w, words_TC, outside, spec).astype(low)
    h = encode(layers, h_TC, layout, keys_LST, spec, again).astype(jnp.float32)
    keys_D = None if outside is None else layout.first(outside[POOLED])
    return linear(pool(w, h, layout, keys_D, spec), w, "classifier")
