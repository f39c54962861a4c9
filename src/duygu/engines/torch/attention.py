"""Scaled dot-product attention within each document, with a backward pass of its own.

    T  flat tokens      H  heads      K  head width      G  documents of a group times heads, each of length L
    J  heads of keys and values, H or fewer                P  H of queries, J of keys and J of values, side by side
    B  tokens of a block that ask         S  tokens that they see

The backward pass computes the probabilities again: kept, they would be most of the memory of a training step. Of
dropout one byte a probability is kept. Dao et al. (2022), arXiv:2205.14135, has the formulas. Where keys and values
have fewer heads than queries, each of theirs serves several of these, one after the other; they are repeated for one
group at a time and kept once. Ainslie et al. (2023), arXiv:2305.13245.

In long documents one block of tokens asks after another, and looks only where it can see; their masks are hashed again.
So memory does not grow with length squared, and where layers are local, neither does time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from duygu.engines.torch.dropout import dropout, keep_mask, masked_

BLOCK = 128  # tokens that ask at a time in a long document
LONG = 2048  # tokens from which a document is long where all of it is seen: scores of 12 heads in fp32 take 192 MiB

Groups = tuple[tuple[int, int], ...]


def attend(qkv_T3HK: Tensor, groups: Groups, keys_TH: Tensor | None, rate: float, window: int | None = None) -> Tensor:
    """What each token takes from the tokens of its document: (T, C). Documents lie one after another in ``groups``.

    With a ``window``, only tokens at most so far to either side are seen. Long documents come first in ``groups``.
    """
    return _attend(qkv_T3HK.flatten(1, 2), groups, keys_TH, rate, Sight(qkv_T3HK.shape[2], window))


def attend_causally(
    q_THK: Tensor, k_TJK: Tensor, v_TJK: Tensor, groups: Groups, keys_TH: Tensor | None, rate: float
) -> Tensor:
    """What each token takes from itself and the tokens of its document before it: (T, HK)."""
    qkv_TPK = torch.cat([q_THK, k_TJK, v_TJK], dim=1)
    return _attend(qkv_TPK, groups, keys_TH, rate, Sight(q_THK.shape[1], causal=True))


def is_long(length: int, window: int | None) -> bool:
    """Whether block after block asks: where all is seen in long documents, else where that halves the scores."""
    return length > LONG or (window is not None and length >= 2 * (BLOCK + 2 * window))


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
    window: int | None = None  # tokens to either side; a causal one sees all before
    causal: bool = False  # none that come later

    def blocks(self, length: int) -> Iterator[tuple[slice, slice]]:
        """The rows that ask, block after block, and the tokens that they see."""
        before = length if self.window is None else self.window
        after = 0 if self.causal else before
        for first in range(0, length, BLOCK):
            end = min(first + BLOCK, length)
            yield slice(first, end), slice(max(0, first - before), min(length, end + after))

    def hidden(self, rows: int, seen: int, ahead: int, device: torch.device) -> Tensor | None:
        """(B, S) bool: which of the tokens in view each row does not see; None where all see all.

        The first row stands ``ahead`` of the first token in view.
        """
        window = self.window
        if not self.causal and (window is None or window >= max(ahead + rows, seen - ahead) - 1):
            return None
        back_BS = torch.arange(ahead, ahead + rows, device=device)[:, None] - torch.arange(seen, device=device)
        return back_BS < 0 if window is None else back_BS.abs() > window


def _attend(qkv_TPK: Tensor, groups: Groups, keys_TH: Tensor | None, rate: float, sight: Sight) -> Tensor:
    """Long documents in blocks, the others at once."""
    keys_TH = keys_TH if rate else None
    long = tuple(takewhile(lambda group: is_long(group[1], sight.window), groups))
    if not long:
        return _Attend.apply(qkv_TPK, groups, keys_TH, rate, sight).flatten(1)
    tokens = sum(count * length for count, length in long)
    sizes = [tokens, len(qkv_TPK) - tokens]
    qkvs, keys = qkv_TPK.split(sizes), [None, None] if keys_TH is None else keys_TH.split(sizes)
    context_THK = _AttendInBlocks.apply(qkvs[0], long, keys[0], rate, sight)
    if sizes[1]:
        rest_THK = _Attend.apply(qkvs[1], groups[len(long) :], keys[1], rate, sight)
        context_THK = torch.cat([context_THK, rest_THK])
    return context_THK.flatten(1)


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
                keep_GLL = keep_mask(_keys_by_head(keys_TH[part], count), features, rate)
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
        for (part, count, _), keep_GLL in zip(_parts(ctx.groups), masks, strict=True):
            q_GLK, k_GLK, v_GLK = _by_head(qkv_TPK[part], count, ctx.sight.heads)
            g_GLK = gradients[0][part].unflatten(0, (count, -1)).transpose(1, 2).flatten(0, 1)
            p_GLL = _probabilities(q_GLK, k_GLK, ctx.sight)
            to_p_GLL = masked_(_product(g_GLK, v_GLK.mT, ctx.scale), keep_GLL)
            # p * (g - sum(g * p)), in fp32 whatever the type: what autograd calls for a softmax
            to_scores_GLL = torch.ops.aten._softmax_backward_data(to_p_GLL, p_GLL, -1, p_GLL.dtype)
            scale = 1.0 / math.sqrt(q_GLK.shape[-1])
            to_q_GLK = _product(to_scores_GLL, k_GLK, scale)
            to_k_GLK = _product(to_scores_GLL.mT, q_GLK, scale)
            to_v_GLK = _product(masked_(p_GLL, keep_GLL).mT, g_GLK, ctx.scale)
            _put_by_token(to_qkv_TPK[part], (to_q_GLK, to_k_GLK, to_v_GLK), count, ctx.sight.heads)
        return to_qkv_TPK, None, None, None, None


class _AttendInBlocks(torch.autograd.Function):
    """(T, P, K) to (T, H, K), block after block."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, qkv_TPK: Tensor, groups: Groups, keys_TH: Tensor | None, rate: float, sight: Sight
    ) -> Tensor:
        context_THK = qkv_TPK.new_empty(len(qkv_TPK), sight.heads, qkv_TPK.shape[-1])
        scale = 1.0 / (1.0 - rate) if keys_TH is not None else 1.0
        for part, count, length in _parts(groups):
            q_GLK, k_GLK, v_GLK = _by_head(qkv_TPK[part], count, sight.heads)
            keys_GL = None if keys_TH is None else _keys_by_head(keys_TH[part], count)
            context_GLK = torch.empty_like(q_GLK)
            for rows, seen in sight.blocks(length):
                p_GBS = _probabilities(q_GLK[:, rows], k_GLK[:, seen], sight, rows.start - seen.start)
                p_GBS = masked_(p_GBS, _keep(keys_GL, rows, seen, rate))
                context_GLK[:, rows] = _product(p_GBS, v_GLK[:, seen], scale)
            context_THK[part] = _by_token(context_GLK, count)
        ctx.save_for_backward(qkv_TPK, keys_TH)
        ctx.groups, ctx.rate, ctx.sight, ctx.scale = groups, rate, sight, scale
        return context_THK

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        qkv_TPK, keys_TH = ctx.saved_tensors
        to_qkv_TPK = torch.empty_like(qkv_TPK)
        for part, count, length in _parts(ctx.groups):
            q_GLK, k_GLK, v_GLK = _by_head(qkv_TPK[part], count, ctx.sight.heads)
            keys_GL = None if keys_TH is None else _keys_by_head(keys_TH[part], count)
            g_GLK = gradients[0][part].unflatten(0, (count, length)).transpose(1, 2).flatten(0, 1)
            to_q_GLK = torch.empty_like(q_GLK)
            to_k_GLK, to_v_GLK = (torch.zeros_like(x, dtype=torch.float32) for x in (k_GLK, v_GLK))  # sums of blocks
            scale = 1.0 / math.sqrt(q_GLK.shape[-1])
            for rows, seen in ctx.sight.blocks(length):
                q_GBK, k_GSK, g_GBK = q_GLK[:, rows], k_GLK[:, seen], g_GLK[:, rows]
                keep_GBS = _keep(keys_GL, rows, seen, ctx.rate)
                p_GBS = _probabilities(q_GBK, k_GSK, ctx.sight, rows.start - seen.start)
                to_p_GBS = masked_(_product(g_GBK, v_GLK[:, seen].mT, ctx.scale), keep_GBS)
                to_scores_GBS = torch.ops.aten._softmax_backward_data(to_p_GBS, p_GBS, -1, p_GBS.dtype)
                to_q_GLK[:, rows] = _product(to_scores_GBS, k_GSK, scale)
                to_k_GLK[:, seen] += _product(to_scores_GBS.mT, q_GBK, scale)
                to_v_GLK[:, seen] += _product(masked_(p_GBS, keep_GBS).mT, g_GBK, ctx.scale)
            _put_by_token(to_qkv_TPK[part], (to_q_GLK, to_k_GLK, to_v_GLK), count, ctx.sight.heads)
        return to_qkv_TPK, None, None, None, None


