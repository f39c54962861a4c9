"""What a training step minimises, from the logits on. The JAX twin holds the same functions in the same order.

D  documents, or their windows      Y  labels
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from duygu.engines import StepKey
from duygu.recipe import Recipe
from duygu.training.plan import Batch

Classify = Callable[[StepKey | None], Tensor]  # logits of the batch; dropout by the key, without one none


def objective(classify: Classify, batch: Batch, key: StepKey | None, recipe: Recipe) -> Tensor:
    """What a microbatch adds to the step's loss.

    R-Drop, Liang et al. (2021), arXiv:2106.14448: the mean loss of two passes that differ in dropout only, and how far
    apart their answers are.
    """
    one_DY = classify(key)
    total = loss(one_DY, batch, recipe.label_smoothing)
    if key is None or not recipe.r_drop:
        return total
    other_DY = classify(key.second)
    total = (total + loss(other_DY, batch, recipe.label_smoothing)) / 2
    return total + recipe.r_drop * distance(one_DY, other_DY, batch)


def by_document(logits_DY: Tensor, batch: Batch) -> Tensor:
    """Mean logits of each document's windows; without windows, the rows are the documents.

    As many rows as windows, those that are no document's 0: so all arrays of a batch keep their lengths.
    """
    if batch.owners is None:
        return logits_DY
    owners_D = torch.from_numpy(batch.owners).to(logits_DY.device)
    own_DD = (owners_D == torch.arange(len(owners_D), device=owners_D.device)[:, None]).float()
    return own_DD @ logits_DY / own_DD.sum(dim=1, keepdim=True).clamp(min=1.0)


def loss(logits_DY: Tensor, batch: Batch, smoothing: float) -> Tensor:
    """Weighted cross-entropy over the step's normaliser, so microbatches add up to the loss of the whole step."""
    labels_D = torch.from_numpy(batch.labels).to(logits_DY.device, torch.int64)
    cross_D = F.cross_entropy(logits_DY, labels_D, reduction="none", label_smoothing=smoothing)
    return weighted(cross_D, batch)


def distance(one_DY: Tensor, other_DY: Tensor, batch: Batch) -> Tensor:
    """Mean of both directions of the Kullback-Leibler divergence between two answers, weighted as the loss is."""
    p_DY, q_DY = F.log_softmax(one_DY, dim=-1), F.log_softmax(other_DY, dim=-1)
    return weighted(((p_DY.exp() - q_DY.exp()) * (p_DY - q_DY)).sum(dim=-1) / 2, batch)


def weighted(values_D: Tensor, batch: Batch) -> Tensor:
    """The sum of each document's value times what it counts, over the step's normaliser."""
    weights_D = torch.from_numpy(batch.weights).to(values_D.device)
    return (values_D * weights_D).sum() / batch.normaliser
