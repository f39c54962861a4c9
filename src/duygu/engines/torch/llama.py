"""Llama and Qwen for sequence classification on concatenated tokens. Grattafiori et al. (2024), arXiv:2407.21783.

    T  flat tokens of all documents     D  documents      C  hidden width       F  intermediate width
    R  rows that ask: T or D            H  heads          K  head width         J  heads of keys and values
    S  places that drop                                                         Y  labels

Norms before, without a mean; rotary positions; a token sees itself and those before it; J heads of keys and values for
H of queries; a gate in the feed-forward; the last token of a document answers for it. The JAX twin holds the same
functions in the same order; here they are functions of ``w``, a module whose ``state_dict`` has Hugging Face's names: a
`Layer` of it, or all. transformers' Llama drops attention only; the other places drop where a recipe asks for it.
Qwen2 has biases beside queries, keys and values, Qwen3 norms of each head's queries and keys (arXiv:2505.09388).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duygu.engines.rotary import turns
from duygu.engines.torch.attention import attend_causally, attend_to_own
from duygu.engines.torch.bert import ACTIVATIONS, Layout, linear, part, put, remembered, site
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


def turns_of(layout: Layout, spec: ModelSpec) -> Tensor:
    """(2, T, K / 2) cosines and sines of every token's angles."""
    longest = max(length for _, length in layout.groups)
    table_2LK = torch.from_numpy(turns(spec, longest)).to(layout.positions_T.device)
    return table_2LK.index_select(1, layout.positions_T)


def rotate(x_RHK: Tensor, turns_2RK: Tensor) -> Tensor:
    """Turn features k and k + K / 2 of each head by the angle of its token."""
    cos_R1K, sin_R1K = turns_2RK[:, :, None]
    a, b = x_RHK.float().chunk(2, dim=-1)
    return torch.cat([a * cos_R1K - b * sin_R1K, b * cos_R1K + a * sin_R1K], dim=-1).to(x_RHK.dtype)


def queries(w: nn.Module, normed_RC: Tensor, turns_2RK: Tensor, spec: ModelSpec) -> Tensor:
    """(R, H, K), turned."""
    q_RHK = linear(normed_RC, w, "self_attn.q_proj").unflatten(-1, (spec.heads, -1))
    return rotate(head_norm(q_RHK, w, "self_attn.q_norm", spec), turns_2RK)


def keys_values(w: nn.Module, normed_TC: Tensor, turns_2TK: Tensor, spec: ModelSpec) -> tuple[Tensor, Tensor]:
    """(T, J, K) each, the keys turned."""
    k_TJK = linear(normed_TC, w, "self_attn.k_proj").unflatten(-1, (spec.kv_heads, -1))
    v_TJK = linear(normed_TC, w, "self_attn.v_proj").unflatten(-1, (spec.kv_heads, -1))
    return rotate(head_norm(k_TJK, w, "self_attn.k_norm", spec), turns_2TK), v_TJK


def head_norm(x_RHK: Tensor, w: nn.Module, name: str, spec: ModelSpec) -> Tensor:
    """Each head's queries or keys, normalised on their own in families that do so."""
    return rms_norm(x_RHK, w, name) if spec.head_norms else x_RHK


def self_attention(
    w: nn.Module, h_TC: Tensor, layout: Layout, keys_ST: Tensor | None, turns_2TK: Tensor, spec: ModelSpec
) -> Tensor:
    """What each token takes from itself and the tokens of its document before it: (T, HK)."""
    normed_TC = rms_norm(h_TC, w, "input_layernorm")
    q_THK, (k_TJK, v_TJK) = queries(w, normed_TC, turns_2TK, spec), keys_values(w, normed_TC, turns_2TK, spec)
    keys_TH = None if keys_ST is None else head_keys(keys_ST[ATTENTION], spec.heads)
    return attend_causally(q_THK, k_TJK, v_TJK, layout.groups, keys_TH, spec.attention_dropout)


def last_attention(
    w: nn.Module, h_TC: Tensor, layout: Layout, keys_SD: Tensor | None, turns_2TK: Tensor, spec: ModelSpec
) -> Tensor:
    """What the last token of each document takes from all tokens of its document: (D, HK).

    So few rows ask that all of them look at all tokens at once, those of other documents masked.
    """
    normed_TC = rms_norm(h_TC, w, "input_layernorm")
    q_DHK = queries(w, layout.last(normed_TC), turns_2TK.index_select(1, layout.ends_D), spec)
    kv_T2JK = torch.stack(keys_values(w, normed_TC, turns_2TK, spec), dim=1)
    keys_DH = None if keys_SD is None else head_keys(keys_SD[ATTENTION], spec.heads)
    return attend_to_own(q_DHK, kv_T2JK, layout.own(), keys_DH, layout.positions_T.int(), spec.attention_dropout)


def gated(w: nn.Module, normed_RC: Tensor, spec: ModelSpec) -> Tensor:
    """(R, F): the activation of some features times others."""
    gate_RF, through_RF = linear(normed_RC, w, "mlp.gate_proj"), linear(normed_RC, w, "mlp.up_proj")
    return ACTIVATIONS[spec.activation](gate_RF) * through_RF


