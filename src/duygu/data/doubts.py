"""What a user should know of the labels before anything is trained; ``duygu audit`` looks closer."""

from __future__ import annotations

import numpy as np

from duygu.data.corpus import Corpus
from duygu.data.duplicates import exact_groups
from duygu.data.sources import shown, some
from duygu.data.split import IntArray

HEAVY = 0.8  # share of one label from which an accuracy alone says little; our judgement
FEW = 10  # documents of a label that are not copies; fewer cannot be split and scored


def label_doubts(corpus: Corpus, near: IntArray) -> list[str]:
    """Equal texts under two labels, labels that are tiny, a label that is nearly all; ``near`` (N,) are copies."""
    names, counts = corpus.names, np.bincount(corpus.labels, minlength=len(corpus.names))
    doubts: list[str] = []
    conflicting = conflicting_documents(exact_groups(corpus.texts), corpus.labels)
    if len(conflicting):
        ids = some([corpus.ids[int(number)] for number in conflicting])
        doubts.append(f"{len(conflicting)} documents have the text of another with a different label ({ids})")
    for label, name in enumerate(names):
        distinct = len(np.unique(near[corpus.labels == label]))
        if distinct < FEW:
            doubts.append(f"the label {shown(name)} has {distinct} documents that are not copies: too few to score it")
    largest = int(np.argmax(counts))
    share = counts[largest] / counts.sum()
    if share >= HEAVY:
        rest = "accuracy alone says little, read macro-F1"
        doubts.append(f"{share:.0%} of the documents have the label {shown(names[largest])}: {rest}")
    return doubts


def conflicting_documents(groups: IntArray, labels: IntArray) -> IntArray:
    """Documents whose group holds more than one label, ascending."""
    numbers = np.unique(groups, return_inverse=True)[1]
    labels_of = np.zeros((numbers.max(initial=-1) + 1, labels.max(initial=-1) + 1), np.bool_)
    labels_of[numbers, labels] = True
    return np.flatnonzero(labels_of.sum(axis=1)[numbers] > 1).astype(np.int32)
