"""How much of a published gap the conventions of its evaluation could have made, measured on this comparison's runs.

"JAX or PyTorch: Financial News Sentiment Analysis" (September 2024) reported 90.35 % for PyTorch and 86.31 % for JAX.
It averaged one engine's scores by support and gave the other's for the positive label, left the last, incomplete batch
of one engine's test out, chose the number of epochs by the test part, and ran each engine once. Here each convention
is applied to the same answers, one at a time, and set against the honest number.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from duygu.errors import UserError
from duygu.verdict.metrics import Scores
from duygu.verdict.pooling import Pooled, by_engine
from duygu.verdict.runs import engine_title
from duygu.verdict.tables import signed

PUBLISHED_GAP = 309 / 342 - 290 / 336  # accuracy of PyTorch less that of JAX, as published


@dataclass(frozen=True, slots=True)
class Effect:
    """What one convention does to one score of one engine, over its seeds; all are shares."""

    convention: str
    score: str
    engine: str
    honest: float
    shown: float
    low: float  # of shown minus honest: over seeds, or over what cannot be known
    high: float

    @property
    def effect(self) -> float:
        """How far the convention moves the score."""
        return self.shown - self.honest

    @property
    def share_of_gap(self) -> float:
        """The most of the published gap that this convention can make."""
        return max(abs(self.low), abs(self.high)) / PUBLISHED_GAP


def report_2024(pooled: Sequence[Pooled]) -> dict[str, object]:
    """The conventions of the report beside the honest ones, as ``protocols`` of comparison.json holds them.

    Raises `UserError` for other than two labels, of which the second counts as the positive one.
    """
    labels = pooled[0].test.labels
    if len(labels) != 2:
        problem = f"the report had two labels, these runs have {len(labels)}"
        raise UserError(problem, "--protocol report-2024", "leave --protocol out")
    effects = {engine_title(engine): list(_effects(own)) for engine, own in by_engine(pooled).items()}
    return {
        "name": "report-2024",
        "published_gap": PUBLISHED_GAP,
        "positive": labels[1],
        "effects": [
            {**asdict(effect), "effect": effect.effect, "share_of_gap": effect.share_of_gap}
            for found in effects.values()
            for effect in found
        ],
        "columns": ["", "honest", "reported", "effect, points", "of the gap"],
        "rows": [row for engine, found in effects.items() for row in _rows(engine, found)],
        "title": f"What the conventions of the 2024 report can make of its {PUBLISHED_GAP * 100:.1f} points",
        "note": (
            "One convention at a time, on the same answers; means over seeds, in brackets their range. Averages: the "
            f"scores of {labels[1]} in place of the means weighted by "
            "support, which leaves accuracy as it is. Last batch: the documents beyond the "
            "last whole one are left out, and the range is over which they might be. Best epoch: the one that is best "
            "on what is then reported, in place of the last; here on the validation part, as no test part is scored "
            "in between. One run: in place of the mean. The share of the gap is that of the largest effect, in "
            "whichever direction."
        ),
    }


def _effects(own: Sequence[Pooled]) -> Iterator[Effect]:
    """All conventions on one engine's seeds."""
    engine, tests = engine_title(own[0].engine), [one.test for one in own]
    for name in ("precision", "recall", "f1"):
        honest = [float(getattr(test.weighted, name)) for test in tests]
        shown = [float(getattr(test.per_label[1], name)) for test in tests]
        score = "F1" if name == "f1" else name
        yield _over_seeds("averages", score, engine, honest, shown)
    yield dropped_batch(tests, own[0].runs[0].recipe.batch, engine)
    yield _best_epoch(own, engine)
    if len(own) > 1:
        accuracies = [test.accuracy for test in tests]
        mean = statistics.mean(accuracies)
        yield _over_seeds("one run", "accuracy", engine, [mean] * len(accuracies), accuracies)


def dropped_batch(tests: Sequence[Scores], batch: int, engine: str) -> Effect:
    """Leaving out the documents beyond the last whole batch, whichever they were."""
    documents = tests[0].documents
    rest = documents % batch if documents > batch else 0
    rights = [int(np.trace(np.array(test.confusion))) for test in tests]
    honest = statistics.mean(rights) / documents
    lows = [max(0, right - rest) / (documents - rest) - right / documents for right in rights]
    highs = [min(right, documents - rest) / (documents - rest) - right / documents for right in rights]
    return Effect(f"last batch, {rest} documents", "accuracy", engine, honest, honest, min(lows), max(highs))


def _best_epoch(own: Sequence[Pooled], engine: str) -> Effect:
    """Reporting the best epoch of the part that chose it, instead of the last."""
    courses = [
        [float(epoch["validation"]["accuracy"]) for epoch in run.metrics["epochs"] if epoch["epoch"] > 0]
        for one in own
        for run in one.runs
    ]
    honest, shown = [course[-1] for course in courses], [max(course) for course in courses]
    return _over_seeds("best epoch", "accuracy", engine, honest, shown)


def _over_seeds(convention: str, score: str, engine: str, honest: Sequence[float], shown: Sequence[float]) -> Effect:
    moved = [after - before for before, after in zip(honest, shown, strict=True)]
    means = statistics.mean(honest), statistics.mean(shown)
    return Effect(convention, score, engine, *means, min(moved), max(moved))


def _rows(engine: str, effects: Sequence[Effect]) -> Iterator[list[str]]:
    yield [engine, "", "", "", ""]
    for effect in effects:
        name = f"  {effect.convention}" + (f", {effect.score}" if effect.score != "accuracy" else "")
        values = f"{effect.honest * 100:.1f} %", f"{effect.shown * 100:.1f} %"
        size = f"{signed(effect.effect)} ({signed(effect.low)} to {signed(effect.high)})"
        yield [name, *values, size, f"{effect.share_of_gap * 100:.0f} %"]
