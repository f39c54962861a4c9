"""What a model must beat to have been worth its training.

The majority baseline knows only which label is commonest; the linear baseline knows words and pieces of words, but no
order and no meaning. Both learn from the training part alone and answer the test part, scored by the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from duygu.verdict.metrics import FloatArray, IntArray, Scores, scores

WORD = r"\w+|[^\w\s]+"  # a run of symbols counts as a word, so that no text is without any
SEED = 0  # of the solver; liblinear shuffles


@dataclass(frozen=True, slots=True)
class Baseline:
    """A simple way to answer and what it scored on the test part."""

    name: str
    test: Scores

    def as_json(self) -> dict[str, object]:
        """``{"name", "test"}`` as comparison.json holds it."""
        return {"name": self.name, "test": self.test.as_json()}


def baselines(
    texts: Sequence[str], labels: IntArray, names: Sequence[str], train: IntArray, test: IntArray
) -> tuple[Baseline, ...]:
    """Both baselines; ``train`` and ``test`` are indices into ``texts`` and ``labels`` (N,)."""
    return pooled_baselines(texts, labels, names, [(train, test)])


def pooled_baselines(
    texts: Sequence[str], labels: IntArray, names: Sequence[str], folds: Sequence[tuple[IntArray, IntArray]]
) -> tuple[Baseline, ...]:
    """Both baselines over (train, test) of every fold, all test documents scored together."""
    answers: dict[str, list[FloatArray]] = {"majority": [], "linear": []}
    for train, test in folds:
        known, asked = labels[train], [texts[int(i)] for i in test]
        answers["majority"].append(majority_logits(known, len(test), len(names)))
        answers["linear"].append(linear_logits([texts[int(i)] for i in train], known, asked, len(names)))
    true = labels[np.concatenate([test for _, test in folds])]
    return tuple(Baseline(name, scores(np.concatenate(parts), true, names)) for name, parts in answers.items())


def majority_logits(known: IntArray, documents: int, count: int) -> FloatArray:
    """Logits (documents, count) of always answering with the labels' shares in ``known``, add-one smoothed."""
    seen = np.bincount(known, minlength=count)
    return np.tile(np.log(seen + 1.0).astype(np.float32), (documents, 1))


def linear_logits(train_texts: Sequence[str], known: IntArray, texts: Sequence[str], count: int) -> FloatArray:
    """Logits (len(texts), count) of logistic regression on TF-IDF of words (1-2) and characters in words (3-5).

    A label absent from ``known`` is never answered.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    present = np.unique(known)
    logits = np.full((len(texts), count), -30.0, dtype=np.float32)
    if len(present) < 2:
        logits[:, present] = 0.0
        return logits
    features = make_union(
        TfidfVectorizer(token_pattern=WORD, ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True),
    )
    model = make_pipeline(features, LogisticRegression(C=10.0, max_iter=2000, random_state=SEED))
    model.fit(list(train_texts), known)
    logits[:, present] = np.log(np.maximum(model.predict_proba(list(texts)), 1e-13))
    return logits
