"""How far each engine's probabilities can be believed, as the comparison records it: once as answered, once calibrated.

``predictions.csv`` holds the probabilities as the model answers; the calibrated ones follow from them and the run's
temperature, p^(1/T) made to sum to 1, so every number here can be computed again from the run folders.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from duygu.verdict.calibration import (
    Doubles,
    Labels,
    accuracy_at,
    aurc,
    bin_count,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
    selective_risk,
    tempered,
)
from duygu.verdict.pooling import label_numbers
from duygu.verdict.runs import Run

COVERAGES = 50  # points of a risk-coverage curve
ANSWERED = (0.8, 0.9)  # coverages whose accuracy is named
LEAST = 1e-300  # probability that still has a logarithm


@dataclass(frozen=True, slots=True)
class _Answered:
    """A run's test documents: probabilities (N, L) and true labels (N,)."""

    probability: Doubles
    labels: Labels

    @property
    def confidence(self) -> Doubles:
        return np.max(self.probability, axis=1)

    @property
    def right(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.argmax(self.probability, axis=1) == self.labels


def confidence(runs: Sequence[Run]) -> dict[str, object]:
    """``calibration`` of comparison.json: for every engine its temperatures, and what is measured without and with.

    ``scaled`` is None for runs of a version that fitted no temperature.
    """
    engines = dict.fromkeys(run.engine for run in runs)
    return {engine: _engine([run for run in runs if run.engine == engine]) for engine in engines}


def _engine(runs: Sequence[Run]) -> dict[str, object]:
    temperatures = {run.name: run.metrics.get("temperature") for run in runs}
    plain = [_Answered(run.answers.probabilities, label_numbers(run, run.answers.labels)) for run in runs]
    scaled = [
        _Answered(tempered(one.probability, float(temperature)), one.labels)
        for one, temperature in zip(plain, temperatures.values(), strict=True)
        if temperature is not None
    ]
    complete = len(scaled) == len(runs)
    return {"temperatures": temperatures, "plain": _measured(plain), "scaled": _measured(scaled) if complete else None}


def _measured(runs: Sequence[_Answered]) -> dict[str, object]:
    """Means over runs; bins over the documents of all runs together, since those of one run hold few."""
    risks = [selective_risk(one.confidence, one.right) for one in runs]
    sure, right = (np.concatenate([getattr(one, name) for one in runs]) for name in ("confidence", "right"))
    logarithms = [np.log(np.maximum(one.probability, LEAST)) for one in runs]
    likelihoods = [negative_log_likelihood(log, one.labels) for log, one in zip(logarithms, runs, strict=True)]
    errors = [expected_calibration_error(one.confidence, one.right, bin_count(len(one.labels))) for one in runs]
    return {
        "nll": statistics.mean(likelihoods),
        "brier": statistics.mean(brier_score(one.probability, one.labels) for one in runs),
        "ece": statistics.mean(errors),
        "aurc": statistics.mean(map(aurc, risks)),
        "accuracy_at": {str(share): statistics.mean(accuracy_at(risk, share) for risk in risks) for share in ANSWERED},
        "bins": [asdict(one) for one in reliability(sure, right, bin_count(len(runs[0].labels)))],
        "curve": _curve(risks),
    }


def _curve(risks: Sequence[Doubles]) -> list[list[float]]:
    """(coverage, mean accuracy over runs) at every fiftieth."""
    shares = [number / COVERAGES for number in range(1, COVERAGES + 1)]
    return [[share, statistics.mean(accuracy_at(risk, share) for risk in risks)] for share in shares]
