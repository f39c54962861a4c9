"""Intervals, tests and power against scipy and published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from duygu.verdict.stats import (
    agreement,
    mcnemar_exact,
    mcnemar_power,
    minimum_detectable,
    paired_difference,
    wilson,
)


@given(st.integers(0, 500), st.integers(0, 500), st.sampled_from([0.8, 0.95, 0.99]))
@settings(deadline=None)
def test_wilson_matches_scipy(right: int, wrong: int, confidence: float) -> None:
    if right + wrong == 0:
        assert wilson(0, 0) == (0.0, 1.0)
        return
    expected = binomtest(right, right + wrong).proportion_ci(confidence, method="wilson")
    assert wilson(right, right + wrong, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.integers(0, 300), st.integers(0, 300))
@settings(deadline=None)
def test_mcnemar_matches_scipy_binomial(only_a: int, only_b: int) -> None:
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar_exact(only_a, only_b) == pytest.approx(expected)


def test_mcnemar_matches_fagerland_2014() -> None:
    """Airway hyper-responsiveness of 21 children, 1 against 7: exact p .0703."""
    assert mcnemar_exact(1, 7) == pytest.approx(0.0703, abs=5e-5)


def test_paired_interval_matches_statpsych() -> None:
    """The example of ci.prop.ps in the R package of the method's first author: 12, 4, 26, 6."""
    found = paired_difference(26, 4, 48)
    assert (found.low, found.high) == pytest.approx((0.2548067, 0.6251933), abs=1e-7)
    assert found.value == pytest.approx(22 / 48)


def test_paired_interval_covers_at_its_rate() -> None:
    """Simulation with known truth: 341 documents, 6 % against 3 % discordant."""
    random, covered = np.random.default_rng(0), 0
    for only_a, only_b, _ in random.multinomial(341, [0.06, 0.03, 0.91], size=4000):
        found = paired_difference(int(only_a), int(only_b), 341)
        covered += found.low <= 0.03 <= found.high
    assert 0.94 <= covered / 4000 <= 0.965


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        (342, (3.5, 4.4, 5.0, 6.0, 7.0)),
        (1000, (2.0, 2.6, 2.9, 3.5, 4.0)),
        (1707, (1.6, 2.0, 2.2, 2.7, 3.1)),
    ],
)
def test_minimum_detectable_matches_the_published_table(documents: int, expected: tuple[float, ...]) -> None:
    found = [minimum_detectable(documents, share) for share in (0.05, 0.08, 0.10, 0.15, 0.20)]
    assert [round(100 * value, 1) for value in found if value is not None] == pytest.approx(expected, abs=0.051)


def test_power_matches_simulation() -> None:
    random = np.random.default_rng(1)
    counts = random.multinomial(200, [0.10, 0.03, 0.87], size=4000)
    found = np.mean([mcnemar_exact(int(only_a), int(only_b)) <= 0.05 for only_a, only_b, _ in counts])
    assert mcnemar_power(200, 0.13, 0.07) == pytest.approx(found, abs=0.02)


@given(st.integers(1, 600), st.floats(0, 1))
@settings(deadline=None, max_examples=40)
def test_minimum_detectable_has_the_power_it_names(documents: int, discordant: float) -> None:
    found = minimum_detectable(documents, discordant)
    if found is None:
        assert documents < 6  # below six documents even a unanimous difference has p above .05
    else:
        assert mcnemar_power(documents, max(discordant, found), found) == pytest.approx(0.8, abs=1e-3)


def test_agreement_counts_equal_answers() -> None:
    assert agreement(np.array(["x", "y", "y"]), np.array(["x", "y", "x"])) == pytest.approx(2 / 3)
