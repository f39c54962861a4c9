"""Llama and Qwen for sequence classification on concatenated tokens. Grattafiori et al. (2024), arXiv:2407.21783.

    T  flat tokens of all documents     D  documents      C  hidden width       F  intermediate width
    R  rows that ask: T or D            H  heads          K  head width         J  heads of keys and values
    N  documents of a group, each padded to length L      S  places that drop   Y  labels

Norms before, without a mean; rotary positions; a token sees itself and those before it; J heads of keys and values for
H of queries; a gate in the feed-forward; the last token of a document answers for it. The PyTorch twin holds the same
functions in the same order; here the tensors of all layers but the last are stacked and scanned. transformers' Llama
drops attention only; the other places drop where a recipe asks for it. Qwen2 has biases beside queries, keys and
values, Qwen3 norms of each head's queries and keys (arXiv:2505.09388).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from duygu.engines.jax.attention import attend
from duygu.engines.jax.bert import ACTIVATIONS, Layout, Weights, in_blocks, site
from duygu.engines.jax.blocks import attend_causally_in_blocks
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
from duygu.engines.rotary import turns
from duygu.models.spec import ModelSpec


def turns_of(layout: Layout, spec: ModelSpec) -> Array:
    """(2, T, K / 2) cosines and sines of every token's angles."""
    longest = max(length for _, length in layout.groups)
    return jnp.asarray(turns(spec, longest))[:, layout.positions_T]


