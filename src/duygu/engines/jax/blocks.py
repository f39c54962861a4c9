"""Attention for a CPU: within each document, block by block, so that the scores of a block never leave the cache.

    T  flat tokens      H  heads      K  head width      B  tokens of a block
    J  heads of keys and values, H or fewer              P  H of queries, J of keys and J of values, side by side

The loops run over the blocks that a document really has, so nothing is computed for the longest one's sake, memory does
not grow with length squared, and one compiled body serves documents of every length. Dao et al. (2022),
arXiv:2205.14135, is the method; dropout is that of `dropout`. Rows of a block beyond its document belong to the next
documents: what is written there is written again when their turn comes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import dynamic_slice_in_dim as cut
from jax.lax import dynamic_update_slice_in_dim as put
from jax.lax import fori_loop

from duygu.engines.jax.attention import repeated, summed
from duygu.engines.jax.dropout import dropout
from duygu.engines.jax.linear import keep, product, transposed

BLOCK = 128  # scores of 12 heads in fp32 are then 768 KiB: a core's second-level cache

Inputs = tuple[Array, Array, Array, Array | None, Array | None]
Saved = tuple[Inputs, Array, Array]


@dataclass(frozen=True, slots=True)
class Kind:
    """What is constant in a compiled function."""

    rate: float  # of dropout
    heads: int  # that ask
    causal: bool = False  # whether a token sees none that come later


def attend_in_blocks(
    qkv_T3HK: Array,
    starts_D: Array,
    lengths_D: Array,
    keys_TH: Array | None,
    rate: float,
    window: Array | None = None,
) -> Array:
    """What each token takes from the tokens of its document: (T, C). The softmax is in fp32.

    With a ``window``, only tokens at most so far to either side are seen, and blocks without any are not computed.
    """
    tokens, _, heads, width = qkv_T3HK.shape
    inputs = (qkv_T3HK.reshape(tokens, -1, width), starts_D, lengths_D, keys_TH, window)
    context_HTK: Array = _attend(inputs, Kind(rate, heads))
    return context_HTK.swapaxes(0, 1).reshape(tokens, -1)


def attend_causally_in_blocks(
    q_THK: Array, k_TJK: Array, v_TJK: Array, starts_D: Array, lengths_D: Array, keys_TH: Array | None, rate: float
) -> Array:
    """What each token takes from itself and the tokens before it: (T, HK); later blocks are left out."""
    inputs = (jnp.concatenate([q_THK, k_TJK, v_TJK], axis=1), starts_D, lengths_D, keys_TH, None)
    context_HTK: Array = _attend(inputs, Kind(rate, q_THK.shape[1], causal=True))
    return context_HTK.swapaxes(0, 1).reshape(len(q_THK), -1)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _attend(inputs: Inputs, kind: Kind) -> Array:
    return _forward(inputs, kind)[0]


def _forward(inputs: Inputs, kind: Kind) -> tuple[Array, Saved]:
    qkv_TPK, starts_D, lengths_D, keys_TH, window = inputs
    q_HTK, k_JTK, v_JTK = _by_head(qkv_TPK, kind.heads)
    keys_HT = None if keys_TH is None else _padded(keys_TH.T)
    blocks_D = -(-lengths_D // BLOCK)

    def document(d: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
        def rows(i: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
            at = starts_D[d] + i * BLOCK
            q_HBK, keys_HB = _rows(q_HTK, at), _keys(keys_HT, at)

            def columns(j: Array, running: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
                k_HBK, v_HBK = (repeated(_rows(x, starts_D[d] + j * BLOCK), kind.heads) for x in (k_JTK, v_JTK))
                seen = _seen(_positions(i), _positions(j), lengths_D[d], window, kind.causal)
                scores_HBB = _scores(q_HBK, k_HBK, seen)
                return _running_softmax(running, scores_HBB, v_HBK, keys_HB, _positions(j), kind.rate)

            first, end = _near(i, blocks_D[d], window)
            end = jnp.minimum(end, i + 1) if kind.causal else end
            top_HB, total_HB, sum_HBK = fori_loop(first, end, columns, _nothing(q_HBK))
            context_HBK = (sum_HBK / total_HB[..., None]).astype(qkv_TPK.dtype)
            return put(found[0], context_HBK, at, 1), put(found[1], top_HB + jnp.log(total_HB), at, 1)

        return fori_loop(0, blocks_D[d], rows, found)

    empty = jnp.zeros(q_HTK.shape, qkv_TPK.dtype), jnp.zeros(q_HTK.shape[:2])
    context_HTK, log_total_HT = fori_loop(0, len(starts_D), document, empty)
    context_HTK = keep(context_HTK[:, : len(qkv_TPK)])
    return context_HTK, (inputs, context_HTK, keep(log_total_HT))


def _backward(kind: Kind, saved: Saved, g_HTK: Array) -> tuple[tuple[Array, None, None, None, None]]:
    (qkv_TPK, starts_D, lengths_D, keys_TH, window), context_HTK, log_total_HT = saved
    low, tokens, rate = qkv_TPK.dtype, len(qkv_TPK), kind.rate
    q_HTK, k_JTK, v_JTK = _by_head(qkv_TPK, kind.heads)
    shared = len(k_JTK)
    along_HT = _padded((g_HTK.astype(jnp.float32) * context_HTK.astype(jnp.float32)).sum(axis=-1))
    g_HTK = _padded(g_HTK)
    q_HKT, g_HKT = transposed(q_HTK), transposed(g_HTK)
    keys_HT = None if keys_TH is None else _padded(keys_TH.T)
    blocks_D = -(-lengths_D // BLOCK)

    def document(d: Array, found: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        def columns(j: Array, found: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            at = starts_D[d] + j * BLOCK
            k_HBK, v_HBK = repeated(_rows(k_JTK, at), kind.heads), repeated(_rows(v_JTK, at), kind.heads)

            def rows(i: Array, running: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
                to_q_HTK, to_k_HKB, to_v_HKB = running
                here = starts_D[d] + i * BLOCK
                keys_HB = _keys(keys_HT, here)
                seen = _seen(_positions(i), _positions(j), lengths_D[d], window, kind.causal)
                scores_HBB = _scores(_rows(q_HTK, here), k_HBK, seen)
                p_HBB = jnp.exp(scores_HBB - _rows(log_total_HT, here)[..., None])
                p_HBB = jnp.where((_positions(i) < lengths_D[d])[:, None], p_HBB, 0)
                dropped_HBB = dropout(p_HBB, keys_HB, rate, _positions(j)).astype(low)
                to_p_HBB = dropout(product(_rows(g_HTK, here), v_HBK, (2, 2), 1), keys_HB, rate, _positions(j))
                to_scores_HBB = p_HBB * (to_p_HBB - _rows(along_HT, here)[..., None])
                to_scores_HBB = (to_scores_HBB / math.sqrt(q_HTK.shape[-1])).astype(low)
                to_q_HBK = _rows(to_q_HTK, here) + product(to_scores_HBB, k_HBK, (2, 1), 1)
                to_k_HKB += product(cut(q_HKT, here, BLOCK, 2), to_scores_HBB, (2, 1), 1)
                to_v_HKB += product(cut(g_HKT, here, BLOCK, 2), dropped_HBB, (2, 1), 1)
                return put(to_q_HTK, to_q_HBK, here, 1), to_k_HKB, to_v_HKB

            nothing_HKB = jnp.zeros((*k_HBK.shape[::2], BLOCK))
            begun = found[0], nothing_HKB, nothing_HKB
            first, end = _near(j, blocks_D[d], window)
            first = jnp.maximum(first, j) if kind.causal else first
            to_q_HTK, to_k_HKB, to_v_HKB = fori_loop(first, end, rows, begun)
            to_k_JKB, to_v_JKB = summed(to_k_HKB, shared), summed(to_v_HKB, shared)
            return to_q_HTK, put(found[1], to_k_JKB, at, 2), put(found[2], to_v_JKB, at, 2)

        return fori_loop(0, blocks_D[d], columns, found)

    nothing_JKT = jnp.zeros((shared, *q_HKT.shape[1:]))
    to_q_HTK, to_k_JKT, to_v_JKT = fori_loop(0, len(starts_D), document, (jnp.zeros(q_HTK.shape), *[nothing_JKT] * 2))
    parts = to_q_HTK.transpose(1, 0, 2), to_k_JKT.transpose(2, 0, 1), to_v_JKT.transpose(2, 0, 1)
    return ((jnp.concatenate(parts, axis=1)[:tokens].astype(low), None, None, None, None),)


_attend.defvjp(_forward, _backward)


def _running_softmax(
    running: tuple[Array, Array, Array],
    scores_HBB: Array,
    v_HBK: Array,
    keys_HB: Array | None,
    positions_B: Array,
    rate: float,
) -> tuple[Array, Array, Array]:
    """One more block of columns: the highest score so far, the total of the exponentials, the weighted sum."""
    top_HB, total_HB, sum_HBK = running
    new_HB = jnp.maximum(top_HB, scores_HBB.max(axis=-1))
    p_HBB, shrink_HB = jnp.exp(scores_HBB - new_HB[..., None]), jnp.exp(top_HB - new_HB)
    more_HBK = product(dropout(p_HBB, keys_HB, rate, positions_B).astype(v_HBK.dtype), v_HBK, (2, 1), 1)
    return new_HB, total_HB * shrink_HB + p_HBB.sum(axis=-1), sum_HBK * shrink_HB[..., None] + more_HBK


def _nothing(q_HBK: Array) -> tuple[Array, Array, Array]:
    none_HB = jnp.zeros(q_HBK.shape[:2])
    return none_HB - 1e30, none_HB, jnp.zeros(q_HBK.shape)


def _seen(rows_B: Array, columns_B: Array, length: Array, window: Array | None, causal: bool) -> Array:
    """(B,) or (B, B) bool: which columns are of the document, and which rows see them."""
    real_B, after_BB = columns_B < length, rows_B[:, None] - columns_B
    if causal:
        return real_B & (after_BB >= 0)
    return real_B if window is None else real_B & (jnp.abs(after_BB) <= window)


def _near(block: Array, blocks: Array, window: Array | None) -> tuple[Array | int, Array]:
    """First and end of the blocks that are within reach of one; the same asked from rows and from columns."""
    if window is None:
        return 0, blocks
    first, end = block * BLOCK - window, (block + 1) * BLOCK + window
    return jnp.maximum(0, first // BLOCK), jnp.minimum(blocks, -(-end // BLOCK))


def _scores(q_HBK: Array, k_HBK: Array, seen: Array) -> Array:
    """(H, B, B) fp32: a score for each row and column, those that are not seen masked."""
    return jnp.where(seen, product(q_HBK, k_HBK, (2, 2), 1) / math.sqrt(q_HBK.shape[-1]), -1e30)


def _positions(block: Array) -> Array:
    """(B,) positions in its document of a block's tokens."""
    return block * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32)


def _by_head(qkv_TPK: Array, heads: int) -> tuple[Array, Array, Array]:
    """Queries (H, T + B, K), keys and values (J, T + B, K)."""
    parts = jnp.split(qkv_TPK, [heads, (heads + qkv_TPK.shape[1]) // 2], axis=1)
    q_HTK, k_JTK, v_JTK = (_padded(part.swapaxes(0, 1)) for part in parts)
    return q_HTK, k_JTK, v_JTK


def _padded(x: Array) -> Array:
    """(H, T, ...) with a block of room after the last token."""
    return jnp.pad(x, ((0, 0), (0, BLOCK), *[(0, 0)] * (x.ndim - 2)))


def _rows(x: Array, at: Array) -> Array:
    """A block of (H, T, ...)."""
    return cut(x, at, BLOCK, 1)


def _keys(keys_HT: Array | None, at: Array) -> Array | None:
    return None if keys_HT is None else _rows(keys_HT, at)
