"""Whether who published a text, or how long it is, gives its label away, and what is left on a source never seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duygu.data.split import IntArray
from duygu.verdict.audit.findings import Finding, Subject, level, percent
from duygu.verdict.audit.folds import out_of_fold
from duygu.verdict.baselines import Predict
from duygu.verdict.metrics import FloatArray, Scores, scores

TELLING = 0.10  # balanced accuracy above chance; for two labels a look from 60 %, our judgement
DROP = 0.05  # of accuracy on a source that was not learnt from; our judgement
SMALLEST = 20  # documents of a source that is left out
LARGEST = 12  # sources that are left out, the largest; each costs a training
NONE = "No source is known: name a column with --source-column, or files as in source_2024-01-31.txt."


def source_shortcut(subject: Subject, documents: IntArray, folds: IntArray) -> Finding:
    """What a classifier reaches that sees only a text's source and its length, cross-validated."""
    corpus = subject.corpus
    features = _features(subject)

    def predict(train: IntArray, test: IntArray) -> FloatArray:
        return _shallow(features[train], corpus.labels[train], features[test], len(corpus.names))

    found = scores(out_of_fold(predict, documents, folds, len(corpus.names)), corpus.labels[documents], corpus.names)
    balanced, chance = _balanced(found), 1 / len(corpus.names)
    known = "source and length" if corpus.sources else "length"
    sentence = f"From {known} alone {percent(balanced)} (balanced) of the labels are told; chance is {percent(chance)}."
    if not corpus.sources:
        sentence += f" {NONE}"
    numbers = {"balanced_accuracy": balanced, "chance": chance, "accuracy": found.accuracy, "sources": _table(subject)}
    return Finding("source and length", level(balanced >= chance + TELLING), sentence, numbers)


def left_out_sources(subject: Subject, documents: IntArray, linear: FloatArray, predict: Predict) -> list[Finding]:
    """The linear baseline on each source when it has learnt from the others only, beside having seen them all.

    ``linear`` are the out-of-fold logits of ``predict`` for ``documents``. There is no finding without two sources,
    one of them large enough.
    """
    corpus = subject.corpus
    sources = np.array([source or "" for source in corpus.sources or ("",) * len(corpus.texts)])[documents]
    names, counts = np.unique(sources[sources != ""], return_counts=True)
    chosen = [str(names[n]) for n in np.argsort(-counts, kind="stable")[:LARGEST] if counts[n] >= SMALLEST]
    if len(names) < 2 or not chosen:
        return []
    rows = [_left_out(subject, documents, sources == name, linear, predict) for name in chosen]
    sizes, seen_each, unseen_each = np.array(rows).T
    seen, unseen = np.average(seen_each, weights=sizes).item(), np.average(unseen_each, weights=sizes).item()
    worst = int(np.argmin(unseen_each - seen_each))
    sentence = (
        f"On a source that it has not learnt from, a linear model reaches {percent(unseen)} on average, against "
        f"{percent(seen)} with all sources; worst is {chosen[worst]} ({percent(rows[worst][2])} against "
        f"{percent(rows[worst][1])})."
    )
    listed = [
        {"source": name, "documents": size, "seen": known, "unseen": new}
        for name, (size, known, new) in zip(chosen, rows, strict=True)
    ]
    numbers = {"seen": seen, "unseen": unseen, "sources": listed}
    return [Finding("sources left out", level(seen - unseen >= DROP), sentence, numbers)]


def _left_out(
    subject: Subject, documents: IntArray, tested: NDArray[np.bool_], linear: FloatArray, predict: Predict
) -> tuple[int, float, float]:
    """Documents of one source, and the accuracies with and without it; copies of its texts are not learnt from."""
    corpus, inside, others = subject.corpus, documents[tested], documents[~tested]
    others = others[~np.isin(subject.near[others], subject.near[inside])]
    seen, unseen = (
        scores(logits, corpus.labels[inside], corpus.names).accuracy
        for logits in (linear[tested], predict(others, inside))
    )
    return len(inside), seen, unseen


def _features(subject: Subject) -> FloatArray:
    """(N, sources + 3) one column a source, and the length in words: its logarithm and powers of it, all about 1."""
    corpus = subject.corpus
    length = np.log1p(np.array([len(text.split()) for text in corpus.texts], np.float64))
    length = (length - length.mean()) / (length.std() or 1.0)
    sources = np.array([source or "" for source in corpus.sources or ("",) * len(corpus.texts)])
    columns = np.unique(sources, return_inverse=True)[1]
    return np.column_stack([np.eye(columns.max() + 1)[columns], length, length**2, length**3]).astype(np.float32)


def _shallow(known: FloatArray, labels: IntArray, asked: FloatArray, count: int) -> FloatArray:
    """Logits of a logistic regression that weighs all labels alike; one that it has not seen is never answered."""
    from sklearn.linear_model import LogisticRegression

    present = np.unique(labels)
    logits = np.full((len(asked), count), -30.0, np.float32)
    if len(present) < 2:
        logits[:, present] = 0.0
        return logits
    model = LogisticRegression(class_weight="balanced", max_iter=2000).fit(known, labels)
    logits[:, present] = model.predict_log_proba(asked)
    return logits


def _balanced(found: Scores) -> float:
    """Mean recall of the labels that there are."""
    return float(np.mean([one.recall for one in found.per_label if one.support]))


def _table(subject: Subject) -> dict[str, dict[str, int]]:
    """Documents of each label by source."""
    corpus, table = subject.corpus, dict[str, dict[str, int]]()
    for source, label in zip(corpus.sources, corpus.labels.tolist(), strict=False):
        row = table.setdefault(source or "", dict.fromkeys(corpus.names, 0))
        row[corpus.names[label]] += 1
    return dict(sorted(table.items(), key=lambda item: -sum(item[1].values())))