def _keep(keys_GL: Tensor | None, rows: slice, seen: slice, rate: float) -> Tensor | None:
    """(G, B, S): the part of a document's mask that a block needs."""
    if keys_GL is None:
        return None
    features_S = torch.arange(seen.start, seen.stop, dtype=torch.int32, device=keys_GL.device)
    return keep_mask(keys_GL[:, rows], features_S, rate)


def _probabilities(q_GBK: Tensor, k_GSK: Tensor, sight: Sight, ahead: int = 0) -> Tensor:
    """(G, B, S): how much of each token a row takes, before dropout. The softmax computes in fp32.

    The first row stands ``ahead`` of the first token in view.
    """
    scores_GBS = _product(q_GBK, k_GSK.mT, 1.0 / math.sqrt(q_GBK.shape[-1]))
    rows, seen = scores_GBS.shape[1:]
    hidden_BS = sight.hidden(rows, seen, ahead, scores_GBS.device)
    if hidden_BS is not None:
        scores_GBS.masked_fill_(hidden_BS, -1e30)
    return torch.softmax(scores_GBS, dim=-1)


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


def _keys_by_head(keys_TH: Tensor, count: int) -> Tensor:
    """Keys of the rows of one group, (G, L)."""
    return keys_TH.unflatten(0, (count, -1)).transpose(1, 2).flatten(0, 1)


def _by_token(x_GLK: Tensor, count: int) -> Tensor:
    """(G, L, K) to (count * L, H, K)."""
    return x_GLK.unflatten(0, (count, -1)).transpose(1, 2).flatten(0, 1)


def _put_by_token(out_TPK: Tensor, qkv_GLK: tuple[Tensor, Tensor, Tensor], count: int, heads: int) -> None:
    """Gradients by head into those by token, summed over heads that share keys and values."""
    shared = (out_TPK.shape[1] - heads) // 2
    for out, x_GLK in zip(out_TPK.split((heads, shared, shared), dim=1), qkv_GLK, strict=True):
        sharing = heads // out.shape[1]
        out.copy_(_by_token(x_GLK if sharing == 1 else x_GLK.unflatten(0, (-1, sharing)).sum(dim=1), count))
