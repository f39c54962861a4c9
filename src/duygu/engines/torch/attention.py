"""Scaled dot-product attention within each document, with a backward pass of its own.

    T  flat tokens      H  heads      K  head width      G  documents of a group times heads, each of length L
    J  heads of keys and values, H or fewer                P  H of queries, J of keys and J of values, side by side

The backward pass computes the probabilities again: kept, they would be most of the memory of a training step. Of
dropout one byte a probability is kept. Dao et al. (2022), arXiv:2205.14135, has the formulas. Where keys and values
have fewer heads than queries, each of theirs serves several of these, one after the other; they are repeated for one
group at a time and kept once. Ainslie et al. (2023), arXiv:2305.13245.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from duygu.engines.torch.dropout import dropout, keep_mask, masked_

Groups = tuple[tuple[int, int], ...]


def attend(qkv_T3HK: Tensor, groups: Groups, keys_TH: Tensor | None, rate: float, window: int | None = None) -> Tensor:
    """What each token takes from the tokens of its document: (T, C). Documents lie one after another in ``groups``.

    With a ``window``, only tokens at most so far to either side are seen.
    """
    sight = Sight(heads=qkv_T3HK.shape[2], window=window)
    return _Attend.apply(qkv_T3HK.flatten(1, 2), groups, keys_TH if rate else None, rate, sight).flatten(1)


def attend_causally(
    q_THK: Tensor, k_TJK: Tensor, v_TJK: Tensor, groups: Groups, keys_TH: Tensor | None, rate: float
) -> Tensor:
    """What each token takes from itself and the tokens of its document before it: (T, HK)."""
    qkv_TPK, sight = torch.cat([q_THK, k_TJK, v_TJK], dim=1), Sight(heads=q_THK.shape[1], causal=True)
    return _Attend.apply(qkv_TPK, groups, keys_TH if rate else None, rate, sight).flatten(1)


def attend_to_own(
    q_DHK: Tensor, kv_T2HK: Tensor, own_DT: Tensor, keys_DH: Tensor | None, positions_T: Tensor, rate: float
) -> Tensor:
    """What one row of each document takes from the tokens that are its own: (D, C).

    Heads that share keys and values stand below one another, as if they were more rows.
    """
    (rows, heads, _), (k_HTK, v_HTK) = q_DHK.shape, kv_T2HK.permute(1, 2, 0, 3)
    q_HDK = q_DHK.transpose(0, 1).reshape(len(k_HTK), -1, q_DHK.shape[-1])
    scores_HDT = (q_HDK @ k_HTK.mT).float() / math.sqrt(q_HDK.shape[-1])
    others_DT = ~own_DT.repeat(heads // len(k_HTK), 1)
    p_HDT = torch.softmax(scores_HDT.masked_fill(others_DT, -1e30), dim=-1).to(v_HTK.dtype)
    p_HDT = dropout(p_HDT, None if keys_DH is None else keys_DH.T.reshape(len(k_HTK), -1), rate, positions_T)
    return (p_HDT @ v_HTK).reshape(heads, rows, -1).transpose(0, 1).flatten(1)


@dataclass(frozen=True, slots=True)
class Sight:
    """How many heads ask, and what a token sees of its document."""

    heads: int
    window: int | None = None  # tokens to either side
    causal: bool = False  # none that come later

    def hidden(self, length: int, device: torch.device) -> Tensor | None:
        """(L, L) bool: which tokens a row does not see; None where it sees all."""
        places_L = torch.arange(length, device=device)
        if self.causal:
            return places_L > places_L[:, None]
        if self.window is not None and self.window < length - 1:
            return (places_L[:, None] - places_L).abs() > self.window
        return None


class _Attend(torch.autograd.Function):
    """(T, P, K) to (T, H, K)."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, qkv_TPK: Tensor, groups: Groups, keys_TH: Tensor | None, rate: float, sight: Sight
    ) -> Tensor:
        context_THK = qkv_TPK.new_empty(len(qkv_TPK), sight.heads, qkv_TPK.shape[-1])
        masks: list[Tensor | None] = []
        for part, count, length in _parts(groups):
            q_GLK, k_GLK, v_GLK = _by_head(qkv_TPK[part], count, sight.heads)
            keep_GLL = None
            if keys_TH is not None:
                features = torch.arange(length, dtype=torch.int32, device=keys_TH.device)
                keys_GL = keys_TH[part].unflatten(0, (count, length)).transpose(1, 2).flatten(0, 1)
                keep_GLL = keep_mask(keys_GL, features, rate)
            p_GLL = masked_(_probabilities(q_GLK, k_GLK, sight), keep_GLL)
            context_GLK = _product(p_GLL, v_GLK, 1.0 / (1.0 - rate) if keys_TH is not None else 1.0)
            context_THK[part] = _by_token(context_GLK, count)
            masks.append(keep_GLL)
        ctx.save_for_backward(qkv_TPK, *masks)
        ctx.groups, ctx.sight = groups, sight
        ctx.scale = 1.0 / (1.0 - rate) if keys_TH is not None else 1.0
        return context_THK

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        qkv_TPK, *masks = ctx.saved_tensors
        to_qkv_TPK = torch.empty_like(qkv_TPK)
        heads, shared = ctx.sight.heads, (qkv_TPK.shape[1] - ctx.sight.heads) // 2
        for (part, count, _), keep_GLL in zip(_parts(ctx.groups), masks, strict=True):
            q_GLK, k_GLK, v_GLK = _by_head(qkv_TPK[part], count, heads)
            g_GLK = gradients[0][part].unflatten(0, (count, -1)).transpose(1, 2).flatten(0, 1)
            p_GLL = _probabilities(q_GLK, k_GLK, ctx.sight)
            to_p_GLL = masked_(_product(g_GLK, v_GLK.mT, ctx.scale), keep_GLL)
            # p * (g - sum(g * p)), in fp32 whatever the type: what autograd calls for a softmax
            to_scores_GLL = torch.ops.aten._softmax_backward_data(to_p_GLL, p_GLL, -1, p_GLL.dtype)
            scale = 1.0 / math.sqrt(q_GLK.shape[-1])
            to_k_GLK = _product(to_scores_GLL.mT, q_GLK, scale)
            to_v_GLK = _product(masked_(p_GLL, keep_GLL).mT, g_GLK, ctx.scale)
            to_q, to_k, to_v = to_qkv_TPK[part].split((heads, shared, shared), dim=1)
            to_q.copy_(_by_token(_product(to_scores_GLL, k_GLK, scale), count))
            to_k.copy_(_by_token(_summed(to_k_GLK, heads // shared), count))
            to_v.copy_(_by_token(_summed(to_v_GLK, heads // shared), count))
        return to_qkv_TPK, None, None, None, None


def _probabilities(q_GLK: Tensor, k_GLK: Tensor, sight: Sight) -> Tensor:
    """(G, L, L): how much of each token a row takes, before dropout. The softmax computes in fp32."""
    scores_GLL = _product(q_GLK, k_GLK.mT, 1.0 / math.sqrt(q_GLK.shape[-1]))
    hidden_LL = sight.hidden(scores_GLL.shape[-1], scores_GLL.device)
    if hidden_LL is not None:
        scores_GLL.masked_fill_(hidden_LL, -1e30)
    return torch.softmax(scores_GLL, dim=-1)


def _product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """``scale * a @ b``, scaled before it is rounded."""
    return torch.baddbmm(a.new_empty(1, 1, 1), a, b, beta=0, alpha=scale)


def _parts(groups: Groups) -> Iterator[tuple[slice, int, int]]:
    """The tokens of each group, its documents, their length."""
    start = 0
    for count, length in groups:
        yield slice(start, start + count * length), count, length
        start += count * length


def _by_head(qkv: Tensor, count: int, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of one group, (G, L, K) each."""
    shared = (qkv.shape[1] - heads) // 2
    q_NHLK, k_NHLK, v_NHLK = qkv.unflatten(0, (count, -1)).transpose(1, 2).split((heads, shared, shared), dim=1)
    if heads > shared:
        k_NHLK, v_NHLK = (x.repeat_interleave(heads // shared, dim=1) for x in (k_NHLK, v_NHLK))
    return q_NHLK.flatten(0, 1), k_NHLK.flatten(0, 1), v_NHLK.flatten(0, 1)


def _summed(x_GLK: Tensor, sharing: int) -> Tensor:
    """The sum over heads that share keys and values."""
    return x_GLK if sharing == 1 else x_GLK.unflatten(0, (-1, sharing)).sum(dim=1)


def _by_token(x_GLK: Tensor, count: int) -> Tensor:
    """(G, L, K) to (count * L, H, K)."""
    return x_GLK.unflatten(0, (count, -1)).transpose(1, 2).flatten(0, 1)
