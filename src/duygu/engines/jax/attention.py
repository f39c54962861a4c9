"""Scaled dot-product attention within each document, with a backward pass of its own.

    N  documents of a group, each padded to length L, with Q rows that ask (or, of the last layer, 1 stretch of L = T
       tokens with Q = D)               H  heads        K  head width       J  heads of keys and values, H or fewer

For a GPU, and for the few rows of the last layer; `blocks` is for the many rows of the others on a CPU. The backward
pass computes the scores again: kept, they would be most of the memory of a training step. It follows Dao et
al. (2022), arXiv:2205.14135, appendix B, with dropout on the probabilities. All between the products is fp32. Where
keys and values have fewer heads than queries, each of theirs serves several of these, one after the other. Ainslie et
al. (2023), arXiv:2305.13245.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from duygu.engines.jax.dropout import dropout
from duygu.engines.jax.linear import keep, product, transposed

Inputs = tuple[Array, Array, Array, Array, Array | None]
Saved = tuple[Inputs, Array | None, Array]
Gradients = tuple[Array, Array, Array, None, None]


def attend(
    q_NQHK: Array,
    k_NLJK: Array,
    v_NLJK: Array,
    seen_NQL: Array,
    keys_NQH: Array | None,
    positions_L: Array | None,
    rate: float,
) -> Array:
    """What each row that asks takes from the tokens it sees (``seen_NQL``, Q or 1 rows): (N, Q, C).

    Dropout is a function of a token's position in its document: 0 to L - 1 without ``positions_L``.
    """
    context_NQHK: Array = _attend((q_NQHK, k_NLJK, v_NLJK, seen_NQL, keys_NQH), positions_L, rate)
    return context_NQHK.reshape(*context_NQHK.shape[:2], -1)


def probabilities(q_HQK: Array, k_HLK: Array, seen_QL: Array) -> Array:
    """(H, Q, L): how much of each token a row takes, before dropout."""
    scores_HQL = product(q_HQK, k_HLK, (2, 2), batch=1) / math.sqrt(q_HQK.shape[-1])
    return jax.nn.softmax(jnp.where(seen_QL, scores_HQL, -1e30), axis=-1)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _attend(inputs: Inputs, positions_L: Array | None, rate: float) -> Array:
    def one(inputs: Inputs) -> Array:
        q_HQK, k_HLK, v_HLK, seen_QL, keys_HQ = _by_head(inputs)
        p_HQL = dropout(probabilities(q_HQK, k_HLK, seen_QL), keys_HQ, rate, positions_L).astype(v_HLK.dtype)
        return product(p_HQL, v_HLK, (2, 1), batch=1).swapaxes(0, 1).astype(v_HLK.dtype)

    return jax.vmap(one)(inputs)


def _forward(inputs: Inputs, positions_L: Array | None, rate: float) -> tuple[Array, Saved]:
    context_NQHK = keep(_attend(inputs, positions_L, rate))
    return context_NQHK, (inputs, positions_L, context_NQHK)


def _backward(rate: float, saved: Saved, g_NQHK: Array) -> tuple[Gradients, None]:
    inputs, positions_L, context_NQHK = saved

    def one(arguments: tuple[Inputs, Array, Array]) -> tuple[Array, Array, Array]:
        inputs, context_QHK, g_QHK = arguments
        shared = inputs[1].shape[1]
        q_HQK, k_HLK, v_HLK, seen_QL, keys_HQ = _by_head(inputs)
        low, g_HQK = v_HLK.dtype, g_QHK.swapaxes(0, 1)
        p_HQL = probabilities(q_HQK, k_HLK, seen_QL)
        p_gradient_HQL = dropout(product(g_HQK, v_HLK, (2, 2), batch=1), keys_HQ, rate, positions_L)
        along_HQ = (g_HQK.astype(jnp.float32) * context_QHK.swapaxes(0, 1).astype(jnp.float32)).sum(axis=-1)
        scores_HQL = p_HQL * (p_gradient_HQL - along_HQ[..., None]) / math.sqrt(q_HQK.shape[-1])
        dropped_HQL = dropout(p_HQL, keys_HQ, rate, positions_L).astype(low)
        q_gradient_HQK = product(scores_HQL.astype(low), k_HLK, (2, 1), batch=1)
        k_gradient_HKL = product(transposed(q_HQK), scores_HQL.astype(low), (2, 1), batch=1)
        v_gradient_HKL = product(transposed(g_HQK), dropped_HQL, (2, 1), batch=1)
        return (
            q_gradient_HQK.transpose(1, 0, 2).astype(low),
            summed(k_gradient_HKL, shared).transpose(2, 0, 1).astype(low),
            summed(v_gradient_HKL, shared).transpose(2, 0, 1).astype(low),
        )

    return (*jax.vmap(one)((inputs, context_NQHK, g_NQHK)), None, None), None


_attend.defvjp(_forward, _backward)


def _by_head(inputs: Inputs) -> Inputs:
    """One document's (Q, H, K), (L, J, K), (L, J, K), (Q, L) and (Q, H) with the heads first, H of each."""
    q_QHK, k_LJK, v_LJK, seen_QL, keys_QH = inputs
    q_HQK, heads = q_QHK.swapaxes(0, 1), q_QHK.shape[1]
    k_HLK, v_HLK = repeated(k_LJK.swapaxes(0, 1), heads), repeated(v_LJK.swapaxes(0, 1), heads)
    return q_HQK, k_HLK, v_HLK, seen_QL, None if keys_QH is None else keys_QH.T


def repeated(x_J: Array, heads: int) -> Array:
    """(J, ...) to (heads, ...): each head as often as others share it."""
    return x_J if len(x_J) == heads else jnp.repeat(x_J, heads // len(x_J), axis=0)


def summed(x_H: Array, shared: int) -> Array:
    """(H, ...) to (shared, ...): the sum over heads that share keys and values."""
    return x_H if len(x_H) == shared else x_H.reshape(shared, -1, *x_H.shape[1:]).sum(axis=1)
