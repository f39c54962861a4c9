"""How sure one may be: intervals and paired tests on counts of documents.

Two classifiers that answered the same documents differ only where exactly one of them is right. With ``only_a`` and
``only_b`` such documents among ``documents``, everything about the pair follows from these three counts. All shares
and differences are between -1 and 1; "points" are these times 100.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# (scipy ships no types; what comes from it is given one at once)

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
ALPHA = 0.05
POWER = 0.80
NEGLIGIBLE = 1e-12  # probability that may be left out of a sum


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
    z = _z(confidence)
    share = right / documents
    centre = share + z * z / (2 * documents)
    half = z * (share * (1 - share) / documents + (z / (2 * documents)) ** 2) ** 0.5
    scale = 1 + z * z / documents
    low = 0.0 if right == 0 else (centre - half) / scale  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if right == documents else (centre + half) / scale
    return low, high


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


def _rejection_limits(counts: NDArray[np.int64], alpha: float) -> NDArray[np.int64]:
    """For each number of discordant documents, the largest smaller side that rejects at ``alpha``; -1 where none."""
    from scipy.special import bdtr
    from scipy.stats import binom

    limits = np.asarray(binom.ppf(alpha / 2, counts, 0.5), dtype=np.int64)
    rejects = 2 * bdtr(np.maximum(limits, 0), counts, 0.5) <= alpha
    return np.where(rejects, limits, limits - 1)


def _z(confidence: float) -> float:
    """The two-sided normal quantile: 1.96 for .95."""
    return NormalDist().inv_cdf((1 + confidence) / 2)
