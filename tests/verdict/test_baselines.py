"""The baselines: what they know, and what they reach on real texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from duygu.data.corpus import read_corpus
from duygu.data.demo import demo_corpus
from duygu.verdict.baselines import LINEAR, PER_SOURCE, WORD, baselines, linear_logits, predictors, source_logits
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


def test_linear_matches_sklearns_pipeline() -> None:
    """Though a corpus is counted once, and weighed anew for each training part."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    corpus = read_corpus(demo_corpus())
    texts, labels = corpus.texts[::4], corpus.labels[::4]
    train, test = np.split(np.random.default_rng(0).permutation(len(texts)).astype(np.int32), [100])
    features = make_union(
        TfidfVectorizer(token_pattern=WORD, ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True),
    )
    model = make_pipeline(features, LogisticRegression(C=10.0, max_iter=2000))
    model.fit([texts[n] for n in train], labels[train])
    expected = model.predict_proba([texts[n] for n in test])
    found = predictors(texts, labels, 2)[LINEAR](train, test)
    np.testing.assert_allclose(probabilities(found), expected, atol=1e-3)


def test_each_source_is_answered_with_its_own_majority() -> None:
    sources = ["a", "a", "a", "b", "b", None]
    known = np.array([0, 0, 1, 1, 1, 1], np.int32)
    logits = source_logits(sources, known, ["a", "b", "new", None], 2)
    assert np.argmax(logits, axis=1).tolist() == [0, 1, 1, 1]
    np.testing.assert_allclose(probabilities(logits)[0], [3 / 5, 2 / 5], rtol=1e-6)
    np.testing.assert_allclose(probabilities(logits)[2:], [[3 / 8, 5 / 8]] * 2, rtol=1e-6)


def test_majority_per_source_is_a_baseline_where_sources_are_known() -> None:
    labels = np.array([0, 0, 1, 1, 0, 1], np.int32)
    sources = ["a", "a", "b", "b", "a", "b"]
    parts = np.arange(4, dtype=np.int32), np.array([4, 5], np.int32)
    found = {one.name: one.test for one in baselines(["up"] * 6, labels, "ab", *parts, sources)}
    assert found[PER_SOURCE].accuracy == 1.0
    assert PER_SOURCE not in {one.name for one in baselines(["up"] * 6, labels, "ab", *parts)}


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
