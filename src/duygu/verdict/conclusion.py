"""What the runs of several engines and seeds show together, in numbers and in words.

The question is which engine would be more accurate with other documents of this kind and other seeds, so both draws
are in every interval and p (docs/statistics.md has the model). Accuracy decides the verdict, named beforehand;
macro-F1 and MCC stand beside it and are corrected for nothing but the number of engines.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from duygu.verdict.pooling import Pooled, by_engine, document_groups, ensemble, label_numbers
from duygu.verdict.resampling import Measured, measure, tallies
from duygu.verdict.runs import ONE_SEED, ONE_SEED_OF_MODELS, engine_title
from duygu.verdict.stats import (
    ALPHA,
    MARGIN,
    Components,
    Estimate,
    Interval,
    holm,
    mcnemar_exact,
    minimum_detectable,
    share_interval,
)
from duygu.verdict.tables import points, signed

DIFFERENT, EQUIVALENT, UNDECIDED = "different", "equivalent", "not distinguishable"
Sides = Mapping[tuple[str, int], tuple[Pooled, ...]]  # name and seed: the runs whose mean stands for them
NO_GROUPS = (
    "These runs do not say which documents are copies of one another, so each counted as independent: intervals are "
    "too narrow where there are copies."
)


@dataclass(frozen=True, slots=True)
class ScoreDifference:
    """One score of engine a less that of b, over documents and seeds."""

    difference: float
    interval: Interval  # 95 %
    p: float
    p_holm: float  # corrected for the number of pairs that answer the same question
    minimum_detectable: float | None  # true difference found with power .8; None where none would be

    def as_json(self) -> dict[str, object]:
        """An entry of ``scores``."""
        return {
            "difference": self.difference, "interval": list(self.interval), "p": self.p, "p_holm": self.p_holm,
            "minimum_detectable": self.minimum_detectable,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Contrast:
    """One side against another: two engines on one model, or two models over ``engines`` that both ran in."""

    a: str
    b: str
    engines: tuple[str, ...]  # of two models; none where a and b are engines
    seeds: tuple[int, ...]  # that both sides have
    by_seed: tuple[float, ...]  # difference in accuracy on each
    documents: int
    scores: Mapping[str, ScoreDifference]
    margin: float
    equivalence_p: float
    interval90: Interval
    documents_needed: int | None
    seeds_needed: int | None

    @property
    def equivalent(self) -> bool:
        """Whether two one-sided tests both reject a difference of the margin."""
        return self.equivalence_p < ALPHA

    @property
    def verdict(self) -> str:
        """One of three words; a small difference that is sure is one, even within the margin."""
        if self.scores["accuracy"].p_holm < ALPHA:
            return DIFFERENT
        return EQUIVALENT if self.equivalent else UNDECIDED

    def as_json(self) -> dict[str, object]:
        """An entry of ``engine_pairs`` or ``model_pairs`` in comparison.json."""
        seeds = [{"seed": seed, "difference": one} for seed, one in zip(self.seeds, self.by_seed, strict=True)]
        return {
            "a": self.a,
            "b": self.b,
            **({"engines": list(self.engines), "by_seed": seeds} if self.engines else {}),
            "seeds": len(self.seeds),
            "documents": self.documents,
            "scores": {name: found.as_json() for name, found in self.scores.items()},
            "equivalence": {
                "margin": self.margin, "p": self.equivalence_p, "interval90": list(self.interval90),
                "equivalent": self.equivalent,
            },
            "needed": {"documents": self.documents_needed, "seeds": self.seeds_needed},
            "verdict": self.verdict,
            "sentence": sentence(self),
        }  # fmt: skip


def conclude(pooled: Sequence[Pooled], margin: float = MARGIN) -> tuple[dict[str, dict[str, object]], list[Contrast]]:
    """One model: the intervals of every engine by its name, and every pair of engines on the seeds that both have.

    Pairs are not corrected for their number: `corrected` does so for all that are asked at once.
    """
    measured = measured_runs(pooled)
    engines: dict[str, dict[str, object]] = {}
    for engine in by_engine(pooled):
        places = [place for place, one in enumerate(pooled) if one.engine == engine]
        engines[engine] = _intervals({name: found.components(places) for name, found in measured.items()})
    sides: Sides = {(one.engine, one.seed): (one,) for one in pooled}
    return engines, [pair for a, b in combinations(engines, 2) if (pair := contrast(a, b, sides, measured, margin))]


def measured_runs(pooled: Sequence[Pooled]) -> dict[str, Measured]:
    """Every score of all engines and seeds and how they vary with the documents."""
    first = pooled[0]
    ids = first.answers.ids
    groups = document_groups(ids, first.runs[0].data)
    labels = label_numbers(first.runs[0], first.answers.labels)
    predicted = np.stack([label_numbers(one.runs[0], one.answers.predicted) for one in pooled])
    alone = np.arange(len(ids)) if groups is None else groups
    return measure(tallies(labels, predicted, alone, len(first.test.labels)))


def summary(seeds: Sequence[Pooled], with_ensemble: bool = False) -> dict[str, object]:
    """One engine over its seeds: mean, standard deviation (null for one), worst and best, never the best alone."""
    runs = [run for one in seeds for run in one.runs]
    found: dict[str, object] = {
        "runs": len(runs),
        "collapsed": sum(bool(run.metrics["collapsed"]) for run in runs),
        "restarts": sum(int(run.metrics.get("restarts", 0)) for run in runs),
    }
    for score in ("accuracy", "macro_f1", "mcc", "loss"):
        values = [float(getattr(one.test, score)) for one in seeds]
        found[f"{score}_mean"] = statistics.mean(values)
        found[f"{score}_sd"] = statistics.stdev(values) if len(values) > 1 else None
        found[f"{score}_min"], found[f"{score}_max"] = min(values), max(values)
    found["ensemble"] = ensemble(seeds).as_json() if with_ensemble and len(seeds) > 1 else None
    if len(runs) > len(seeds):
        found["pooled"] = [{"seed": one.seed, "test": one.test.as_json()} for one in seeds]
    return found


def sentence(pair: Contrast) -> str:
    """The verdict as a reader should meet it: what was found, how sure it is, and what would be needed to know more."""
    a, b = (pair.a, pair.b) if pair.engines else (engine_title(pair.a), engine_title(pair.b))
    found = f"{a} and {b}: {_finding(pair, a, b)}"
    if len(pair.seeds) > 1:
        return found
    return f"{found} {ONE_SEED_OF_MODELS if pair.engines else ONE_SEED}"


def _finding(pair: Contrast, a: str, b: str) -> str:
    accuracy, margin = pair.scores["accuracy"], points(pair.margin)
    basis = f"over {pair.documents} documents" + (f" and {len(pair.seeds)} seeds" if len(pair.seeds) > 1 else "")
    if len(pair.engines) > 1:
        basis += f", in the mean of {' and '.join(map(engine_title, pair.engines))}"
    if pair.verdict == DIFFERENT:
        better, other = (a, b) if accuracy.difference > 0 else (b, a)
        low, high = sorted(abs(bound) for bound in accuracy.interval)
        small = f" It is smaller than {margin} points all the same." if pair.equivalent else ""
        return (
            f"different. {better} is {points(abs(accuracy.difference))} points more accurate than {other} "
            f"(95 % interval {points(low)} to {points(high)}, {p_text(accuracy.p_holm)}) {basis}.{small}"
        )
    if pair.verdict == EQUIVALENT:
        low, high = pair.interval90
        return (
            f"equivalent within {margin} points. The difference in accuracy is {signed(accuracy.difference)} points "
            f"(90 % interval {signed(low)} to {signed(high)}, {p_text(pair.equivalence_p)}) {basis}."
        )
    low, high = accuracy.interval
    return (
        f"not distinguishable with this data. The difference in accuracy is {signed(accuracy.difference)} points "
        f"(95 % interval {signed(low)} to {signed(high)}, {p_text(accuracy.p_holm)}) {basis}. {_needed(pair)}"
    )


def _needed(pair: Contrast) -> str:
    """What would tell the margin from nothing with power .8."""
    margin, least = points(pair.margin), pair.scores["accuracy"].minimum_detectable
    unseen = (
        f"{pair.documents} documents cannot show any difference"
        if least is None
        else f"A true difference under {points(least)} points could have gone unseen"
    )
    ways = [f"{rounded(number)} {what}" for number, what in (
        (pair.documents_needed, "documents"), (pair.seeds_needed, "seeds")
    ) if number is not None]  # fmt: skip
    if least is not None and least <= pair.margin:
        return f"{unseen}; near the margin as this one is, it needs more documents and seeds to be placed."
    if ways:
        return f"{unseen}; about {' or '.join(ways)} would be needed to find one of {margin}."
    return f"{unseen}; to find one of {margin}, more documents and more seeds would be needed together."


def contrast(
    a: str,
    b: str,
    sides: Sides,
    measured: Mapping[str, Measured],
    margin: float,
    engines: tuple[str, ...] = (),
) -> Contrast | None:
    """Two sides on the seeds that both have, uncorrected; None where they share no seed.

    ``measured`` has the scores of ``sides`` in their order; ``engines`` are those of two models.
    """
    places = {side: place for place, side in enumerate(sides)}
    seeds = tuple(seed for name, seed in sides if name == a and (b, seed) in sides)
    if not seeds:
        return None
    plus, minus = ([places[name, seed] for seed in seeds] for name in (a, b))
    parts = {name: found.components(plus, minus) for name, found in measured.items()}
    differences = {name: _difference(part.estimate()) for name, part in parts.items()}
    first, other = sides[a, seeds[0]], sides[b, seeds[0]]
    if len(seeds) == 1:
        for one, against in zip(first, other, strict=True):
            differences["accuracy"] = _as_mcnemar(differences["accuracy"], one, against)
    values, documents = measured["accuracy"].values, first[0].test.documents
    estimate = parts["accuracy"].estimate()
    short = estimate.equivalence(margin) >= ALPHA and estimate.detectable() > margin
    return Contrast(
        a=a,
        b=b,
        engines=engines,
        seeds=seeds,
        by_seed=tuple((values[plus] - values[minus]).tolist()),
        documents=documents,
        scores=differences,
        margin=margin,
        equivalence_p=estimate.equivalence(margin),
        interval90=estimate.interval(1 - 2 * ALPHA),
        documents_needed=parts["accuracy"].documents_needed(documents, margin) if short else None,
        seeds_needed=parts["accuracy"].seeds_needed(margin) if short else None,
    )


def corrected(pairs: Sequence[Contrast]) -> list[Contrast]:
    """The pairs with Holm's correction for their number, score by score; what is decided needs nothing more."""
    found = list(pairs)
    for name in found[0].scores if found else ():
        corrected = holm([pair.scores[name].p for pair in found])
        found = [
            replace(pair, scores={**pair.scores, name: replace(pair.scores[name], p_holm=p)})
            for pair, p in zip(found, corrected, strict=True)
        ]
    return [
        pair if pair.verdict == UNDECIDED else replace(pair, documents_needed=None, seeds_needed=None) for pair in found
    ]


