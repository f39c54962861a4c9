"""The labels: how many of each, what the simplest models make of them, and which look wrong."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from duygu.data.doubts import FEW, HEAVY
from duygu.data.split import IntArray, Split
from duygu.verdict.audit.findings import LISTED, SHOWN, Finding, Subject, level, percent
from duygu.verdict.audit.folds import FOLDS
from duygu.verdict.baselines import LINEAR, MAJORITY
from duygu.verdict.metrics import Doubles, FloatArray, Scores, probabilities, scores

SMALL = 50  # documents of a label that are not copies; ten of them would test it, each for a tenth of its recall
EASY = 0.98  # accuracy of a linear model from which a label is likely written in the text; our judgement
ERRORS = 0.033  # of labels are wrong in ten well-known test sets on average (Northcutt, Athalye and Mueller 2021)

Answers = Mapping[str, FloatArray]  # logits by name of the baseline


def balance(subject: Subject) -> Finding:
    """Documents of each label."""
    corpus = subject.corpus
    counts = np.bincount(corpus.labels, minlength=len(corpus.names))
    distinct = [len(np.unique(subject.near[corpus.labels == label])) for label in range(len(corpus.names))]
    largest, smallest = int(np.argmax(counts)), int(np.argmin(distinct))
    share = counts[largest] / counts.sum()
    sentence = f"{len(corpus.texts):,} documents of {len(counts)} labels; {percent(share)} are {corpus.names[largest]}."
    if distinct[smallest] < SMALL:
        sentence += f" {corpus.names[smallest]} has only {distinct[smallest]} that are not copies of one another."
    if share >= HEAVY:
        sentence += " Accuracy alone says little here: read macro-F1 and the recall of each label."
    numbers = {
        "labels": dict(zip(corpus.names, counts.tolist(), strict=True)),
        "distinct": dict(zip(corpus.names, distinct, strict=True)),
        "majority": float(share),
    }
    look = share >= HEAVY or distinct[smallest] < SMALL
    return Finding("balance", level(bool(look), distinct[smallest] < FEW), sentence, numbers)


def baseline_scores(
    subject: Subject, documents: IntArray, crossed: Answers, split: Split | None = None, tested: Answers | None = None
) -> Finding:
    """What a model must beat.

    ``crossed`` are each baseline's logits for ``documents``, out of fold; ``tested`` those for the test part of a split
    that was given, learnt from all its other documents.
    """
    found = {name: _scores(subject, documents, logits) for name, logits in crossed.items()}
    on_test = {name: _scores(subject, split.test, logits) for name, logits in (tested or {}).items()} if split else {}
    linear, majority = found[LINEAR], found[MAJORITY]
    low, high = linear.accuracy_interval
    others = ", ".join(f"{name} {percent(one.accuracy)}" for name, one in found.items() if name != LINEAR)
    sentence = (
        f"A linear model on words and their parts answers {percent(linear.accuracy)} rightly ({low * 100:.1f} to "
        f"{high * 100:.1f}) in {FOLDS} grouped folds of {len(documents):,} documents; {others}."
    )
    if on_test:
        sentence += f" On the given test part it reaches {percent(on_test[LINEAR].accuracy)}."
    dull, easy = low <= majority.accuracy, linear.accuracy >= EASY
    if dull:
        sentence += " It is not shown to beat the majority: the labels may have little to do with the words."
    if easy:
        sentence += " So easy a task may have its answer written in the text."
    numbers = {
        "folds": FOLDS, "documents": len(documents),
        "cross_validated": {name: one.as_json() for name, one in found.items()},
        "test": {name: one.as_json() for name, one in on_test.items()},
    }  # fmt: skip
    return Finding("baselines", level(dull or easy), sentence, numbers)


def doubtful_labels(subject: Subject, documents: IntArray, logits: FloatArray) -> Finding:
    """Labels that a model which has not seen them would rather give otherwise, the least likely first.

    Confident learning (Northcutt, Jiang and Chuang 2021): a label is doubtful where another is at least as probable as
    that one is on average where it was given. ``logits`` are the linear baseline's, out of fold.
    """
    corpus, labels = subject.corpus, subject.corpus.labels[documents]
    chance = probabilities(logits)
    rival = _rivals(chance, labels)
    own = chance[np.arange(len(labels)), labels]
    flagged = np.flatnonzero(rival >= 0)
    ranked = flagged[np.argsort(own[flagged], kind="stable")]
    share = len(flagged) / len(documents)
    listed = [
        {
            "id": corpus.ids[documents[n]], "label": corpus.names[labels[n]], "likelier": corpus.names[rival[n]],
            "probability": float(own[n]), "begins": corpus.texts[documents[n]][:SHOWN],
        }
        for n in ranked[:LISTED].tolist()
    ]  # fmt: skip
    sentence = f"{len(flagged)} labels of {len(documents):,} look doubtful to a linear model ({percent(share)})."
    if listed:
        sentence += " About half of such flags are real errors where people checked: read them, delete none unread."
    return Finding("doubtful labels", level(share >= ERRORS), sentence, {"flagged": len(flagged), "ranked": listed})


def _rivals(chance: Doubles, labels: IntArray) -> IntArray:
    """(N,) the likeliest label at or above its own threshold, where it is not the given one; else -1."""
    present = np.unique(labels)
    thresholds = np.full(chance.shape[1], np.inf)
    thresholds[present] = [chance[labels == label, label].mean() for label in present]
    confident = np.where(chance >= thresholds, chance, -1.0)
    best = np.argmax(confident, axis=1).astype(np.int32)
    rivals = (confident.max(axis=1) >= 0) & (best != labels)
    return np.where(rivals, best, -1).astype(np.int32)


def _scores(subject: Subject, documents: IntArray, logits: FloatArray) -> Scores:
    return scores(logits, subject.corpus.labels[documents], subject.corpus.names)
