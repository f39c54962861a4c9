"""Scores against scikit-learn on confusion matrices of every shape, absent labels included."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax as scipy_log_softmax
from sklearn.metrics import (
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    matthews_corrcoef,
    precision_recall_fscore_support,
)

from duygu.errors import DuyguError
from duygu.verdict.metrics import Scores, expected_calibration_error, probabilities, scores

NAMES = "abcde"


@st.composite
def answers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, L) and labels (N,); some labels may be absent from either side, or from both."""
    count, documents = draw(st.integers(2, 5)), draw(st.integers(1, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    true, answered = (draw(st.sets(st.integers(0, count - 1), min_size=1)) for _ in range(2))
    labels = random.choice(sorted(true), documents).astype(np.int32)
    logits = random.normal(size=(documents, count)).astype(np.float32)
    logits[:, sorted(set(range(count)) - answered)] = -20.0
    return logits, labels


@pytest.mark.filterwarnings("ignore:A single label was found")  # scikit-learn on matthews_corrcoef of one label
@given(answers())
@settings(deadline=None, max_examples=150)
def test_counted_scores_match_sklearn(case: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = case
    every, predicted = list(range(logits.shape[1])), logits.argmax(axis=1)
    found = scores(logits, labels, NAMES[: len(every)])
    assert np.array_equal(found.confusion, confusion_matrix(labels, predicted, labels=every))
    assert found.accuracy == pytest.approx(np.mean(labels == predicted))
    assert found.macro_f1 == pytest.approx(f1_score(labels, predicted, labels=every, average="macro", zero_division=0))
    assert found.mcc == pytest.approx(matthews_corrcoef(labels, predicted), abs=1e-12)
    expected = precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0)
    mine = [(one.precision, one.recall, one.f1, one.support) for one in found.per_label]
    np.testing.assert_allclose(np.transpose(mine), expected, atol=1e-12)
    weighted = precision_recall_fscore_support(labels, predicted, labels=every, average="weighted", zero_division=0)
    np.testing.assert_allclose(
        (found.weighted.precision, found.weighted.recall, found.weighted.f1), weighted[:3], atol=1e-12
    )


@given(answers())
@settings(deadline=None, max_examples=80)
def test_probability_scores_match_sklearn(case: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = case
    every = list(range(logits.shape[1]))
    found, probability = scores(logits, labels, NAMES[: len(every)]), probabilities(logits)
    assert found.loss == found.calibration.nll == pytest.approx(log_loss(labels, probability, labels=every))
    expected = brier_score_loss(labels, probability, labels=every, scale_by_half=False)
    assert found.calibration.brier == pytest.approx(expected, abs=1e-12)


def test_softmax_matches_scipy_at_extreme_logits() -> None:
    logits = np.array([[1e30, -1e30, 0.0], [-700.0, -701.0, -702.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(probabilities(logits), np.exp(scipy_log_softmax(logits.astype(np.float64), axis=1)))
    assert scores(logits, np.array([0, 0, 2], np.int32), "abc").loss == pytest.approx((0.40760596 + np.log(3)) / 3)


def test_calibration_error_matches_a_worked_example() -> None:
    confidence = np.array([0.6, 0.7, 0.9, 1.0])
    right = np.array([False, True, True, True])
    bins = [abs((0 - 0.6) + (1 - 0.7)), abs((1 - 0.9) + (1 - 1.0))]
    assert expected_calibration_error(confidence, right, bins=2) == pytest.approx(sum(bins) / 4)


@given(st.integers(0, 2**32), st.integers(1, 80))
@settings(deadline=None, max_examples=50)
def test_calibration_error_ignores_the_order_of_documents(seed: int, documents: int) -> None:
    random = np.random.default_rng(seed)
    confidence, right = random.choice([0.5, 0.75, 0.9], documents), random.random(documents) < 0.7
    order = random.permutation(documents)
    expected = expected_calibration_error(confidence[order], right[order], 15)
    assert expected_calibration_error(confidence, right, 15) == pytest.approx(expected)


def test_constant_confidence_is_judged_as_one_group() -> None:
    right = np.arange(100) < 60
    assert expected_calibration_error(np.full(100, 0.6), right, 10) == pytest.approx(0.0, abs=1e-12)


@given(answers())
@settings(deadline=None, max_examples=30)
def test_json_round_trip(case: tuple[np.ndarray, np.ndarray]) -> None:
    found = scores(case[0], case[1], NAMES[: case[0].shape[1]])
    assert Scores.from_json(json.loads(json.dumps(found.as_json(), allow_nan=False))) == found


def test_json_has_the_documented_form() -> None:
    value = scores(np.eye(2, dtype=np.float32), np.array([0, 1], np.int32), ["bad", "good"]).as_json()
    assert list(value) == [
        "documents", "loss", "accuracy", "accuracy_interval", "macro_f1", "mcc", "confusion", "labels", "per_label",
        "weighted", "calibration",
    ]  # fmt: skip
    assert value["per_label"] == {
        name: {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1} for name in ("bad", "good")
    }
    assert value["confusion"] == [[1, 0], [0, 1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_an_error(bad: float) -> None:
    with pytest.raises(DuyguError, match="not finite"):
        scores(np.array([[bad, 0.0]], np.float32), np.array([0], np.int32), "ab")
