"""How far probabilities can be believed, and how to make them more believable without changing an answer.

Reliability compares confidence with accuracy, bin by bin; risk and coverage say what is gained by leaving the doubtful
documents to people; one temperature, fitted on the validation part, stretches or shrinks all logits alike. Documents
of equal confidence share their mean in all of it, so the order of documents never matters.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# (scipy ships no types; what comes from it is given one at once)

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]
Truths = NDArray[np.bool_]

BINS = 15
BIN_DOCUMENTS = 10  # in each at least, so that chance alone does not look like a calibration error
COLDEST, HOTTEST = 0.01, 100.0  # temperatures that are believed; a few documents could ask for any


@dataclass(frozen=True, slots=True)
class Bin:
    """Documents of neighbouring confidence: how many, their mean confidence and their accuracy."""

    documents: int
    confidence: float
    accuracy: float


def bin_count(documents: int) -> int:
    """15 bins, or as many fewer as leave 10 documents in each."""
    return max(1, min(BINS, documents // BIN_DOCUMENTS))


def reliability(confidence: Doubles, right: Truths, bins: int) -> tuple[Bin, ...]:
    """``bins`` bins of equal mass, the least confident first; both inputs are (N,), bins without documents left out.

    Nixon et al. (2019), "Measuring Calibration in Deep Learning".
    """
    order, accuracy = np.argsort(confidence, kind="stable"), _shared(confidence, right)
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return tuple(Bin(len(part), float(confidence[part].mean()), float(accuracy[part].mean())) for part in parts)


def calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance of confidence from accuracy over the documents of the bins."""
    return sum(one.documents * abs(one.accuracy - one.confidence) for one in bins) / sum(one.documents for one in bins)


def expected_calibration_error(confidence: Doubles, right: Truths, bins: int) -> float:
    """`calibration_error` of `reliability`."""
    return calibration_error(reliability(confidence, right, bins))


def negative_log_likelihood(log_probability: Doubles, labels: Labels) -> float:
    """Mean over documents of minus the log of the true label's probability, nats; inputs are (N, L) and (N,)."""
    return float(np.mean(-log_probability[np.arange(len(labels)), labels]))


def brier_score(probability: Doubles, labels: Labels) -> float:
    """Mean over documents of the squared error summed over labels, 0 to 2; inputs are (N, L) and (N,). Brier (1950)."""
    error = probability.copy()
    error[np.arange(len(labels)), labels] -= 1.0
    return float(np.vdot(error, error)) / len(labels)


def selective_risk(confidence: Doubles, right: Truths) -> Doubles:
    """(N,) share of errors among the n most confident documents, for n from 1 to N; both inputs are (N,).

    El-Yaniv and Wiener (2010), "On the Foundations of Noise-free Selective Classification".
    """
    wrong = 1.0 - _shared(confidence, right)[np.argsort(-confidence, kind="stable")]
    return cast(Doubles, np.cumsum(wrong) / np.arange(1, len(wrong) + 1))


def aurc(risk: Doubles) -> float:
    """Area under risk over coverage: the mean of `selective_risk`. Geifman, Uziel and El-Yaniv (2019)."""
    return float(np.mean(risk))


def accuracy_at(risk: Doubles, coverage: float) -> float:
    """Accuracy on the most confident share ``coverage`` of the documents, rounded up to whole ones."""
    answered = max(1, math.ceil(coverage * len(risk) - 1e-9))
    return 1.0 - float(risk[answered - 1])


def fit_temperature(logits: NDArray[np.floating[Any]], labels: Labels) -> float:
    """The temperature by which ``logits`` (N, L) are divided to make ``labels`` (N,) most likely.

    Guo et al. (2017), "On Calibration of Modern Neural Networks". The likelihood is concave in 1 / temperature, so the
    root of its slope is the only optimum. Where every document is right there is none, and where the logits know less
    than chance it lies at infinity: these give 1 and `HOTTEST`.
    """
    from scipy.optimize import brentq
    from scipy.special import softmax

    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    true = exact[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        """Derivative of the mean negative log-likelihood by 1 / temperature."""
        return float(np.mean(np.sum(softmax(inverse * exact, axis=1) * exact, axis=1) - true))

    if not np.any(true < 0.0):
        return 1.0
    if slope(1 / HOTTEST) >= 0:
        return HOTTEST
    if slope(1 / COLDEST) <= 0:
        return COLDEST
    return 1 / cast(float, brentq(slope, 1 / HOTTEST, 1 / COLDEST, xtol=1e-12))


def tempered(probability: Doubles, temperature: float) -> Doubles:
    """Probabilities (N, L) after their logits are divided by ``temperature``: p^(1/T), made to sum to 1."""
    with np.errstate(divide="ignore"):
        scaled = np.log(probability) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    raised = np.exp(scaled)
    return cast(Doubles, raised / raised.sum(axis=1, keepdims=True))


def _shared(confidence: Doubles, right: Truths) -> Doubles:
    """(N,) accuracy of all documents that have the same confidence as each."""
    _, group, size = np.unique(confidence, return_inverse=True, return_counts=True)
    return (np.bincount(group, weights=right) / size)[group]
