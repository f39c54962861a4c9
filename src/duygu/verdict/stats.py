"""How sure one may be: intervals, tests and power, from counts of documents and from seeds.

Two models that answered the same documents differ only where exactly one of them is right: with ``only_a`` and
``only_b`` such documents, everything about the pair follows from counts. Two engines differ by more: each was trained
from several seeds, and another seed would have answered otherwise. `Components` holds both sources of chance, which
become one `Estimate`. All shares and differences are between -1 and 1; "points" are these times 100.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# (scipy ships no types; what comes from it is given one at once)

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
ALPHA = 0.05
POWER = 0.80
MARGIN = 0.015  # of accuracy, within which engines count as equivalent
NEGLIGIBLE = 1e-12  # probability that may be left out of a sum
MOST_DOCUMENTS, MOST_SEEDS = 10_000_000, 10_000  # what needs more than these is out of reach


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of two shares, a minus b, and its confidence interval."""

    value: float
    low: float
    high: float


def wilson(right: int, documents: int, confidence: float = 1 - ALPHA) -> Interval:
    """Score interval of a share, ``right`` of ``documents``; (0, 1) for no documents. Wilson (1927)."""
    assert 0 <= right <= documents
    if documents == 0:
        return 0.0, 1.0
    return _score_interval(right / documents, documents, _z(confidence))


def share_interval(estimate: Estimate, documents: int, confidence: float = 1 - ALPHA) -> Interval:
    """Wilson's interval of a share whose error is not binomial: at the number of documents that has this error.

    Korn and Graubard (1998) and Kott and Carr (1997) do so for clustered surveys. A share of 0 or 1, which shows no
    error, counts as ``documents`` independent ones.
    """
    share = estimate.value
    binomial = share * (1 - share)
    effective = binomial / estimate.error**2 if binomial > 0 and estimate.error > 0 else float(documents)
    return _score_interval(share, effective, _t(estimate.df, (1 + confidence) / 2))