def _difference(estimate: Estimate) -> ScoreDifference:
    p = estimate.p
    return ScoreDifference(estimate.value, estimate.interval(), p, p, estimate.detectable())


def _as_mcnemar(found: ScoreDifference, a: Pooled, b: Pooled) -> ScoreDifference:
    """For one seed: no more sure than exact McNemar, which knows no copies, and the interval, which does."""
    right_a, right_b = (one.answers.predicted == one.answers.labels for one in (a, b))
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    documents = len(right_a)
    least = minimum_detectable(documents, (only_a + only_b) / documents)
    p = max(found.p, mcnemar_exact(only_a, only_b))
    unseen = None if least is None else max(least, found.minimum_detectable or 0.0)
    return ScoreDifference(found.difference, found.interval, p, p, unseen)


def accuracy_interval(accuracy: Components) -> Interval:
    """95 % interval of an engine's accuracy: Wilson's, which needs no step to stay honest at 0 and 1."""
    return share_interval(replace(accuracy, step=0.0).estimate(), accuracy.groups)


def _intervals(parts: Mapping[str, Components]) -> dict[str, object]:
    """95 % intervals of an engine's mean scores over documents and seeds."""
    found: dict[str, object] = {"accuracy_interval": list(accuracy_interval(parts["accuracy"]))}
    for name, least in (("macro_f1", 0.0), ("mcc", -1.0)):
        low, high = parts[name].estimate().interval()
        found[f"{name}_interval"] = [max(least, low), min(1.0, high)]
    return found


def p_text(p: float) -> str:
    """P in three decimals."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)


def rounded(number: int) -> str:
    """Two digits of a number, rounded up: no more is known."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return f"{-(-number // unit) * unit:,}"
