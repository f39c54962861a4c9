"""What a training step minimises, from the logits on. The PyTorch twin holds the same functions in the same order.

T  flat tokens      D  documents, or their windows      Y  labels
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import Array

from duygu.engines.jax.bert import Layout
from duygu.recipe import Recipe

Key = tuple[Array, Array]  # seed and step
Classify = Callable[[Key | None], Array]  # logits of the batch; dropout by the key, without one none


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["layout", "token_numbers_T", "labels_D", "weights_D", "normaliser", "owners_D"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Arrays:
    """A batch as compiled functions take it."""

    layout: Layout
    token_numbers_T: Array
    labels_D: Array
    weights_D: Array
    normaliser: Array
    owners_D: Array | None  # where rows are windows


def objective(classify: Classify, batch: Arrays, key: Key | None, recipe: Recipe) -> Array:
    """What a microbatch adds to the step's loss.

    R-Drop, Liang et al. (2021), arXiv:2106.14448: the mean loss of two passes that differ in dropout only, and how far
    apart their answers are.
    """
    one_DY = classify(key)
    total = loss(one_DY, batch, recipe.label_smoothing)
    if key is None or not recipe.r_drop:
        return total
    other_DY = classify(second(key))
    total = (total + loss(other_DY, batch, recipe.label_smoothing)) / 2
    return total + recipe.r_drop * distance(one_DY, other_DY, batch)


def by_document(logits_DY: Array, batch: Arrays) -> Array:
    """Mean logits of each document's windows; without windows, the rows are the documents.

    As many rows as windows, those that are no document's 0: so all arrays of a batch keep their lengths.
    """
    if batch.owners_D is None:
        return logits_DY
    own_DD = (batch.owners_D == jnp.arange(len(batch.owners_D))[:, None]).astype(jnp.float32)
    return own_DD @ logits_DY / jnp.maximum(own_DD.sum(axis=1, keepdims=True), 1.0)


def loss(logits_DY: Array, batch: Arrays, smoothing: float) -> Array:
    """Weighted cross-entropy over the step's normaliser, so microbatches add up to the loss of the whole step."""
    cross_D = optax.softmax_cross_entropy_with_integer_labels(logits_DY, batch.labels_D)
    if smoothing:
        cross_D = (1.0 - smoothing) * cross_D - smoothing * jax.nn.log_softmax(logits_DY).mean(axis=-1)
    return weighted(cross_D, batch)


def distance(one_DY: Array, other_DY: Array, batch: Arrays) -> Array:
    """Mean of both directions of the Kullback-Leibler divergence between two answers, weighted as the loss is."""
    p_DY, q_DY = jax.nn.log_softmax(one_DY), jax.nn.log_softmax(other_DY)
    return weighted(((jnp.exp(p_DY) - jnp.exp(q_DY)) * (p_DY - q_DY)).sum(axis=-1) / 2, batch)


def weighted(values_D: Array, batch: Arrays) -> Array:
    """The sum of each document's value times what it counts, over the step's normaliser."""
    return (values_D * batch.weights_D).sum() / batch.normaliser


def second(key: Key) -> Key:
    """`StepKey.second`."""
    seed, step = key
    return seed, -step
