"""Confidence against scikit-learn, scipy and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from duygu.verdict.calibration import (
    COLDEST,
    HOTTEST,
    Bin,
    accuracy_at,
    aurc,
    brier_score,
    calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
    selective_risk,
    tempered,
)


def drawn(seed: int, documents: int = 200, labels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Random logits and labels that they know something of."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, labels, documents).astype(np.int32)
    return 2 * random.normal(size=(documents, labels)) + 2 * np.eye(labels)[truth], truth


@given(st.integers(0, 2**32), st.integers(2, 5))
@settings(deadline=None, max_examples=30)
def test_brier_and_likelihood_match_sklearn(seed: int, labels: int) -> None:
    logits, truth = drawn(seed, labels=labels)
    probability, every = softmax(logits, axis=1), list(range(labels))
    expected = brier_score_loss(truth, probability, labels=every, scale_by_half=False)
    assert brier_score(probability, truth) == pytest.approx(expected, abs=1e-12)
    found = negative_log_likelihood(log_softmax(logits, axis=1), truth)
    assert found == pytest.approx(log_loss(truth, probability, labels=every))


def test_bins_of_equal_mass_match_sklearn() -> None:
    random = np.random.default_rng(5)
    confidence = random.permutation(np.linspace(0.5, 0.999, 150))
    right = random.random(150) < confidence
    bins = reliability(confidence, right, 15)
    accuracy, mean = calibration_curve(right, confidence, n_bins=15, strategy="quantile")
    np.testing.assert_allclose([one.confidence for one in bins], mean)
    np.testing.assert_allclose([one.accuracy for one in bins], accuracy)
    assert [one.documents for one in bins] == [10] * 15


def test_bins_and_their_error_match_a_worked_example() -> None:
    confidence, right = np.array([0.9, 0.6, 1.0, 0.7]), np.array([True, False, True, True])
    bins = reliability(confidence, right, 2)
    assert bins == (Bin(2, pytest.approx(0.65), 0.5), Bin(2, pytest.approx(0.95), 1.0))
    assert calibration_error(bins) == pytest.approx((2 * 0.15 + 2 * 0.05) / 4)
    assert len(reliability(confidence, right, 15)) == 4


def test_risk_and_coverage_match_a_worked_example() -> None:
    """Four documents, surest first right, wrong, right, wrong: risks 0, 1/2, 1/3, 1/2."""
    risk = selective_risk(np.array([0.6, 0.9, 0.7, 0.8]), np.array([False, True, True, False]))
    np.testing.assert_allclose(risk, [0, 1 / 2, 1 / 3, 1 / 2])
    assert aurc(risk) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert accuracy_at(risk, 0.75) == pytest.approx(2 / 3)
    assert accuracy_at(risk, 0.5) == accuracy_at(risk, 0.26) == pytest.approx(1 / 2)
    assert accuracy_at(risk, 1.0) == pytest.approx(1 / 2)


def test_coverage_rounds_up_to_whole_documents_only_where_it_must() -> None:
    risk = 1 - np.arange(1, 11) / 10
    assert [accuracy_at(risk, share) for share in (0.8, 0.9, 0.81)] == pytest.approx([0.8, 0.9, 0.9])


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_equal_confidence_has_no_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    confidence, right = random.choice([0.5, 0.7, 0.9], 40), random.random(40) < 0.7
    order = random.permutation(40)
    np.testing.assert_allclose(selective_risk(confidence[order], right[order]), selective_risk(confidence, right))


@pytest.mark.parametrize("scale", [0.1, 1.0, 8.0])
@pytest.mark.parametrize("labels", [2, 4])
def test_temperature_matches_scipys_minimum(scale: float, labels: int) -> None:
    logits, truth = drawn(11, labels=labels)
    rows = np.arange(len(truth))

    def loss(logarithm: float) -> float:
        return float(-np.mean(log_softmax(scale * logits / np.exp(logarithm), axis=1)[rows, truth]))

    expected = np.exp(minimize_scalar(loss, bounds=(-6, 6), method="bounded", options={"xatol": 1e-9}).x)
    assert fit_temperature((scale * logits).astype(np.float32), truth) == pytest.approx(expected, rel=1e-4)


def test_temperature_finds_the_one_that_made_the_labels() -> None:
    """Labels drawn from the softmax of logits, which then are tripled: the temperature is 3 but for chance."""
    random = np.random.default_rng(3)
    logits = 2 * random.normal(size=(20_000, 3))
    truth = (softmax(logits, axis=1).cumsum(axis=1) < random.random((20_000, 1))).sum(axis=1)
    assert fit_temperature(3 * logits, truth) == pytest.approx(3, rel=0.03)


def test_temperature_stays_where_there_is_no_optimum() -> None:
    logits, truth = np.array([[2.0, -1.0], [-3.0, 0.5]]), np.array([0, 1])
    assert fit_temperature(logits, truth) == 1.0
    assert fit_temperature(logits, 1 - truth) == HOTTEST
    nearly = np.tile([[1e-4, 0.0]], (1000, 1))
    assert fit_temperature(nearly, np.repeat([0, 1], [999, 1])) == COLDEST


@given(st.integers(0, 2**32), st.floats(0.1, 10))
@settings(deadline=None, max_examples=30)
def test_tempered_probabilities_are_those_of_divided_logits_and_keep_every_label(seed: int, temperature: float) -> None:
    logits, _ = drawn(seed, documents=20)
    found = tempered(softmax(logits, axis=1), temperature)
    np.testing.assert_allclose(found, softmax(logits / temperature, axis=1), rtol=1e-9, atol=1e-300)
    np.testing.assert_array_equal(found.argmax(axis=1), logits.argmax(axis=1))
