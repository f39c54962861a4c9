"""The baselines: what they know, and what they reach on real texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from duygu.verdict.baselines import baselines, linear_logits
from duygu.verdict.metrics import probabilities


def test_majority_answers_with_the_shares_of_the_training_part() -> None:
    labels = np.array([0, 1, 1, 1, 0, 1], np.int32)
    texts = ["down", "up", "up high", "up far", "down", "up"]
    majority, linear = baselines(texts, labels, "ab", np.arange(4, dtype=np.int32), np.array([4, 5], np.int32))
    assert majority.test.confusion == ((0, 1), (0, 1))
    assert majority.test.loss == pytest.approx(-(np.log(2 / 6) + np.log(4 / 6)) / 2)
    assert linear.test.accuracy == 1.0
    assert list(majority.as_json()) == ["name", "test"]


def test_a_label_unseen_in_training_is_never_answered() -> None:
    logits = linear_logits(["up", "down"], np.array([0, 2], np.int32), ["up", "down", "sideways"], 3)
    assert probabilities(logits)[:, 1].max() < 1e-9
    assert np.argmax(logits, axis=1)[:2].tolist() == [0, 2]


def test_one_label_in_training_is_answered_alone() -> None:
    logits = linear_logits(["up", "down"], np.array([1, 1], np.int32), ["up"], 2)
    assert np.argmax(logits) == 1


def test_linear_reaches_its_published_range_on_real_texts(bist: Path, bist_split: Path) -> None:
    split = json.loads(bist_split.read_text(encoding="utf-8"))
    found = {path.name: path for path in bist.rglob("*.txt")}
    paths = [found[name] for name in split["train"] + split["test"]]
    texts = [path.read_bytes().decode("cp1254", "replace") for path in paths]
    labels = np.array([path.parent.name == "positive" for path in paths], np.int32)
    train, test = np.split(np.arange(len(paths), dtype=np.int32), [len(split["train"])])
    majority, linear = baselines(texts, labels, ("negative", "positive"), train, test)
    assert majority.test.documents == linear.test.documents == 341
    assert majority.test.accuracy == pytest.approx(0.54, abs=0.01)
    assert 0.85 <= linear.test.accuracy <= 0.90
