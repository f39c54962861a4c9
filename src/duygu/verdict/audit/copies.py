"""Texts that stand more than once: how many, under one label or two, and on which side of a split."""

from __future__ import annotations

import numpy as np

from duygu.data.split import IntArray, Split
from duygu.verdict.audit.findings import LISTED, Finding, Subject, level, percent, several
from duygu.verdict.metrics import FloatArray, scores

# Our judgement; for scale, over 4 % of the validation parts of standard corpora stand in training (Lee et al. 2022).
NEAR_LOOK = 0.01  # of documents
CONFLICT_STOP = 0.05  # of documents
LEAK_STOP = 0.01  # of test documents


def exact_copies(subject: Subject) -> Finding:
    """Texts that are equal: to the letter once cleaned, and but for case, punctuation and spacing."""
    texts = subject.corpus.texts
    letters = len(texts) - len(set(texts))
    groups = several(subject.exact)
    surplus = len(texts) - len(np.unique(subject.exact))
    numbers = {"verbatim": letters, "normalised": surplus, "groups": [subject.ids(group) for group in groups[:LISTED]]}
    if not surplus:
        return Finding("exact copies", "fine", "No text stands twice.", numbers)
    sentence = (
        f"{letters} documents repeat another to the letter, {surplus} if case, punctuation and spacing do not count "
        f"({subject.share(surplus)}), in {len(groups)} groups. duygu keeps each group on one side of its splits."
    )
    return Finding("exact copies", "look", sentence, numbers)


def near_copies(subject: Subject) -> Finding:
    """Texts that differ in little, beyond the exact copies."""
    count = len(subject.corpus.texts)
    surplus = len(np.unique(subject.exact)) - len(np.unique(subject.near))
    groups = [group for group in several(subject.near) if len(np.unique(subject.exact[group])) > 1]
    numbers = {
        "surplus": surplus, "documents": sum(map(len, groups)),
        "groups": [subject.ids(group) for group in groups[:LISTED]],
    }  # fmt: skip
    sentence = (
        f"{surplus} documents are near copies of another ({subject.share(surplus)}), in {len(groups)} groups."
        if surplus
        else "No text is a near copy of another."
    )
    return Finding("near copies", level(surplus > NEAR_LOOK * count), sentence, numbers)


def conflicts(subject: Subject) -> Finding:
    """The same text under two labels, and the accuracy that this allows at most."""
    exact = _conflicting(subject, subject.exact)
    equal = np.concatenate([np.empty(0, np.int32), *exact])
    near = [group for group in _conflicting(subject, subject.near) if not np.isin(group, equal).all()]
    count, documents, near_documents = len(subject.corpus.texts), len(equal), sum(map(len, near))
    lost = sum(len(group) - int(np.bincount(subject.corpus.labels[group]).max()) for group in exact)
    numbers = {
        "documents": documents, "near_documents": near_documents, "ceiling": 1 - lost / count,
        "groups": [_labelled(subject, group) for group in exact[:LISTED]],
        "near_groups": [_labelled(subject, group) for group in near[:LISTED]],
    }  # fmt: skip
    sentence = "No text stands under two labels."
    if documents:
        most = percent(1 - lost / count)
        sentence = f"{documents} documents have an equal one under another label: at most {most} can be answered right."
    if near:
        sentence += f" {near_documents} documents are in groups of near copies with more than one label."
    look, stop = bool(exact or near), documents > CONFLICT_STOP * count
    return Finding("conflicting labels", level(look, stop), sentence, numbers)


def leakage(subject: Subject, split: Split, logits: FloatArray) -> Finding:
    """Test documents whose text was trained on, and what that can do to an accuracy.

    ``logits`` (test, labels) are the linear baseline's on the test part.
    """
    seen, total = np.concatenate([split.train, split.validation]), len(split.test)
    twins = np.isin(subject.near[split.test], subject.near[seen])
    verbatim = _verbatim(subject, split.test, seen)
    normalised = int(np.isin(subject.exact[split.test], subject.exact[seen]).sum())
    near, share = int(twins.sum()), float(twins.mean())
    accuracy = _accuracy(subject, split.test, logits)
    clean = None if near == total else _accuracy(subject, split.test[~twins], logits[~twins])
    numbers = {
        "test_documents": total, "verbatim": verbatim, "normalised": normalised, "near": near,
        "linear_accuracy": accuracy, "linear_accuracy_without": clean, "inflation": inflation(accuracy, share),
        "ids": subject.ids(split.test[twins]),
    }  # fmt: skip
    if not near:
        return Finding("leakage", "fine", f"None of the {total} test documents has a twin in training.", numbers)
    sentence = (
        f"{verbatim} of {total} test documents stand in training to the letter, {normalised} if case and "
        f"punctuation do not count, {near} nearly. A linear model answers {percent(accuracy)} of all rightly"
        + ("" if clean is None else f", {percent(clean)} of those without a twin")
        + f". Remembered twins could lift it by {inflation(accuracy, share) * 100:.1f} points at most."
    )
    return Finding("leakage", level(True, near > LEAK_STOP * total), sentence, numbers)


def inflation(accuracy: float, share: float) -> float:
    """By how much twins flatter an accuracy if that ``share`` of documents is right for being known: at most.

    The others are then right in (accuracy - share) / (1 - share) of cases.
    """
    known = min(share, accuracy)
    return accuracy - (accuracy - known) / (1 - known) if known < 1 else 0.0


def _conflicting(subject: Subject, groups: IntArray) -> list[IntArray]:
    """The groups that hold more than one label."""
    return [group for group in several(groups) if len(np.unique(subject.corpus.labels[group])) > 1]


def _labelled(subject: Subject, group: IntArray) -> list[dict[str, str]]:
    corpus = subject.corpus
    return [{"id": corpus.ids[n], "label": corpus.names[corpus.labels[n]]} for n in group[:LISTED].tolist()]


def _verbatim(subject: Subject, test: IntArray, seen: IntArray) -> int:
    """How many test documents have the very text of one that was ``seen``."""
    texts = subject.corpus.texts
    known = {texts[number] for number in seen.tolist()}
    return sum(texts[number] in known for number in test.tolist())


def _accuracy(subject: Subject, documents: IntArray, logits: FloatArray) -> float:
    return scores(logits, subject.corpus.labels[documents], subject.corpus.names).accuracy