def agreement(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The share of documents given the same label by both; ``a`` and ``b`` are (N,) in the same order."""
    assert a.shape == b.shape
    assert a.size > 0
    return float(np.count_nonzero(a == b) / a.size)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided p of "neither is better": binomial on the documents that exactly one of the two gets right.

    McNemar (1947), in its exact form; 1 where no document separates the two.
    """
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def paired_difference(only_a: int, only_b: int, documents: int, confidence: float = 1 - ALPHA) -> Difference:
    """Accuracy of a minus accuracy of b on the same documents, with an adjusted Wald interval.

    Bonett and Price (2012), "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data": one document is added to either side, which keeps its coverage where few documents separate the two.
    """
    assert 0 <= only_a + only_b <= documents
    assert documents > 0
    total = documents + 2
    centre = (only_a - only_b) / total
    half = _z(confidence) * (((only_a + only_b + 2) / total - centre * centre) / total) ** 0.5
    return Difference((only_a - only_b) / documents, max(-1.0, centre - half), min(1.0, centre + half))


def mcnemar_power(documents: int, discordant: float, difference: float, alpha: float = ALPHA) -> float:
    """The chance that exact McNemar finds a true ``difference`` when the two differ on a share ``discordant``.

    The number of discordant documents is itself binomial; the power is averaged over it.
    """
    from scipy.special import bdtr
    from scipy.stats import binom

    assert 0 <= difference <= discordant <= 1
    if discordant * documents < NEGLIGIBLE:
        return 0.0
    least, most = binom.ppf((NEGLIGIBLE, 1 - NEGLIGIBLE), documents, discordant)
    counts = np.arange(int(least), int(most) + 1)
    limits = _rejection_limits(counts, alpha)
    towards_a = (1 + difference / discordant) / 2
    low = bdtr(limits, counts, towards_a)
    high = bdtr(limits, counts, 1 - towards_a)
    found = np.where(limits >= 0, low + high, 0.0)
    return float(np.sum(binom.pmf(counts, documents, discordant) * found))


def minimum_detectable(documents: int, discordant: float, alpha: float = ALPHA, power: float = POWER) -> float | None:
    """The smallest true difference that exact McNemar finds with this ``power``; None where no difference would do.

    ``discordant`` is the share of documents on which exactly one of the two is right. A share too small to show
    anything is raised to the least that could: a difference implies at least as many discordant documents.
    """
    from scipy.optimize import brentq

    def excess(share: float, difference: float) -> float:
        return mcnemar_power(documents, share, difference, alpha) - power

    def one_sided(share: float) -> float:
        return excess(share, share)

    def at_this_share(difference: float) -> float:
        return excess(discordant, difference)

    if one_sided(1.0) < 0:
        return None
    if one_sided(discordant) <= 0:
        return cast(float, brentq(one_sided, discordant, 1.0))
    return cast(float, brentq(at_this_share, 0.0, discordant))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its standard error; their ratio has Student's t distribution with ``df`` degrees of freedom."""

    value: float
    error: float  # above 0, but for a share without any spread
    df: float
    step: float = 0.0  # what one document changes: the least difference there could be

    def interval(self, confidence: float = 1 - ALPHA) -> Interval:
        """Two-sided confidence interval."""
        half = _t(self.df, (1 + confidence) / 2) * self.error
        return self.value - half, self.value + half

    @property
    def p(self) -> float:
        """Two-sided p of "the true value is 0", corrected for continuity by one document as Edwards (1948) did."""
        from scipy.special import stdtr

        beyond = max(abs(self.value) - self.step, 0.0)
        return min(1.0, 2 * float(stdtr(self.df, -beyond / self.error)))

    def equivalence(self, margin: float = MARGIN) -> float:
        """P of "the true value is ``margin`` or more from 0": two one-sided tests, Schuirmann (1987)."""
        from scipy.special import stdtr

        return float(stdtr(self.df, (abs(self.value) - margin) / self.error))

    def detectable(self, alpha: float = ALPHA, power: float = POWER) -> float:
        """The smallest true value that the two-sided test finds with this ``power``, by the noncentral t."""
        from scipy.optimize import brentq
        from scipy.special import nctdtr

        limit = _t(self.df, 1 - alpha / 2)

        def excess(distance: float) -> float:
            return 1 - float(nctdtr(self.df, distance, limit)) - power

        return self.error * cast(float, brentq(excess, 0.0, 4 * limit + 4)) + self.step


@dataclass(frozen=True, slots=True)
class Components:
    """The mean over seeds of a score, or of two engines' difference in it, and what it varies with.

    Seeds and documents are crossed: every seed answered the same documents. In the terms of reader studies in
    radiology, where readers and cases are crossed, this is the model of Obuchowski and Rockette (1995).
    """

    value: float
    seeds: int
    groups: int  # of documents that are copies of one another; a document without a copy is one
    between: float  # variance of the seeds' values; 0 for one seed, which does not show any
    shared: float  # covariance of two seeds' values over draws of documents; for one seed its variance
    single: float  # variance of one seed's value over draws of documents
    step: float = 0.0  # what a single document's answer changes

    def estimate(self) -> Estimate:
        """The value with the variance of both draws; degrees of freedom after Satterthwaite, as in Hillis (2007).

        Two documents more than were seen, one for either side, are counted in, as Bonett and Price (2012) do: so
        engines that agree on every document still have an error.
        """
        documents = max(self.shared, 0.0) + 2 * self.step**2
        seeds = self.between / self.seeds
        variance = documents + seeds
        spread = documents**2 / max(self.groups - 1, 1) + seeds**2 / max(self.seeds - 1, 1)
        df = variance**2 / spread if spread else float(max(self.groups - 1, 1))
        return Estimate(self.value, variance**0.5, df, self.step)

    def resized(self, documents: float, seeds: int) -> Components:
        """What to expect of ``documents`` times as many documents and of another number of seeds."""
        chance = max(self.single - self.shared, 0.0)  # what seeds do on these documents and not on others
        lasting = max(self.between - chance, 0.0)
        return replace(
            self,
            seeds=seeds,
            groups=max(2, round(self.groups * documents)),
            between=(lasting + min(chance, self.between) / documents) if seeds > 1 else 0.0,
            shared=self.shared / documents,
            single=self.single / documents,
            step=self.step / documents,
        )

    def documents_needed(self, documents: int, difference: float = MARGIN) -> int | None:
        """How many documents find a true ``difference`` with power .8, with these seeds; now there are ``documents``.

        None where the seeds' own variance forbids it.
        """

        def enough(number: int) -> bool:
            return self.resized(number / documents, self.seeds).estimate().detectable() <= difference

        return _smallest(enough, 2, MOST_DOCUMENTS)

    def seeds_needed(self, difference: float = MARGIN) -> int | None:
        """How many seeds find a true ``difference`` with power .8 on these documents; None where none would do.

        One seed does not show how seeds vary, so nothing can be said from it.
        """

        def enough(number: int) -> bool:
            return self.resized(1.0, number).estimate().detectable() <= difference

        return _smallest(enough, 2, MOST_SEEDS) if self.seeds > 1 else None


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number, in their order: rejecting below alpha errs in any with alpha at most.

    Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = least
    return corrected


def _rejection_limits(counts: NDArray[np.int64], alpha: float) -> NDArray[np.int64]:
    """For each number of discordant documents, the largest smaller side that rejects at ``alpha``; -1 where none."""
    from scipy.special import bdtr
    from scipy.stats import binom

    limits = np.asarray(binom.ppf(alpha / 2, counts, 0.5), dtype=np.int64)
    rejects = 2 * bdtr(np.maximum(limits, 0), counts, 0.5) <= alpha
    return np.where(rejects, limits, limits - 1)


def _score_interval(share: float, documents: float, z: float) -> Interval:
    centre = share + z * z / (2 * documents)
    half = z * (share * (1 - share) / documents + (z / (2 * documents)) ** 2) ** 0.5
    scale = 1 + z * z / documents
    low = 0.0 if share == 0 else (centre - half) / scale  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if share == 1 else (centre + half) / scale
    return low, high


def _smallest(enough: Callable[[int], bool], least: int, most: int) -> int | None:
    """The smallest whole number from ``least`` to ``most`` that is enough, where all above it are too."""
    if not enough(most):
        return None
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if enough(middle) else (middle + 1, most)
    return least


def _t(df: float, share: float) -> float:
    """The quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(df, share))


def _z(confidence: float) -> float:
    """The two-sided normal quantile: 1.96 for .95."""
    return NormalDist().inv_cdf((1 + confidence) / 2)
