"""Scaled dot-product attention within each document, with a backward pass of its own.

    T  flat tokens      H  heads      K  head width      G  documents of a group times heads, each of length L

The backward pass computes the probabilities again: kept, they would be most of the memory of a training step. Of
dropout one byte a probability is kept. Dao et al. (2022), arXiv:2205.14135, has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from duygu.engines.torch.dropout import dropout, keep_mask, masked_

Groups = tuple[tuple[int, int], ...]


def attend(qkv_T3HK: Tensor, groups: Groups, keys_TH: Tensor | None, rate: float, window: int | None = None) -> Tensor:
    """What each token takes from the tokens of its document: (T, C). Documents lie one after another in ``groups``.

    With a ``window``, only tokens at most so far to either side are seen.
    """
    return _Attend.apply(qkv_T3HK, groups, keys_TH if rate else None, rate, window).flatten(1)


def attend_to_own(
    q_DHK: Tensor, kv_T2HK: Tensor, own_DT: Tensor, keys_DH: Tensor | None, positions_T: Tensor, rate: float
) -> Tensor:
    """What one row of each document takes from the tokens that are its own: (D, C)."""
    q_HDK, k_HTK, v_HTK = q_DHK.transpose(0, 1), *kv_T2HK.permute(1, 2, 0, 3)
    scores_HDT = (q_HDK @ k_HTK.mT).float() / math.sqrt(q_HDK.shape[-1])
    p_HDT = torch.softmax(scores_HDT.masked_fill(~own_DT, -1e30), dim=-1).to(v_HTK.dtype)
    p_HDT = dropout(p_HDT, None if keys_DH is None else keys_DH.T, rate, positions_T)
    return (p_HDT @ v_HTK).transpose(0, 1).flatten(1)


class _Attend(torch.autograd.Function):
    """(T, 3, H, K) to (T, H, K)."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, qkv_T3HK: Tensor, groups: Groups, keys_TH: Tensor | None, rate: float, window: int | None
    ) -> Tensor:
        tokens, _, heads, width = qkv_T3HK.shape
        context_THK = qkv_T3HK.new_empty(tokens, heads, width)
        masks: list[Tensor | None] = []
        for part, count, length in _parts(groups):
            q_GLK, k_GLK, v_GLK = _by_head(qkv_T3HK[part], count)
            keep_GLL = None
            if keys_TH is not None:
                features = torch.arange(length, dtype=torch.int32, device=keys_TH.device)
                keys_GL = keys_TH[part].unflatten(0, (count, length)).transpose(1, 2).flatten(0, 1)
                keep_GLL = keep_mask(keys_GL, features, rate)
            p_GLL = masked_(_probabilities(q_GLK, k_GLK, window), keep_GLL)
            context_GLK = _product(p_GLL, v_GLK, 1.0 / (1.0 - rate) if keys_TH is not None else 1.0)
            context_THK[part] = _by_token(context_GLK, count)
            masks.append(keep_GLL)
        ctx.save_for_backward(qkv_T3HK, *masks)
        ctx.groups, ctx.window = groups, window
        ctx.scale = 1.0 / (1.0 - rate) if keys_TH is not None else 1.0
        return context_THK

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        qkv_T3HK, *masks = ctx.saved_tensors
        to_qkv_T3HK = torch.empty_like(qkv_T3HK)
        for (part, count, _), keep_GLL in zip(_parts(ctx.groups), masks, strict=True):
            q_GLK, k_GLK, v_GLK = _by_head(qkv_T3HK[part], count)
            g_GLK = gradients[0][part].unflatten(0, (count, -1)).transpose(1, 2).flatten(0, 1)
            p_GLL = _probabilities(q_GLK, k_GLK, ctx.window)
            to_p_GLL = masked_(_product(g_GLK, v_GLK.mT, ctx.scale), keep_GLL)
            # p * (g - sum(g * p)), in fp32 whatever the type: what autograd calls for a softmax
            to_scores_GLL = torch.ops.aten._softmax_backward_data(to_p_GLL, p_GLL, -1, p_GLL.dtype)
            scale = 1.0 / math.sqrt(q_GLK.shape[-1])
            to_qkv_T3HK[part, 0] = _by_token(_product(to_scores_GLL, k_GLK, scale), count)
            to_qkv_T3HK[part, 1] = _by_token(_product(to_scores_GLL.mT, q_GLK, scale), count)
            to_qkv_T3HK[part, 2] = _by_token(_product(masked_(p_GLL, keep_GLL).mT, g_GLK, ctx.scale), count)
        return to_qkv_T3HK, None, None, None, None


def _probabilities(q_GLK: Tensor, k_GLK: Tensor, window: int | None) -> Tensor:
    """(G, L, L): how much of each token a row takes, before dropout. The softmax computes in fp32."""
    scores_GLL = _product(q_GLK, k_GLK.mT, 1.0 / math.sqrt(q_GLK.shape[-1]))
    length = scores_GLL.shape[-1]
    if window is not None and window < length - 1:
        places_L = torch.arange(length, device=scores_GLL.device)
        scores_GLL.masked_fill_((places_L[:, None] - places_L).abs() > window, -1e30)
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


def _by_head(qkv: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of one group, (G, L, K) each."""
    q_GLK, k_GLK, v_GLK = qkv.unflatten(0, (count, -1)).permute(2, 0, 3, 1, 4).flatten(1, 2)
    return q_GLK, k_GLK, v_GLK


def _by_token(x_GLK: Tensor, count: int) -> Tensor:
    """(G, L, K) to (count * L, H, K)."""
    return x_GLK.unflatten(0, (count, -1)).transpose(1, 2).flatten(0, 1)