def rotate(x_RHK: Array, turns_2RK: Array) -> Array:
    """Turn features k and k + K / 2 of each head by the angle of its token."""
    cos_R1K, sin_R1K = turns_2RK[:, :, None]
    a, b = jnp.split(x_RHK.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([a * cos_R1K - b * sin_R1K, b * cos_R1K + a * sin_R1K], axis=-1)
    return turned.astype(x_RHK.dtype)


def queries(w: Weights, normed_RC: Array, turns_2RK: Array, spec: ModelSpec) -> Array:
    """(R, H, K), turned."""
    q_RHK = keep(linear(normed_RC, w, "self_attn.q_proj")).reshape(-1, spec.heads, spec.head_dim)
    return rotate(head_norm(q_RHK, w, "self_attn.q_norm", spec), turns_2RK)


def keys_values(w: Weights, normed_TC: Array, turns_2TK: Array, spec: ModelSpec) -> tuple[Array, Array]:
    """(T, J, K) each, the keys turned."""
    k_TJK = keep(linear(normed_TC, w, "self_attn.k_proj")).reshape(-1, spec.kv_heads, spec.head_dim)
    v_TJK = keep(linear(normed_TC, w, "self_attn.v_proj")).reshape(-1, spec.kv_heads, spec.head_dim)
    return rotate(head_norm(k_TJK, w, "self_attn.k_norm", spec), turns_2TK), v_TJK


def head_norm(x_RHK: Array, w: Weights, name: str, spec: ModelSpec) -> Array:
    """Each head's queries or keys, normalised on their own in families that do so."""
    return rms_norm(x_RHK, w, name, spec) if spec.head_norms else x_RHK


def self_attention(
    w: Weights, h_TC: Array, layout: Layout, keys_ST: Array | None, turns_2TK: Array, spec: ModelSpec
) -> Array:
    """What each token takes from itself and the tokens of its document before it: (T, HK)."""
    normed_TC = rms_norm(h_TC, w, "input_layernorm", spec)
    q_THK, (k_TJK, v_TJK) = queries(w, normed_TC, turns_2TK, spec), keys_values(w, normed_TC, turns_2TK, spec)
    keys_TH = None if keys_ST is None else head_keys(keys_ST[ATTENTION], spec.heads)
    rate = spec.attention_dropout
    if in_blocks():
        return attend_causally_in_blocks(q_THK, k_TJK, v_TJK, layout.starts_D, layout.lengths_D, keys_TH, rate)
    keys = [None] * len(layout.groups) if keys_TH is None else layout.split(keys_TH)
    split = zip(*map(layout.split, (q_THK, k_TJK, v_TJK)), layout.real(), keys, strict=True)
    parts = []
    for q, k, v, real_NL, key in split:
        before_LL = jnp.tri(real_NL.shape[1], dtype=bool)
        parts.append(attend(q, k, v, real_NL[:, None] & before_LL, key, None, rate))
    return layout.join(parts)


def last_attention(
    w: Weights, h_TC: Array, layout: Layout, keys_SD: Array | None, turns_2TK: Array, spec: ModelSpec
) -> Array:
    """What the last token of each document takes from all tokens of its document: (D, HK).

    So few rows ask that all of them look at all tokens at once, those of other documents masked.
    """
    normed_TC = rms_norm(h_TC, w, "input_layernorm", spec)
    q_1DHK = queries(w, layout.last(normed_TC), turns_2TK[:, layout.ends_D], spec)[None]
    k_TJK, v_TJK = keys_values(w, normed_TC, turns_2TK, spec)
    keys_1DH = None if keys_SD is None else head_keys(keys_SD[ATTENTION], spec.heads)[None]
    own_1DT, rate = layout.own()[None], spec.attention_dropout
    return attend(q_1DHK, k_TJK[None], v_TJK[None], own_1DT, keys_1DH, layout.positions_T, rate)[0]


def gated(w: Weights, normed_RC: Array, spec: ModelSpec) -> Array:
    """(R, F): the activation of some features times others."""
    gate_RF, through_RF = keep(linear(normed_RC, w, "mlp.gate_proj")), keep(linear(normed_RC, w, "mlp.up_proj"))
    wide_RF = ACTIVATIONS[spec.activation](gate_RF.astype(jnp.float32)) * through_RF.astype(jnp.float32)
    return wide_RF.astype(gate_RF.dtype)


def after_attention(w: Weights, context_RHK: Array, h_RC: Array, keys_SR: Array | None, spec: ModelSpec) -> Array:
    """The rest of a layer: project, then feed-forward."""
    projected_RC = keep(linear(context_RHK, w, "self_attn.o_proj"))
    h_RC = h_RC + dropout(projected_RC, site(keys_SR, ATTENTION_OUTPUT), spec.dropout)
    wide_RF = gated(w, rms_norm(h_RC, w, "post_attention_layernorm", spec), spec)
    return h_RC + dropout(linear(wide_RF, w, "mlp.down_proj"), site(keys_SR, FEED_FORWARD), spec.dropout)


def layer(w: Weights, h_TC: Array, layout: Layout, keys_ST: Array | None, turns_2TK: Array, spec: ModelSpec) -> Array:
    """Pre-norm transformer layer: (T, C)."""
    context_THK = self_attention(w, h_TC, layout, keys_ST, turns_2TK, spec)
    return after_attention(w, context_THK, h_TC, keys_ST, spec)


def last_layer(
    w: Weights, h_TC: Array, layout: Layout, keys_ST: Array | None, turns_2TK: Array, spec: ModelSpec
) -> Array:
    """The last layer, of which only the last token of each document is read: (D, C)."""
    keys_SD = None if keys_ST is None else layout.last(keys_ST.T).T
    context_DHK = last_attention(w, h_TC, layout, keys_SD, turns_2TK, spec)
    return after_attention(w, context_DHK, layout.last(h_TC), keys_SD, spec)


def encode(
    layers: Callable[[int | None], Weights],
    h_TC: Array,
    layout: Layout,
    keys_LST: Array | None,
    spec: ModelSpec,
    again: bool,
) -> Array:
    """All layers, one after the other: (D, C)."""
    turns_2TK = turns_of(layout, spec)

    @partial(remembered, again=again)
    def body(h_TC: Array, one: tuple[Weights, Array | None]) -> tuple[Array, None]:
        w, keys_ST = one
        return layer(w, h_TC, layout, keys_ST, turns_2TK, spec), None

    last = spec.layers - 1
    if last > 0:
        h_TC = jax.lax.scan(body, h_TC, (layers(None), None if keys_LST is None else keys_LST[1:-1]))[0]
    return last_layer(layers(last), h_TC, layout, None if keys_LST is None else keys_LST[-1], turns_2TK, spec)


def pool(w: Weights, h_DC: Array, keys_D: Array | None, spec: ModelSpec) -> Array:
    """The last token of each document, normalised; what the classifier reads."""
    return dropout(rms_norm(h_DC, w, "model.norm", spec), keys_D, spec.classifier_dropout)


def stacked(spec: ModelSpec) -> tuple[str, range]:
    """Prefix of a layer's tensors, and the numbers of the layers that are scanned."""
    return "model.layers", range(spec.layers - 1)


def words(w: Weights, layout: Layout, spec: ModelSpec) -> Array:
    """(T, C) word vectors of the tokens."""
    return w["model.embed_tokens.weight"][layout.ids_T]


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
    h_TC = dropout(words_TC, site(outside, EMBEDDING), spec.embedding_dropout).astype(low)
    h_DC = encode(layers, h_TC, layout, keys_LST, spec, again).astype(jnp.float32)
    keys_D = None if outside is None else layout.last(outside[POOLED])
    return linear(pool(w, h_DC, keys_D, spec), w, "score")


def rms_norm(x_RC: Array, w: Weights, name: str, spec: ModelSpec) -> Array:
    """Divide by the root of the mean square, in fp32; round to the type that came in before the weights, as Llama
    does."""
    x = x_RC.astype(jnp.float32)
    normed_RC = (x * jax.lax.rsqrt((x * x).mean(axis=-1, keepdims=True) + spec.norm_eps)).astype(x_RC.dtype)
    return (w[f"{name}.weight"] * normed_RC).astype(x_RC.dtype)
