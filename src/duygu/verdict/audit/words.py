"""Signs that a machine made the labels: a short list of words that counts them back.

A keyword counter gives a text the label for which most of its words speak. Such a counter is learnt: one word after the
other joins the list, each with a single vote for one label, always the word that makes the labels likeliest (matching
pursuit, Mallat and Zhang 1993, on the gradient of the log-likelihood). What it tells of labels that it was not chosen
by is compared with a linear model that weighs all words and parts of words, and with the same on shuffled labels. Where
people judged whole texts, a few words without weights do worse than all words with weights.
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
from duygu.verdict.metrics import FloatArray, log_softmax
from duygu.verdict.stats import wilson

SIZES = (10, 20, 40, 60, 80, 100)  # words of a list; which serves best is found out
LEAST = 3  # documents in which a word of the list stands
KNOWN = 5000  # words to choose from, the commonest
SHUFFLES = 3
SEED = 0

Counts = Any  # scipy.sparse matrix (documents, words)
_word = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True, slots=True)
class WordList:
    """Words in the order of joining, each with its vote; and what they give."""

    words: IntArray  # (words,) columns of the counts
    votes: IntArray  # (words,) the label of each
    start: NDArray[np.float64]  # (labels,) shares, below one vote together: they decide ties only

    def first(self, size: int) -> WordList:
        """The words that joined first."""
        return WordList(self.words[:size], self.votes[:size], self.start)

    def answers(self, counts: Counts) -> IntArray:
        """(documents,) the label with most votes; a word that stands twice votes twice."""
        ballot = np.eye(len(self.start))[self.votes]
        return np.argmax(counts[:, self.words] @ ballot + self.start, axis=1).astype(np.int32)


def word_list(subject: Subject, documents: IntArray, folds: IntArray, linear: FloatArray) -> Finding:
    """How well a short list of words gives the labels; ``linear`` are the linear baseline's out-of-fold logits."""
    corpus, labels = subject.corpus, subject.corpus.labels[documents]
    counts, names = count_words([corpus.texts[number] for number in documents.tolist()])
    found, seen, unseen = best_list(counts, labels, folds, len(corpus.names))
    random = np.random.Generator(np.random.Philox(key=SEED))
    chance = [best_list(counts, random.permutation(labels), folds, len(corpus.names))[1:] for _ in range(SHUFFLES)]
    shuffled_seen, shuffled = np.mean(chance, axis=0).tolist()
    weighed = float((np.argmax(linear, axis=1) == labels).mean())
    sure = wilson(round(unseen * len(labels)), len(labels))[0] > max(shuffled, np.bincount(labels).max() / len(labels))
    counted = sure and unseen >= weighed
    sentence = (
        f"A count of {len(found.words)} words gives {percent(seen)} of the labels that they were chosen by and "
        f"{percent(unseen)} of others; of shuffled labels {percent(shuffled_seen)} and {percent(shuffled)}. A linear "
        f"model that weighs all words gives {percent(weighed)} of others."
    )
    if counted:
        sentence += " So a few words do as well as all: a keyword counter may have made these labels."
    numbers = {
        "size": len(found.words), "reproduced": seen, "unseen": unseen, "linear": weighed,
        "shuffled": {"reproduced": shuffled_seen, "unseen": shuffled},
        "words": {
            name: [names[word] for word in found.words[found.votes == label].tolist()]
            for label, name in enumerate(corpus.names)
        },
    }  # fmt: skip
    return Finding("word list", level(counted), sentence, numbers)


def count_words(texts: Sequence[str]) -> tuple[Counts, list[str]]:
    """(texts, words) how often each word of three letters or more stands in each text, and the words."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

    analyse: Any = _words  # the library's types know of names only
    vectorizer = CountVectorizer(analyzer=analyse, min_df=min(LEAST, len(texts)), max_features=KNOWN)
    try:
        counts: Counts = vectorizer.fit_transform(texts)
    except ValueError:  # no word stands in so many
        return csr_matrix((len(texts), 0)), []
    return counts, list(map(str, vectorizer.get_feature_names_out()))


def best_list(counts: Counts, labels: IntArray, folds: IntArray, count: int) -> tuple[WordList, float, float]:
    """The list of the size that serves best out of fold; and its accuracy on all documents, and out of fold.

    ``counts`` are of N documents, ``labels`` and ``folds`` (N,); there are ``count`` kinds of label.
    """
    right = np.zeros(len(SIZES))
    for fold in np.unique(folds):
        tested = folds == fold
        found = chosen_words(counts[~tested], labels[~tested], count)
        answers = [found.first(size).answers(counts[tested]) for size in SIZES]
        right += np.array([np.count_nonzero(one == labels[tested]) for one in answers])
    best = int(np.argmax(right))
    found = chosen_words(counts, labels, count).first(SIZES[best])
    return found, float((found.answers(counts) == labels).mean()), float(right[best] / len(labels))


def chosen_words(counts: Counts, labels: IntArray, count: int) -> WordList:
    """A list for ``labels`` (N,), as long as the largest of `SIZES`; shorter where no more words help."""
    truth = np.eye(count)[labels]
    start = np.log(truth.mean(axis=0) + 1e-9)
    by_word, by_document = counts.tocsc(), counts.T.tocsr().astype(np.float64)
    lengths = np.sqrt(np.asarray(by_document.power(2).sum(axis=1)).ravel()) + 1e-9
    score = np.tile(start, (len(labels), 1))
    free = np.ones(counts.shape[1], np.bool_)
    joined: list[tuple[int, int]] = []
    while free.any() and len(joined) < SIZES[-1]:
        gain = (by_document @ (truth - np.exp(log_softmax(score)))) / lengths[:, None]
        word, label = divmod(int(np.argmax(np.where(free[:, None], gain, -np.inf))), count)
        if gain[word, label] <= 0:
            break
        joined.append((word, label))
        free[word] = False
        score[:, label] += by_word[:, [word]].toarray().ravel()
    words, votes = np.array(joined, np.int32).reshape(-1, 2).T
    return WordList(words, votes, truth.mean(axis=0) / 2)


def _words(text: str) -> list[str]:
    """In small letters; the dot that lower() leaves over an İ is none."""
    return _word.findall(text.lower().replace("\N{COMBINING DOT ABOVE}", ""))
