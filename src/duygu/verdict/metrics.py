"""From logits and true labels to every score that duygu shows.

All scores of right and wrong come from one confusion matrix (rows true, columns predicted), all scores of confidence
from the probabilities. Both engines go through this one code, so they can only differ in their logits. A ratio whose
denominator is 0 is 0, and an average over labels is over all labels, present or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from duygu.errors import DuyguError
from duygu.verdict.calibration import (
    bin_count,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
)
from duygu.verdict.stats import Interval, wilson

IntArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]
Matrix = NDArray[np.int64]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LabelScores:
    """One label against all others; ``support`` is the number of documents that truly have it."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class WeightedScores:
    """Averages over labels weighted by support. The weighted recall is the accuracy under another name."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How honest the probabilities are; 0 is perfect in each."""

    nll: float  # mean negative log-likelihood of the true label, nats
    brier: float  # mean over documents of the squared error summed over labels, 0 to 2 (Brier 1950)
    ece: float  # expected calibration error of the top label, 15 bins of equal mass (fewer below 150 documents)


@dataclass(frozen=True, slots=True)
class Scores:
    """Everything measured on one part of the data by one model."""

    documents: int
    loss: float  # mean cross-entropy without dropout, nats
    accuracy: float
    accuracy_interval: Interval  # Wilson, 95 %
    macro_f1: float
    mcc: float
    confusion: tuple[tuple[int, ...], ...]  # rows true, columns predicted
    labels: tuple[str, ...]
    per_label: tuple[LabelScores, ...]  # in the order of labels
    weighted: WeightedScores
    calibration: Calibration

    def as_json(self) -> dict[str, object]:
        """Plain JSON values; ``per_label`` becomes a mapping from label names."""
        value = asdict(self)
        value["accuracy_interval"] = list(self.accuracy_interval)
        value["confusion"] = [list(row) for row in self.confusion]
        value["labels"] = list(self.labels)
        value["per_label"] = dict(zip(self.labels, value["per_label"], strict=True))
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Scores:
        """Read what `as_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        labels = tuple(value["labels"])
        low, high = value["accuracy_interval"]
        return cls(
            documents=value["documents"],
            loss=value["loss"],
            accuracy=value["accuracy"],
            accuracy_interval=(low, high),
            macro_f1=value["macro_f1"],
            mcc=value["mcc"],
            confusion=tuple(tuple(row) for row in value["confusion"]),
            labels=labels,
            per_label=tuple(LabelScores(**value["per_label"][name]) for name in labels),
            weighted=WeightedScores(**value["weighted"]),
            calibration=Calibration(**value["calibration"]),
        )


def scores(logits: FloatArray, labels: IntArray, names: Sequence[str]) -> Scores:
    """Score ``logits`` (N, L) against true ``labels`` (N,); raises `DuyguError` for logits that are not finite."""
    assert logits.shape == (len(labels), len(names))
    assert len(labels) > 0
    if not np.isfinite(logits).all():
        raise DuyguError("the model answers with numbers that are not finite; a lower lr or --set precision=fp32 helps")
    log_probability = log_softmax(logits)
    calibration = _calibration(log_probability, labels)
    matrix = confusion(labels, np.argmax(logits, axis=1), len(names))
    return from_confusion(matrix, names, calibration)


def from_confusion(matrix: Matrix, names: Sequence[str], calibration: Calibration) -> Scores:
    """Every score that counts alone decide, from a confusion matrix (L, L) with rows true and columns predicted."""
    hits, support, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    documents, right = int(matrix.sum()), int(hits.sum())
    precision, recall = _ratio(hits, predicted), _ratio(hits, support)
    f1 = _ratio(2 * hits, support + predicted)
    share = _ratio(support, documents)
    return Scores(
        documents=documents,
        loss=calibration.nll,
        accuracy=right / documents,
        accuracy_interval=wilson(right, documents),
        macro_f1=float(np.mean(f1)),
        mcc=_mcc(matrix),
        confusion=tuple(tuple(int(count) for count in row) for row in matrix),
        labels=tuple(names),
        per_label=tuple(
            LabelScores(float(p), float(r), float(f), int(n))
            for p, r, f, n in zip(precision, recall, f1, support, strict=True)
        ),
        weighted=WeightedScores(float(share @ precision), float(share @ recall), float(share @ f1)),
        calibration=calibration,
    )


def confusion(labels: IntArray, predicted: NDArray[np.integer[Any]], count: int) -> Matrix:
    """Counts (L, L) of true label (row) against predicted label (column) for ``count`` labels."""
    cells = np.asarray(labels, np.int64) * count + np.asarray(predicted, np.int64)
    return np.bincount(cells, minlength=count * count).reshape(count, count)


def probabilities(logits: FloatArray | Doubles) -> Doubles:
    """Softmax over the last axis in float64: the same numbers whichever engine made the logits."""
    return np.exp(log_softmax(logits))


def log_softmax(logits: FloatArray | Doubles) -> Doubles:
    """Logarithm of `probabilities`, without overflow or log of 0."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    return cast(Doubles, shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _calibration(log_probability: Doubles, labels: IntArray) -> Calibration:
    probability = np.exp(log_probability)
    right = np.argmax(log_probability, axis=1) == labels
    return Calibration(
        nll=negative_log_likelihood(log_probability, labels),
        brier=brier_score(probability, labels),
        ece=expected_calibration_error(np.max(probability, axis=1), right, bin_count(len(labels))),
    )


def _ratio(part: Matrix, whole: Matrix | int) -> Doubles:
    """``part / whole``, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(part.shape), where=np.asarray(whole) != 0)


def _mcc(matrix: Matrix) -> float:
    """Matthews correlation for any number of labels (Gorodkin 2004); 0 where either side has one label only."""
    n, hits = int(matrix.sum()), int(np.trace(matrix))
    true, predicted = matrix.sum(axis=1).tolist(), matrix.sum(axis=0).tolist()
    covariance = hits * n - sum(t * p for t, p in zip(true, predicted, strict=True))
    spread = (n * n - sum(t * t for t in true)) * (n * n - sum(p * p for p in predicted))
    return covariance / spread**0.5 if spread else 0.0
