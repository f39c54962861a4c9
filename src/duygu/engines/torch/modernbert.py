"""ModernBERT for sequence classification on concatenated tokens. Warner et al. (2024), arXiv:2412.13663.

    T  flat tokens of all documents     D  documents      C  hidden width       F  intermediate width
    R  rows that ask: T or D            H  heads          K  head width         S  places that drop
    N  documents of a group, each of length L                                   Y  labels

Norms before, not after; rotary positions; a gate in the feed-forward; no biases; layers that see all of a document, and
local ones between them. The JAX twin holds the same functions in the same order; here they are functions of ``w``, a
module whose ``state_dict`` has Hugging Face's names: a `Layer` of it, or all.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from duygu.engines.rotary import turn_rates
from duygu.engines.torch.attention import attend, attend_to_own
from duygu.engines.torch.bert import ACTIVATIONS, Layout, layer_norm, linear, part, put, remembered, site
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

Reach = tuple[Tensor, int]  # cosines and sines of a layer's angles (2, T, K / 2); tokens to either side that it sees


def embed(w: nn.Module, words_TC: Tensor, keys_ST: Tensor | None, spec: ModelSpec) -> Tensor:
    """Word vectors, normalised; positions come in with the attention."""
    h_TC = layer_norm(words_TC, w, "model.embeddings.norm")
    return dropout(h_TC, site(keys_ST, EMBEDDING), spec.embedding_dropout)


def reaches(layout: Layout, spec: ModelSpec) -> tuple[Reach, Reach]:
    """Reach of global layers, then of local ones."""
    rates_2K = torch.from_numpy(turn_rates(spec)).to(layout.positions_T.device)
    angles_2TK = layout.positions_T[:, None] * rates_2K[:, None, :]
    turns_22TK = torch.stack([angles_2TK.cos(), angles_2TK.sin()], dim=1)
    return (turns_22TK[0], spec.positions), (turns_22TK[1], spec.window)


def rotate(x_TPHK: Tensor, turns_2TK: Tensor) -> Tensor:
    """Turn features k and k + K / 2 of each head by the angle of its token."""
    cos_T11K, sin_T11K = turns_2TK[:, :, None, None]
    a, b = x_TPHK.float().chunk(2, dim=-1)
    turned = torch.cat([a * cos_T11K - b * sin_T11K, b * cos_T11K + a * sin_T11K], dim=-1)
    return turned.to(x_TPHK.dtype)


def queries_keys_values(w: nn.Module, h_TC: Tensor, turns_2TK: Tensor, spec: ModelSpec) -> Tensor:
    """(T, 3, H, K), the first two turned."""
    qkv_T3HK = linear(normed(w, h_TC), w, "attn.Wqkv").unflatten(-1, (3, spec.heads, -1))
    return torch.cat([rotate(qkv_T3HK[:, :2], turns_2TK), qkv_T3HK[:, 2:]], dim=1)


def normed(w: nn.Module, h_TC: Tensor) -> Tensor:
    """What attention reads; layer 0 reads the embeddings, which are normalised."""
    return layer_norm(h_TC, w, "attn_norm") if hasattr(w, "attn_norm") else h_TC


def self_attention(
    w: nn.Module, h_TC: Tensor, layout: Layout, keys_ST: Tensor | None, reach: Reach, spec: ModelSpec
) -> Tensor:
    """What each token takes from the tokens of its document within reach: (T, C)."""
    turns_2TK, window = reach
    qkv_T3HK = queries_keys_values(w, h_TC, turns_2TK, spec)
    keys_TH = None if keys_ST is None else head_keys(keys_ST[ATTENTION], spec.heads)
    return attend(qkv_T3HK, layout.groups, keys_TH, spec.attention_dropout, window)


def first_attention(
    w: nn.Module, h_TC: Tensor, layout: Layout, keys_SD: Tensor | None, reach: Reach, spec: ModelSpec
) -> Tensor:
    """What the first token of each document takes from its document's tokens within reach: (D, C).

    So few rows ask that all of them look at all tokens at once, those of other documents masked.
    """
    turns_2TK, window = reach
    qkv_T3HK = queries_keys_values(w, h_TC, turns_2TK, spec)
    q_DHK, kv_T2HK = layout.first(qkv_T3HK[:, 0]), qkv_T3HK[:, 1:]
    keys_DH = None if keys_SD is None else head_keys(keys_SD[ATTENTION], spec.heads)
    seen_DT = layout.own() & (layout.positions_T <= window)
    return attend_to_own(q_DHK, kv_T2HK, seen_DT, keys_DH, layout.positions_T.int(), spec.attention_dropout)


def gated(w: nn.Module, h_RC: Tensor, keys_R: Tensor | None, spec: ModelSpec) -> Tensor:
    """(R, F): one half of the features times the activation of the other."""
    through_RF, gate_RF = linear(h_RC, w, "mlp.Wi").chunk(2, dim=-1)
    return dropout(ACTIVATIONS[spec.activation](through_RF) * gate_RF, keys_R, spec.dropout)


def after_attention(w: nn.Module, context_RC: Tensor, h_RC: Tensor, keys_SR: Tensor | None, spec: ModelSpec) -> Tensor:
    """The rest of a layer: project, then feed-forward."""
    projected_RC = linear(context_RC, w, "attn.Wo")
    h_RC = h_RC + dropout(projected_RC, site(keys_SR, ATTENTION_OUTPUT), spec.attention_dropout)
    wide_RF = gated(w, layer_norm(h_RC, w, "mlp_norm"), site(keys_SR, FEED_FORWARD), spec)
    return h_RC + linear(wide_RF, w, "mlp.Wo")


class Layer(nn.Module):
    """Pre-norm transformer layer: (T, C)."""

    def __init__(self, spec: ModelSpec, number: int) -> None:
        super().__init__()
        self.spec, hidden = spec, spec.hidden
        if number:
            self.attn_norm = nn.LayerNorm(hidden, spec.norm_eps, bias=False)
        put(self, "attn.Wqkv", nn.Linear(hidden, 3 * hidden, bias=False))
        put(self, "attn.Wo", nn.Linear(hidden, hidden, bias=False))
        self.mlp_norm = nn.LayerNorm(hidden, spec.norm_eps, bias=False)
        put(self, "mlp.Wi", nn.Linear(hidden, 2 * spec.intermediate, bias=False))
        put(self, "mlp.Wo", nn.Linear(spec.intermediate, hidden, bias=False))

    def forward(self, h_TC: Tensor, layout: Layout, keys_ST: Tensor | None, reach: Reach) -> Tensor:
        context_TC = self_attention(self, h_TC, layout, keys_ST, reach, self.spec)
        return after_attention(self, context_TC, h_TC, keys_ST, self.spec)


def last_layer(
    w: nn.Module, h_TC: Tensor, layout: Layout, keys_ST: Tensor | None, reach: Reach, spec: ModelSpec
) -> Tensor:
    """The last layer, where only the first token of each document is read: (D, C)."""
    keys_SD = None if keys_ST is None else keys_ST.index_select(1, layout.starts_D)
    context_DC = first_attention(w, h_TC, layout, keys_SD, reach, spec)
    return after_attention(w, context_DC, layout.first(h_TC), keys_SD, spec)


def encode(w: nn.Module, h_TC: Tensor, layout: Layout, keys_LST: Tensor | None, spec: ModelSpec, again: bool) -> Tensor:
    """All layers, one after the other: (D, C) where first tokens are read, (T, C) where all are."""
    reach = reaches(layout, spec)
    keys = [None] * spec.layers if keys_LST is None else list(keys_LST[1:])
    *layers, last = part(w, "model.layers")
    for number, layer in enumerate(layers):
        h_TC = remembered(layer, again)(h_TC, layout, keys[number], reach[spec.is_local(number)])
    final = reach[spec.is_local(spec.layers - 1)]
    if spec.pooling == "first":
        return last_layer(last, h_TC, layout, keys[-1], final, spec)
    return last(h_TC, layout, keys[-1], final)


def pool(w: nn.Module, h: Tensor, layout: Layout, keys_D: Tensor | None, spec: ModelSpec) -> Tensor:
    """A document's first token, or the mean of its tokens, once more through a layer; what the classifier reads."""
    h = layer_norm(h, w, "model.final_norm")
    if spec.pooling == "mean":
        h = layout.own().float() @ h / layout.lengths_D[:, None]
    h_DC = layer_norm(ACTIVATIONS[spec.head_activation](linear(h, w, "head.dense")), w, "head.norm")
    return dropout(h_DC, keys_D, spec.classifier_dropout)


