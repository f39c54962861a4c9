"""Intervals, tests and power against scipy and published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2, nct, t, ttest_1samp

from duygu.verdict.stats import (
    Components,
    Estimate,
    agreement,
    holm,
    mcnemar_exact,
    mcnemar_power,
    minimum_detectable,
    paired_difference,
    share_interval,
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


VALUES = st.lists(st.floats(-0.1, 0.1), min_size=3, max_size=12).filter(lambda values: np.std(values) > 1e-4)


def of_seeds(values: list[float]) -> Estimate:
    """Of seeds alone, as if there were all documents of the world."""
    between = float(np.var(values, ddof=1))
    return Components(float(np.mean(values)), len(values), 10**9, between, 0.0, 0.0).estimate()


@given(VALUES, st.floats(0.001, 0.1))
@settings(deadline=None)
def test_seeds_alone_give_the_one_sample_t_tests_of_scipy(values: list[float], margin: float) -> None:
    found, expected = of_seeds(values), ttest_1samp(values, 0)
    assert found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert found.interval() == pytest.approx((interval.low, interval.high))
    above = ttest_1samp(values, -margin, alternative="greater").pvalue
    below = ttest_1samp(values, margin, alternative="less").pvalue
    assert found.equivalence(margin) == pytest.approx(max(above, below))
    assert (found.equivalence(margin) < 0.05) == (max(map(abs, found.interval(0.9))) < margin)


def test_documents_and_seeds_match_the_published_reader_study() -> None:
    """Van Dyke's 5 readers (seeds), 114 cases (documents) and 2 treatments (engines), as R's MRMCaov analyses them.

    Its tables: MS(T:R), Cov2 and Cov3 go in; difference, standard error, df, interval and p come out. It takes the
    covariances as known, hence the endless groups.
    """
    between, shared = 2 * 0.0005510306, 2 * (0.0003440748 - 0.0002390284)
    found = Components(-0.04380032, 5, 10**9, between, shared, 0.001).estimate()
    assert (found.error, found.df) == pytest.approx((0.02074862, 15.25967), rel=1e-5)
    assert found.interval() == pytest.approx((-0.0879594986, 0.0003588544), abs=1e-7)
    assert found.p == pytest.approx(0.05166569, rel=1e-5)
    one_treatment = Components(0.8970370, 5, 10**9, 0.003082629, 0.0004839618, 0.001).estimate()
    assert (one_treatment.error, one_treatment.df) == pytest.approx((0.03317360, 12.74465), rel=1e-5)
    assert one_treatment.interval() == pytest.approx((0.8252236, 0.9688505), abs=1e-6)


@pytest.mark.parametrize(
    ("sd", "expected"), [(1.0, (3.1, 2.05, 1.35, 0.95)), (1.5, (4.65, 3.05, 2.0, 1.4)), (2.0, (6.15, 4.05, 2.65, 1.85))]
)
def test_detectable_matches_the_published_table_of_seeds(sd: float, expected: tuple[float, ...]) -> None:
    """Two-sample t with 3, 5, 10 and 20 seeds a side, alpha .05, power .80."""
    found = [Estimate(0.0, sd * (2 / seeds) ** 0.5, 2 * seeds - 2).detectable() for seeds in (3, 5, 10, 20)]
    assert found == pytest.approx(expected, abs=0.051)


@given(st.floats(1, 1e4), st.floats(1e-4, 1))
@settings(deadline=None, max_examples=50)
def test_detectable_has_the_power_of_scipys_noncentral_t(df: float, error: float) -> None:
    found = Estimate(0.0, error, df).detectable()
    limit = t.ppf(0.975, df)
    assert nct.sf(limit, df, found / error) == pytest.approx(0.8, abs=1e-6)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closure_of_bonferroni(p_values: list[float]) -> None:
    """A hypothesis falls where every intersection that it is part of does: Marcus, Peritz and Gabriel (1976)."""
    everyone = range(len(p_values))
    subsets = [[i for i in everyone if mask >> i & 1] for mask in range(1, 2 ** len(p_values))]
    for i, found in zip(everyone, holm(p_values), strict=True):
        worst = max(min(1.0, len(some) * min(p_values[j] for j in some)) for some in subsets if i in some)
        assert found == pytest.approx(worst)


def test_holm_matches_its_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.integers(1, 400), st.integers(1, 400))
@settings(deadline=None)
def test_an_interval_with_binomial_error_is_wilsons(right: int, wrong: int) -> None:
    documents = right + wrong
    share = right / documents
    estimate = Estimate(share, (share * (1 - share) / documents) ** 0.5, 1e9)
    assert share_interval(estimate, documents) == pytest.approx(wilson(right, documents), abs=1e-6)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_without_spread_counts_its_groups(share: float) -> None:
    found = share_interval(Estimate(share, 0.0, 1e9), 120)
    assert found == pytest.approx(wilson(round(120 * share), 120), abs=1e-6)


def test_no_spread_at_all_is_still_uncertain() -> None:
    """Two documents more than were seen: 90 % within .68 points of 341 documents, and not within 1.5 of 120."""
    few, many = (Components(0.0, 5, n, 0.0, 0.0, 0.0, 1 / n).estimate() for n in (120, 341))
    assert (many.p, few.p) == (1.0, 1.0)
    assert many.interval(0.9)[1] == pytest.approx(1.6449 * 2**0.5 / 341, rel=0.01)
    assert many.equivalence() < 0.05 < few.equivalence()


@given(st.integers(0, 60), st.integers(1, 60), st.integers(200, 2000))
def test_one_seed_without_copies_has_edwards_corrected_mcnemar(only_a: int, only_b: int, documents: int) -> None:
    """Edwards (1948): (|b - c| - 1)^2 / (b + c) is chi-squared; here b + c counts two documents more."""
    apart = only_a + only_b
    difference = (only_a - only_b) / documents
    found = Estimate(difference, (apart + 2) ** 0.5 / documents, 1e9, 1 / documents).p
    beyond = max(abs(only_a - only_b) - 1, 0)
    assert found == pytest.approx(chi2.sf(beyond**2 / (apart + 2), 1), abs=1e-6)


@pytest.mark.parametrize(("difference", "share", "published"), [(0.02, 0.10, 2056), (0.01, 0.06, 4964)])
def test_documents_needed_are_near_mcnemars(difference: float, share: float, published: int) -> None:
    """One seed and no copies; the published numbers are for the exact test."""
    single = (share - difference**2) / 341
    found = Components(0.0, 1, 341, 0.0, single, single, 1 / 341).documents_needed(341, difference)
    assert found is not None
    assert found == pytest.approx(published, rel=0.04)


@given(st.floats(0, 3e-4), st.floats(1e-5, 3e-4), st.floats(0, 1), st.integers(2, 10))
@settings(deadline=None, max_examples=50)
def test_what_is_needed_is_enough_and_one_less_is_not(between: float, single: float, part: float, seeds: int) -> None:
    found = Components(0.0, seeds, 341, between, part * single, single, 1 / 341)
    documents, more = found.documents_needed(341), found.seeds_needed()
    if documents is not None and documents > 2:
        assert found.resized(documents / 341, seeds).estimate().detectable() <= 0.015
        assert found.resized((documents - 1) / 341, seeds).estimate().detectable() > 0.015
    if more is not None:
        assert found.resized(1.0, more).estimate().detectable() <= 0.015
        assert more == 2 or found.resized(1.0, more - 1).estimate().detectable() > 0.015


def test_seeds_that_differ_too_much_leave_documents_no_way() -> None:
    found = Components(0.0, 3, 341, 0.02**2, 1e-4, 2e-4, 1 / 341)
    assert found.documents_needed(341) is None
    assert Components(0.0, 1, 341, 0.0, 2e-4, 2e-4, 1 / 341).seeds_needed() is None