def after_attention(w: nn.Module, context_RHK: Tensor, h_RC: Tensor, keys_SR: Tensor | None, spec: ModelSpec) -> Tensor:
    """The rest of a layer: project, then feed-forward."""
    projected_RC = linear(context_RHK, w, "self_attn.o_proj")
    h_RC = h_RC + dropout(projected_RC, site(keys_SR, ATTENTION_OUTPUT), spec.dropout)
    wide_RF = gated(w, rms_norm(h_RC, w, "post_attention_layernorm"), spec)
    return h_RC + dropout(linear(wide_RF, w, "mlp.down_proj"), site(keys_SR, FEED_FORWARD), spec.dropout)


class Layer(nn.Module):
    """Pre-norm transformer layer: (T, C)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec, hidden, wide = spec, spec.hidden, spec.intermediate
        asking, shared = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        self.input_layernorm = nn.RMSNorm(hidden, spec.norm_eps)
        put(self, "self_attn.q_proj", nn.Linear(hidden, asking, bias=spec.biased))
        put(self, "self_attn.k_proj", nn.Linear(hidden, shared, bias=spec.biased))
        put(self, "self_attn.v_proj", nn.Linear(hidden, shared, bias=spec.biased))
        put(self, "self_attn.o_proj", nn.Linear(asking, hidden, bias=False))
        if spec.head_norms:
            put(self, "self_attn.q_norm", nn.RMSNorm(spec.head_dim, spec.norm_eps))
            put(self, "self_attn.k_norm", nn.RMSNorm(spec.head_dim, spec.norm_eps))
        self.post_attention_layernorm = nn.RMSNorm(hidden, spec.norm_eps)
        put(self, "mlp.gate_proj", nn.Linear(hidden, wide, bias=False))
        put(self, "mlp.up_proj", nn.Linear(hidden, wide, bias=False))
        put(self, "mlp.down_proj", nn.Linear(wide, hidden, bias=False))

    def forward(self, h_TC: Tensor, layout: Layout, keys_ST: Tensor | None, turns_2TK: Tensor) -> Tensor:
        context_THK = self_attention(self, h_TC, layout, keys_ST, turns_2TK, self.spec)
        return after_attention(self, context_THK, h_TC, keys_ST, self.spec)


def last_layer(
    w: nn.Module, h_TC: Tensor, layout: Layout, keys_ST: Tensor | None, turns_2TK: Tensor, spec: ModelSpec
) -> Tensor:
    """The last layer, of which only the last token of each document is read: (D, C)."""
    keys_SD = None if keys_ST is None else keys_ST.index_select(1, layout.ends_D)
    context_DHK = last_attention(w, h_TC, layout, keys_SD, turns_2TK, spec)
    return after_attention(w, context_DHK, layout.last(h_TC), keys_SD, spec)


def encode(w: nn.Module, h_TC: Tensor, layout: Layout, keys_LST: Tensor | None, spec: ModelSpec, again: bool) -> Tensor:
    """All layers, one after the other: (D, C)."""
    turns_2TK = turns_of(layout, spec)
    keys = [None] * spec.layers if keys_LST is None else list(keys_LST[1:])
    *layers, last = part(w, "model.layers")
    for layer, keys_ST in zip(layers, keys, strict=False):
        h_TC = remembered(layer, again)(h_TC, layout, keys_ST, turns_2TK)
    return last_layer(last, h_TC, layout, keys[-1], turns_2TK, spec)


def pool(w: nn.Module, h_DC: Tensor, keys_D: Tensor | None, spec: ModelSpec) -> Tensor:
    """The last token of each document, normalised; what the classifier reads."""
    return dropout(rms_norm(h_DC, w, "model.norm"), keys_D, spec.classifier_dropout)


class LlamaClassifier(nn.Module):
    """Token ids to logits. ``low`` is the type that the layers compute in; all else is fp32."""

    def __init__(self, spec: ModelSpec, low: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.spec, self.low = spec, low
        put(self, "model.embed_tokens", nn.Embedding(spec.vocabulary, spec.hidden))
        put(self, "model.layers", nn.ModuleList(Layer(spec) for _ in range(spec.layers)))
        put(self, "model.norm", nn.RMSNorm(spec.hidden, spec.norm_eps))
        self.score = nn.Linear(spec.hidden, len(spec.labels), bias=False)

    def words(self, layout: Layout) -> Tensor:
        """(T, C) word vectors of the tokens."""
        return part(self, "model.embed_tokens")(layout.ids_T)

    def forward(self, words_TC: Tensor, layout: Layout, keys_LST: Tensor | None = None, again: bool = False) -> Tensor:
        """Word vectors (T, C) to logits (D, Y); ``again`` as in `remembered`."""
        spec, outside = self.spec, None if keys_LST is None else keys_LST[0]
        h_TC = dropout(words_TC, site(outside, EMBEDDING), spec.embedding_dropout).to(self.low)
        h_DC = encode(self, h_TC, layout, keys_LST, spec, again).float()
        keys_D = None if outside is None else layout.last(outside[POOLED])
        return linear(pool(self, h_DC, keys_D, spec), self, "score")


def rms_norm(x_RC: Tensor, w: nn.Module, name: str) -> Tensor:
    """Divide by the root of the mean square, in fp32; round to the type that came in before the weights, as Llama
    does."""
    norm = part(w, name)
    normed_RC = F.rms_norm(x_RC.float(), norm.normalized_shape, None, norm.eps).to(x_RC.dtype)
    return (norm.weight * normed_RC).to(x_RC.dtype)
