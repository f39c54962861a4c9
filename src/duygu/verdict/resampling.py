"""Scores of many runs on the same documents, and how they vary together when other documents are drawn.

What is drawn is a group of documents that are copies of one another, whole: copies are no independent evidence. All
runs answer every draw alike, so differences between them are paired. Accuracy has its covariance in closed form;
macro-F1 and MCC have it from a bootstrap.

    R  runs     G  groups     L  labels     B  draws     the 3 of a tally: hits, predicted, true documents of a label
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duygu.verdict.stats import Components

Doubles = NDArray[np.float64]
Whole = NDArray[np.integer[Any]]
Score = Callable[[Doubles], Doubles]  # tallies (..., 3, L) to scores (...)

DRAWS = 2000
SEED = 0  # of the draws: the same report from the same predictions
CHUNK = 100  # draws held in memory at a time


@dataclass(frozen=True, slots=True)
class Measured:
    """One score of R runs."""

    values: Doubles  # (R,)
    covariance: Doubles  # (R, R) over draws of documents
    groups: int
    step: float  # the most that a single document's answer changes in a run's score

    def averaged(self, members: Sequence[Sequence[int]]) -> Measured:
        """The mean scores of runs that belong together, one for each of ``members``, which are places of runs.

        The step stays a whole one: runs that are twins change their answer to a document together.
        """
        mix = np.zeros((len(members), len(self.values)))
        for row, places in zip(mix, members, strict=True):
            row[list(places)] = 1 / len(places)
        return Measured(mix @ self.values, mix @ self.covariance @ mix.T, self.groups, self.step)

    def components(self, plus: Sequence[int], minus: Sequence[int] = ()) -> Components:
        """The mean over seeds of runs ``plus``, one per seed, less that of ``minus``, which has the same seeds."""
        mix = np.zeros((len(plus), len(self.values)))
        mix[np.arange(len(plus)), plus] = 1.0
        if minus:
            mix[np.arange(len(plus)), minus] -= 1.0
        values, covariance = mix @ self.values, mix @ self.covariance @ mix.T
        seeds, single = len(plus), float(np.mean(np.diag(covariance)))
        between = float(np.var(values, ddof=1)) if seeds > 1 else 0.0
        shared = (float(np.sum(covariance)) / seeds - single) / (seeds - 1) if seeds > 1 else single
        return Components(float(np.mean(values)), seeds, self.groups, between, shared, single, self.step)


def tallies(labels: Whole, predicted: Whole, groups: Whole, count: int) -> Doubles:
    """(G, R, 3, L) documents of each group, from ``labels`` (N,), ``predicted`` (R, N) and ``groups`` (N,)."""
    numbers = np.unique(groups, return_inverse=True)[1]
    size, nowhere = int(numbers.max()) + 1, count  # a wrong answer hits no label
    counted = np.zeros((size, len(predicted), 3, count))
    for run, answers in enumerate(predicted):
        for kind, named in enumerate((np.where(answers == labels, labels, nowhere), answers, labels)):
            cells = np.bincount(numbers * (count + 1) + named, minlength=size * (count + 1))
            counted[:, run, kind] = cells.reshape(size, count + 1)[:, :count]
    return counted


def accuracy(tally: Doubles) -> Doubles:
    """Share of right answers."""
    return _share(tally[..., 0, :].sum(-1), tally[..., 2, :].sum(-1))


def macro_f1(tally: Doubles) -> Doubles:
    """Mean F1 over all labels, 0 for one that is neither there nor predicted."""
    return _share(2 * tally[..., 0, :], tally[..., 1, :] + tally[..., 2, :]).mean(-1)


def mcc(tally: Doubles) -> Doubles:
    """Matthews correlation for any number of labels (Gorodkin 2004), 0 where either side has one label only."""
    hits, predicted, true = tally[..., 0, :].sum(-1), tally[..., 1, :], tally[..., 2, :]
    whole = true.sum(-1) ** 2
    covariance = hits * true.sum(-1) - (predicted * true).sum(-1)
    return _share(covariance, np.sqrt((whole - (predicted**2).sum(-1)) * (whole - (true**2).sum(-1))))


SCORES: dict[str, Score] = {"accuracy": accuracy, "macro_f1": macro_f1, "mcc": mcc}


def measure(counted: Doubles, draws: int = DRAWS) -> dict[str, Measured]:
    """Every score of the runs that are tallied (G, R, 3, L)."""
    drawn = group_bootstrap(counted, (macro_f1, mcc), draws)
    found = {"accuracy": measure_accuracy(counted[:, :, 0].sum(-1), counted[:, 0, 2].sum(-1))}
    for name, replicates in zip(("macro_f1", "mcc"), drawn, strict=True):
        score = SCORES[name]
        covariance = np.atleast_2d(np.cov(replicates, rowvar=False))
        found[name] = Measured(score(counted.sum(0)), covariance, len(counted), largest_step(counted.sum(0), score))
    return found


def measure_accuracy(right: Doubles, sizes: Doubles) -> Measured:
    """Accuracy from the ``right`` answers (G, R) of groups with ``sizes`` (G,), as a ratio of sums over groups.

    The covariance is that of the ratio's linear form (Cochran 1977, section 6.4); for groups of one document it is
    the covariance of right and wrong.
    """
    documents, groups = float(sizes.sum()), len(sizes)
    values = right.sum(0) / documents
    residual = right - sizes[:, None] * values
    covariance = residual.T @ residual * (groups / max(groups - 1, 1)) / documents**2
    return Measured(values, covariance, groups, 1 / documents)


def group_bootstrap(counted: Doubles, scores: Sequence[Score], draws: int = DRAWS, seed: int = SEED) -> list[Doubles]:
    """Each of ``scores`` as (B, R): of all runs, on as many groups as there are, drawn with replacement. Efron (1979).

    ``counted`` is (G, R, 3, L). A row is one draw that all runs and scores share, which pairs them.
    """
    groups, *shape = counted.shape
    flat, random = counted.reshape(groups, -1), np.random.default_rng(seed)
    parts: list[list[Doubles]] = [[] for _ in scores]
    for start in range(0, draws, CHUNK):
        times = random.multinomial(groups, np.full(groups, 1 / groups), size=min(CHUNK, draws - start))
        drawn = (times.astype(np.float64) @ flat).reshape(-1, *shape)
        for part, score in zip(parts, scores, strict=True):
            part.append(score(drawn))
    return [np.concatenate(part) for part in parts]


def largest_step(tally: Doubles, score: Score) -> float:
    """The most by which ``score`` of any run (R, 3, L) falls when one right answer becomes a wrong one.

    At least what accuracy would fall by, so that it is above 0 where no answer is right.
    """
    labels = tally.shape[-1]
    before, largest = score(tally), 1 / float(tally[0, 2].sum())
    for right, wrong in np.ndindex(labels, labels):
        some = tally[:, 0, right] > 0
        if right != wrong and some.any():
            other = tally[some].copy()
            other[:, (0, 1), right] -= 1.0
            other[:, 1, wrong] += 1.0
            largest = max(largest, float(np.max(before[some] - score(other))))
    return largest


def _share(part: Doubles, whole: Doubles) -> Doubles:
    """``part / whole``, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole != 0)
