"""Scores of counts, and how they vary with the documents, against scikit-learn, numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from duygu.verdict.resampling import (
    accuracy,
    group_bootstrap,
    largest_step,
    macro_f1,
    mcc,
    measure,
    measure_accuracy,
    tallies,
)
from duygu.verdict.stats import paired_difference

RANDOM = np.random.default_rng(3)
DOCUMENTS = 200
LABELS = RANDOM.integers(0, 3, DOCUMENTS)
PREDICTED = np.where(RANDOM.random((4, DOCUMENTS)) < 0.8, LABELS, RANDOM.integers(0, 3, (4, DOCUMENTS)))
ALONE = np.arange(DOCUMENTS)


def test_scores_of_tallies_match_sklearn() -> None:
    whole = tallies(LABELS, PREDICTED, ALONE, 3).sum(0)
    for run, answers in enumerate(PREDICTED):
        assert accuracy(whole)[run] == pytest.approx(accuracy_score(LABELS, answers))
        assert macro_f1(whole)[run] == pytest.approx(f1_score(LABELS, answers, average="macro"))
        assert mcc(whole)[run] == pytest.approx(matthews_corrcoef(LABELS, answers))


def test_a_label_that_is_nowhere_and_a_constant_answer_score_as_sklearn_has_it() -> None:
    labels, answers = np.array([0, 0, 1, 1]), np.array([[0, 0, 0, 0]])
    whole = tallies(labels, answers, np.arange(4), 3).sum(0)
    expected = f1_score(labels, answers[0], labels=[0, 1, 2], average="macro", zero_division=0)
    assert macro_f1(whole)[0] == pytest.approx(expected)
    assert mcc(whole)[0] == matthews_corrcoef(labels, answers[0]) == 0


def test_covariance_of_single_documents_is_numpys() -> None:
    right = (PREDICTED == LABELS).astype(float)
    found = measure_accuracy(right.T, np.ones(DOCUMENTS))
    assert found.covariance == pytest.approx(np.cov(right) / DOCUMENTS)
    assert found.values == pytest.approx(right.mean(axis=1))


def test_copies_add_no_evidence() -> None:
    """Every document three times, in groups, is as uncertain as once."""
    once = measure(tallies(LABELS, PREDICTED, ALONE, 3), 50)
    thrice = measure(tallies(np.tile(LABELS, 3), np.tile(PREDICTED, 3), np.tile(ALONE, 3), 3), 50)
    for name, found in once.items():
        assert thrice[name].covariance == pytest.approx(found.covariance)
        assert thrice[name].groups == found.groups == DOCUMENTS


def test_uneven_groups_have_the_covariance_that_a_bootstrap_of_them_has() -> None:
    groups = np.sort(RANDOM.integers(0, 90, DOCUMENTS))
    counted = tallies(LABELS, PREDICTED, groups, 3)
    (drawn,) = group_bootstrap(counted, (accuracy,), 8000)
    closed = measure(counted, 50)["accuracy"].covariance
    assert np.cov(drawn, rowvar=False) == pytest.approx(closed, rel=0.06, abs=2e-5)


@pytest.mark.parametrize("score", [macro_f1, mcc])
def test_paired_bootstrap_matches_scipys(score: object) -> None:
    """The standard error of the difference between two runs on the same documents."""
    from typing import cast

    from duygu.verdict.resampling import Score

    scored = cast(Score, score)
    sklearns = {macro_f1: lambda y, p: f1_score(y, p, average="macro"), mcc: matthews_corrcoef}[scored]
    (drawn,) = group_bootstrap(tallies(LABELS, PREDICTED, ALONE, 3), (scored,), 1500)
    expected = bootstrap(
        (LABELS, PREDICTED[0], PREDICTED[1]), lambda y, a, b: sklearns(y, a) - sklearns(y, b),
        paired=True, vectorized=False, n_resamples=600, method="percentile", rng=np.random.default_rng(1),
    )  # fmt: skip
    assert np.std(drawn[:, 0] - drawn[:, 1], ddof=1) == pytest.approx(expected.standard_error, rel=0.12)


def test_draws_are_the_same_every_time() -> None:
    counted = tallies(LABELS, PREDICTED, ALONE, 3)
    first, second = (group_bootstrap(counted, (mcc,), 150)[0] for _ in range(2))
    assert (first == second).all()


def test_components_of_a_difference_are_those_of_the_differences() -> None:
    found = measure_accuracy((PREDICTED == LABELS).T.astype(float), np.ones(DOCUMENTS)).components([0, 1], [2, 3])
    right = (PREDICTED == LABELS).astype(float)
    difference = right[:2] - right[2:]
    covariance = np.cov(difference) / DOCUMENTS
    assert found.value == pytest.approx(difference.mean())
    assert found.between == pytest.approx(np.var(difference.mean(axis=1), ddof=1))
    assert found.shared == pytest.approx(covariance[0, 1])
    assert found.single == pytest.approx(np.trace(covariance) / 2)


def test_one_seed_without_copies_is_near_bonett_and_price() -> None:
    right = (PREDICTED == LABELS).astype(float)
    found = measure_accuracy(right.T, np.ones(DOCUMENTS)).components([0], [1]).estimate()
    only_a, only_b = int(np.sum(right[0] > right[1])), int(np.sum(right[1] > right[0]))
    expected = paired_difference(only_a, only_b, DOCUMENTS)
    assert found.interval() == pytest.approx((expected.low, expected.high), abs=0.002)


def test_the_largest_step_is_that_of_trying_every_one() -> None:
    counted = tallies(LABELS, PREDICTED[:1], ALONE, 3).sum(0)
    for score, theirs in ((macro_f1, lambda p: f1_score(LABELS, p, average="macro")), (accuracy, None)):
        steps: list[float] = []
        for place in np.flatnonzero(PREDICTED[0] == LABELS):
            for wrong in set(range(3)) - {int(LABELS[place])}:
                answers = PREDICTED[0].copy()
                answers[place] = wrong
                before, after = ((theirs(p) if theirs else accuracy_score(LABELS, p)) for p in (PREDICTED[0], answers))
                steps.append(before - after)
        assert largest_step(counted, score) == pytest.approx(max(steps))
