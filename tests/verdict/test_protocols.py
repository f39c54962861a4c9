"""The conventions of the 2024 report: its own confusion matrix, and what they do to made runs."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from duygu.errors import UserError
from duygu.verdict.compare import Conclude, comparison
from duygu.verdict.metrics import Calibration, from_confusion
from duygu.verdict.protocols import PUBLISHED_GAP, dropped_batch
from duygu.verdict.runs import read_run
from tests.verdict.folders import Written, write_run

PUBLISHED = np.array([[130, 21], [25, 160]])  # JAX after epoch 3: rows true, columns predicted


def of_confusion(matrix: np.ndarray) -> object:
    return from_confusion(matrix, ("negative", "positive"), Calibration(0.0, 0.0, 0.0))


def test_the_reports_jax_scores_are_those_of_the_positive_label() -> None:
    """Published: precision .8840, recall .8649. By support they would have been those that sklearn gives."""
    scores = of_confusion(PUBLISHED)
    assert (scores.per_label[1].precision, scores.per_label[1].recall) == pytest.approx((0.8840, 0.8649), abs=5e-5)
    true = np.repeat([0, 0, 1, 1], PUBLISHED.ravel())
    predicted = np.repeat([0, 1, 0, 1], PUBLISHED.ravel())
    precision, recall, f1, _ = precision_recall_fscore_support(true, predicted, average="weighted")
    weighted = scores.weighted
    assert (weighted.precision, weighted.recall, weighted.f1) == pytest.approx((precision, recall, f1))
    assert weighted.recall == pytest.approx(290 / 336)
    assert pytest.approx(0.0404, abs=5e-5) == PUBLISHED_GAP


def test_a_dropped_batch_moves_accuracy_as_far_as_any_choice_of_documents_does() -> None:
    """Every number of right answers among the six that 16 leaves over from 342."""
    for right in (296, 5, 340):
        scores = of_confusion(np.array([[right, 342 - right], [0, 0]]))
        effect = dropped_batch([scores], 16, "JAX")
        kept = [(right - lost) / 336 - right / 342 for lost in range(7) if lost <= right and 6 - lost <= 342 - right]
        assert (effect.low, effect.high) == pytest.approx((min(kept), max(kept)))
        assert effect.convention == "last batch, 6 documents"
    assert dropped_batch([of_confusion(PUBLISHED)], 16, "JAX").high == 0.0


def test_every_convention_is_shown_beside_the_honest_number(tmp_path: Path) -> None:
    runs = [
        read_run(write_run(tmp_path / f"{engine}{seed}", Written(engine, seed, noise=noise, documents=341)))
        for (noise, engine), seed in product(enumerate(("torch", "jax")), (1, 2, 3))
    ]
    found = comparison("tiny", runs, how=Conclude(protocol="report-2024"))["protocols"]
    torch = [effect for effect in found["effects"] if effect["engine"] == "PyTorch"]
    assert [effect["score"] for effect in torch] == ["precision", "recall", "F1", "accuracy", "accuracy", "accuracy"]
    averages, epoch, single = torch[1], torch[4], torch[5]
    tests = [run.test for run in runs[:3]]
    assert averages["honest"] == pytest.approx(np.mean([test.accuracy for test in tests]))  # recall by support
    assert averages["shown"] == pytest.approx(np.mean([test.per_label[1].recall for test in tests]))
    courses = [[e["validation"]["accuracy"] for e in run.metrics["epochs"][1:]] for run in runs[:3]]
    assert epoch["effect"] == pytest.approx(np.mean([max(course) - course[-1] for course in courses]))
    assert epoch["low"] >= 0
    accuracies = [test.accuracy for test in tests]
    assert single["low"] == pytest.approx(min(accuracies) - np.mean(accuracies))
    assert single["share_of_gap"] == pytest.approx(max(abs(single["low"]), abs(single["high"])) / PUBLISHED_GAP)
    assert len(found["effects"]) == 12
    assert [row[0] for row in found["rows"][:3]] == ["PyTorch", "  averages, precision", "  averages, recall"]
    assert all(len(row) == len(found["columns"]) for row in found["rows"])


def test_three_labels_and_unknown_protocols_are_refused(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", Written(names=("a", "b", "c"))))
    with pytest.raises(UserError, match="the report had two labels, these runs have 3"):
        comparison("tiny", [run], how=Conclude(protocol="report-2024"))
    with pytest.raises(UserError, match="there is no protocol 'report-2023'"):
        Conclude(protocol="report-2023")
