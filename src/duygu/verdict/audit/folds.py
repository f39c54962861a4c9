"""Answers for every document by a model that has seen neither it nor a copy of it."""

from __future__ import annotations

import numpy as np

from duygu.data.split import IntArray, allocate
from duygu.verdict.audit.findings import Subject
from duygu.verdict.baselines import Predict
from duygu.verdict.metrics import FloatArray

FOLDS = 5
LIMIT = 5_000  # documents; of more a part is drawn, which shows the same and takes no hour
SEED = 0


def drawn(subject: Subject, limit: int = LIMIT) -> IntArray:
    """The documents to cross-validate: all, or about ``limit`` of them, stratified, with whole groups of copies."""
    labels = subject.corpus.labels
    if len(labels) <= limit:
        return np.arange(len(labels), dtype=np.int32)
    share = limit / len(labels)
    return np.flatnonzero(allocate(labels, subject.near, (1 - share, share), SEED) == 1).astype(np.int32)


def fold_numbers(subject: Subject, documents: IntArray) -> IntArray:
    """(documents,) the fold in which each is answered: stratified, with copies in one."""
    return allocate(subject.corpus.labels[documents], subject.near[documents], (1 / FOLDS,) * FOLDS, SEED)


def out_of_fold(predict: Predict, documents: IntArray, folds: IntArray, count: int) -> FloatArray:
    """Logits (documents, count) by ``predict``, fold by fold learnt from the others."""
    logits = np.zeros((len(documents), count), np.float32)
    for fold in np.unique(folds):
        tested = folds == fold
        logits[tested] = predict(documents[~tested], documents[tested])
    return logits
