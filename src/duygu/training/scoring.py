"""Logits of every document exactly once, in the order asked for, whatever order they were computed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from duygu.data.tokens import Encoded
from duygu.engines import Engine, State
from duygu.training.plan import FloatArray, IntArray, Shape, assemble


def score(
    engine: Engine,
    state: State,
    encoded: Encoded,
    labels: IntArray,
    batches: Iterable[tuple[IntArray, Shape]],
    advance: Callable[[int], None] | None = None,
) -> tuple[IntArray, FloatArray]:
    """Document numbers (N,), ascending, and their logits (N, labels), for the batches of `evaluation_batches`.

    ``advance`` is told the number of documents after every forward pass.
    """
    numbers: list[IntArray] = []
    logits: list[NDArray[np.float32]] = []
    for documents, shape in batches:
        batch = assemble(encoded.take(documents), documents, labels[documents], shape)
        real = batch.numbers >= 0
        numbers.append(batch.numbers[real])
        logits.append(engine.logits(state, batch)[real])
        if advance is not None:
            advance(len(documents))
    order = np.argsort(np.concatenate(numbers), kind="stable")
    return np.concatenate(numbers)[order], np.concatenate(logits)[order]
