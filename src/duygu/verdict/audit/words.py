"""Signs that a machine made the labels: a short list of words that counts them back.

A keyword counter gives a text the label for which most of its words speak. So such a counter is learnt: a linear model
under an L1 penalty picks at most `SIZE` words, and each then votes for one label with the weight of one. What it
reproduces of the labels is compared with what it reproduces of the same labels shuffled, where all success is chance,
and with what it tells of documents that it has not seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duygu.data.split import IntArray
from duygu.verdict.audit.findings import Finding, Subject, level, percent

SIZE = 100  # words of a list
LEAST = 5  # documents in which a word of the list stands
KNOWN = 5000  # words to choose from, the commonest
STRENGTHS = tuple(2.0**power for power in range(-14, 3))  # inverse penalties
SHUFFLES = 3
SEED = 0
COUNTED = 0.9  # of unseen labels that a list of words gives; human judgement of texts is not so easily had

Counts = Any  # scipy.sparse matrix (documents, words)
_word = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True, slots=True)
class Votes:
    """Which words vote for which label, and how much each label has from the start."""

    votes: NDArray[np.float64]  # (words, labels) of 0 and 1
    start: NDArray[np.float64]  # (labels,) below one vote, so that it only decides ties
    weights: NDArray[np.float64]  # (words, labels) of the model that chose them

    def answers(self, counts: Counts) -> IntArray:
        """(documents,) the label with most votes."""
        return np.argmax(counts @ self.votes + self.start, axis=1).astype(np.int32)

    def words(self, label: int, names: Sequence[str]) -> list[str]:
        """Those that vote for a label, the weightiest first."""
        chosen = np.flatnonzero(self.votes[:, label])
        return [names[word] for word in chosen[np.argsort(-self.weights[chosen, label], kind="stable")].tolist()]


def word_list(subject: Subject, documents: IntArray, folds: IntArray) -> Finding:
    """How well a short list of words gives the labels, seen and unseen, true and shuffled."""
    corpus, labels = subject.corpus, subject.corpus.labels[documents]
    counts, names = count_words([corpus.texts[number] for number in documents.tolist()])
    random = np.random.Generator(np.random.Philox(key=SEED))
    found, seen, unseen = best_list(counts, labels, folds, len(corpus.names))
    chance = [best_list(counts, random.permutation(labels), folds, len(corpus.names)) for _ in range(SHUFFLES)]
    shuffled = np.mean([accuracies for _, *accuracies in chance], axis=0)
    size = int(found.votes.sum())
    sentence = (
        f"{size} words, each with one vote, give {percent(seen)} of the labels they were chosen by and "
        f"{percent(unseen)} of others; of shuffled labels {percent(shuffled[0])} and {percent(shuffled[1])}."
    )
    numbers = {
        "size": size, "reproduced": seen, "unseen": unseen,
        "shuffled": {"reproduced": float(shuffled[0]), "unseen": float(shuffled[1])},
        "words": {label: found.words(number, names) for number, label in enumerate(corpus.names)},
    }  # fmt: skip
    return Finding("word list", level(unseen >= COUNTED), sentence, numbers)


def count_words(texts: Sequence[str]) -> tuple[Counts, list[str]]:
    """(texts, words) how often each word of three letters or more stands in each text, and the words."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

    least = min(LEAST, max(1, len(texts) // 10))
    vectorizer = CountVectorizer(analyzer=_words, min_df=least, max_features=KNOWN, dtype=np.float64)
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:  # no word stands in so many
        return csr_matrix((len(texts), 0)), []
    return counts, vectorizer.get_feature_names_out().tolist()


def best_list(counts: Counts, labels: IntArray, folds: IntArray, count: int) -> tuple[Votes, float, float]:
    """The list, of at most `SIZE` words, that serves best out of fold; and its accuracy on all documents, and unseen.

    ``counts`` are of N documents, ``labels`` and ``folds`` (N,); there are ``count`` kinds of label.
    """
    best = learn(counts, labels, count, 0.0), 0.0, -1.0
    for strength in STRENGTHS:  # from few words to many
        found = learn(counts, labels, count, strength)
        if found.votes.sum() > SIZE:
            break
        unseen = np.zeros_like(labels)
        for fold in np.unique(folds):
            tested = folds == fold
            unseen[tested] = learn(counts[~tested], labels[~tested], count, strength).answers(counts[tested])
        accuracy = float((unseen == labels).mean())
        if accuracy > best[2]:
            best = found, float((found.answers(counts) == labels).mean()), accuracy
    return best


def learn(counts: Counts, labels: IntArray, count: int, strength: float) -> Votes:
    """A list of words for ``labels`` (N,); the larger the ``strength``, the more of them, and none for 0."""
    from sklearn.svm import LinearSVC

    weights = np.zeros((counts.shape[1], count))
    present = np.unique(labels)
    if strength and counts.shape[1] and len(present) > 1:
        model = LinearSVC(penalty="l1", dual=False, C=strength, random_state=SEED, max_iter=5000, tol=1e-3)
        found = model.fit(counts, labels).coef_
        weights[:, present] = (found if len(present) > 2 else np.concatenate([-found, found])).T
    chosen = np.flatnonzero((weights > 0).any(axis=1))
    votes = np.zeros_like(weights)
    votes[chosen, weights[chosen].argmax(axis=1)] = 1.0
    return Votes(votes, np.bincount(labels, minlength=count) / (2 * max(1, len(labels))), weights)


def _words(text: str) -> list[str]:
    """In small letters; the dot that lower() leaves over an İ is none."""
    return _word.findall(text.lower().replace("\N{COMBINING DOT ABOVE}", ""))