class ModernBertClassifier(nn.Module):
    """Token ids to logits. ``low`` is the type that the encoder's layers compute in; all else is fp32."""

    def __init__(self, spec: ModelSpec, low: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.spec, self.low = spec, low
        put(self, "model.embeddings.tok_embeddings", nn.Embedding(spec.vocabulary, spec.hidden))
        put(self, "model.embeddings.norm", nn.LayerNorm(spec.hidden, spec.norm_eps, bias=False))
        put(self, "model.layers", nn.ModuleList(Layer(spec, number) for number in range(spec.layers)))
        put(self, "model.final_norm", nn.LayerNorm(spec.hidden, spec.norm_eps, bias=False))
        put(self, "head.dense", nn.Linear(spec.hidden, spec.hidden, bias=False))
        put(self, "head.norm", nn.LayerNorm(spec.hidden, spec.norm_eps, bias=False))
        self.classifier = nn.Linear(spec.hidden, len(spec.labels))

    def words(self, layout: Layout) -> Tensor:
        """(T, C) word vectors of the tokens."""
        return part(self, "model.embeddings.tok_embeddings")(layout.ids_T)

    def forward(self, words_TC: Tensor, layout: Layout, keys_LST: Tensor | None = None, again: bool = False) -> Tensor:
        """Word vectors (T, C) to logits (D, Y); ``again`` as in `remembered`."""
        spec, outside = self.spec, None if keys_LST is None else keys_LST[0]
        h_TC = embed(self, words_TC, outside, spec).to(self.low)
        h = encode(self, h_TC, layout, keys_LST, spec, again).float()
        keys_D = None if outside is None else layout.first(outside[POOLED])
        return linear(pool(self, h, layout, keys_D, spec), self, "classifier")
