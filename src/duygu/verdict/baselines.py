"""What a model must beat to have been worth its training.

The majority baseline knows only which label is commonest, in all texts or, where sources are known, in those of the
same source; the linear baseline knows words and pieces of words, but no order and no meaning. All learn from the
training part alone and answer the test part, scored by the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np

from duygu.verdict.metrics import FloatArray, IntArray, Scores, scores

WORD = r"\w+|[^\w\s]+"  # a run of symbols counts as a word, so that no text is without any
SEED = 0  # of the solver
T = TypeVar("T")
Counts = Any  # scipy.sparse matrix (texts, features)
Predict = Callable[[IntArray, IntArray], FloatArray]  # documents to learn from, documents to answer: logits

MAJORITY, PER_SOURCE, LINEAR = "majority", "majority per source", "linear"


@dataclass(frozen=True, slots=True)
class Baseline:
    """A simple way to answer and what it scored on the test part."""

    name: str
    test: Scores

    def as_json(self) -> dict[str, object]:
        """``{"name", "test"}`` as comparison.json holds it."""
        return {"name": self.name, "test": self.test.as_json()}


def baselines(
    texts: Sequence[str],
    labels: IntArray,
    names: Sequence[str],
    train: IntArray,
    test: IntArray,
    sources: Sequence[str | None] = (),
) -> tuple[Baseline, ...]:
    """Every baseline; ``train`` and ``test`` are indices into ``texts``, ``labels`` and perhaps ``sources`` (N,)."""
    return pooled_baselines(texts, labels, names, [(train, test)], sources)


def pooled_baselines(
    texts: Sequence[str],
    labels: IntArray,
    names: Sequence[str],
    folds: Sequence[tuple[IntArray, IntArray]],
    sources: Sequence[str | None] = (),
) -> tuple[Baseline, ...]:
    """Every baseline over (train, test) of every fold, all test documents scored together."""
    true = labels[np.concatenate([test for _, test in folds])]
    known = predictors(texts, labels, len(names), sources)
    answers = {name: np.concatenate([ask(train, test) for train, test in folds]) for name, ask in known.items()}
    return tuple(Baseline(name, scores(logits, true, names)) for name, logits in answers.items())


def predictors(
    texts: Sequence[str], labels: IntArray, count: int, sources: Sequence[str | None] = ()
) -> dict[str, Predict]:
    """Every baseline by name as a function; without ``sources`` there is none that rests on them."""

    def majority(train: IntArray, test: IntArray) -> FloatArray:
        return majority_logits(labels[train], len(test), count)

    def per_source(train: IntArray, test: IntArray) -> FloatArray:
        return source_logits(_taken(sources, train), labels[train], _taken(sources, test), count)

    counted = cache(lambda: _counts(texts))

    def linear(train: IntArray, test: IntArray) -> FloatArray:
        return _linear(counted(), train, labels[train], test, count)

    return {MAJORITY: majority, **({PER_SOURCE: per_source} if sources else {}), LINEAR: linear}


def majority_logits(known: IntArray, documents: int, count: int) -> FloatArray:
    """Logits (documents, count) of always answering with the labels' shares in ``known``, add-one smoothed."""
    seen = np.bincount(known, minlength=count)
    return np.tile(np.log(seen + 1.0).astype(np.float32), (documents, 1))


def source_logits(
    train_sources: Sequence[str | None], known: IntArray, sources: Sequence[str | None], count: int
) -> FloatArray:
    """Logits (len(sources), count): the labels' shares among training documents of the same source, add-one smoothed.

    A source that is new or not known is answered as the majority baseline answers.
    """
    named = dict.fromkeys(source for source in train_sources if source is not None)
    places: dict[str | None, int] = {source: place for place, source in enumerate(named)}
    seen = np.zeros((len(places) + 1, count))
    rows = np.array([places.get(source, -1) for source in train_sources], np.int64)
    np.add.at(seen, (rows, known), 1)  # pyright: ignore[reportArgumentType]
    seen[-1] = np.bincount(known, minlength=count)
    return np.log(seen + 1.0).astype(np.float32)[[places.get(source, -1) for source in sources]]


def linear_logits(train_texts: Sequence[str], known: IntArray, texts: Sequence[str], count: int) -> FloatArray:
    """Logits (len(texts), count) of logistic regression on TF-IDF of words (1-2) and characters in words (3-5).

    A label absent from ``known`` is never answered.
    """
    places = np.arange(len(train_texts) + len(texts), dtype=np.int32)
    train, test = places[: len(train_texts)], places[len(train_texts) :]
    return _linear(_counts([*train_texts, *texts]), train, known, test, count)


def _counts(texts: Sequence[str]) -> list[Counts]:
    """How often each word or pair of words, and each run of characters, stands in each text; weighed later."""
    from sklearn.feature_extraction.text import CountVectorizer

    words = CountVectorizer(token_pattern=WORD, ngram_range=(1, 2))
    characters = CountVectorizer(analyzer="char_wb", ngram_range=(3, 5))
    return [vectorizer.fit_transform(texts) for vectorizer in (words, characters)]


def _linear(counts: Sequence[Counts], train: IntArray, known: IntArray, test: IntArray, count: int) -> FloatArray:
    """Logits (test, count); of what ``test`` holds, only what stands in ``train`` is looked at."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression

    present = np.unique(known)
    logits = np.full((len(test), count), -30.0, dtype=np.float32)
    if len(present) < 2 or not len(test):
        logits[:, present] = 0.0
        return logits
    seen: list[Counts] = []
    asked: list[Counts] = []
    for block in counts:
        used = np.flatnonzero(block[train].getnnz(axis=0))
        weigh = TfidfTransformer(sublinear_tf=True)
        seen.append(weigh.fit_transform(block[train][:, used]))
        asked.append(weigh.transform(block[test][:, used]))
    model = LogisticRegression(C=10.0, max_iter=2000, random_state=SEED).fit(hstack(seen, "csr"), known)
    logits[:, present] = np.log(np.maximum(model.predict_proba(hstack(asked, "csr")), 1e-13))
    return logits


def _taken(values: Sequence[T], places: IntArray) -> list[T]:
    return [values[place] for place in places.tolist()]
