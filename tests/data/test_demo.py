"""The bundled corpus: readable, balanced, faulty where it says so, and too hard to be solved by counting words."""

from __future__ import annotations

import numpy as np
import pytest

from duygu.data.corpus import Corpus, read_corpus
from duygu.data.demo import demo_corpus
from duygu.data.split import duplicate_groups, make_split


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return read_corpus(demo_corpus())


def test_demo_has_two_balanced_labels_and_its_announced_faults(corpus: Corpus) -> None:
    assert corpus.names == ("negative", "positive")
    np.testing.assert_array_equal(np.bincount(corpus.labels), [82, 81])
    assert dict(corpus.encodings) == {"UTF-8": 161, "UTF-8 with BOM": 1, "cp1254": 1}
    assert corpus.warnings == ()
    readme = (demo_corpus().parent / "README.md").read_text(encoding="utf-8")
    assert "synthetic" in readme
    assert "163 short" in readme


def test_demo_has_four_pairs_of_copies(corpus: Corpus) -> None:
    sizes = np.bincount(duplicate_groups(corpus.texts))
    assert sorted(sizes[sizes > 1]) == [2, 2, 2, 2]
    assert len(set(corpus.texts)) == len(corpus.texts) - 2


def test_demo_file_names_do_not_tell_the_label(corpus: Corpus) -> None:
    sources = np.array([id.split("/")[1].split("_")[0] for id in corpus.ids])
    for source in np.unique(sources):
        assert 0.3 < corpus.labels[sources == source].mean() < 0.7


def test_linear_model_learns_demo_but_not_all_of_it(corpus: Corpus) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    split = make_split(corpus.labels, duplicate_groups(corpus.texts), corpus.ids)
    texts = np.array(corpus.texts, object)
    model = make_pipeline(TfidfVectorizer(analyzer="char", ngram_range=(3, 5)), LogisticRegression(C=10))
    model.fit(texts[split.train], corpus.labels[split.train])
    rest = np.concatenate([split.validation, split.test])
    assert 0.65 < model.score(texts[rest], corpus.labels[rest]) < 0.97
