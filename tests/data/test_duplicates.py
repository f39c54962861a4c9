"""Copies: the pruned search against all pairs computed in full."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from duygu.data import duplicates
from duygu.data.corpus import read_corpus
from duygu.data.demo import demo_corpus
from duygu.data.duplicates import duplicate_groups, normal_form

WORDS = (
    "kâr",
    "zarar",
    "faiz",
    "borsa",
    "hisse",
    "endeks",
    "düşüş",
    "veri",
    "beklenti",
    "şirket",
    "banka",
    "ihracat",
    "kur",
)


def all_pairs(texts: Sequence[str]) -> NDArray[np.int32]:
    """The definition, taken literally: dense products of all pairs."""
    forms, copies = np.unique([normal_form(text) for text in texts], return_inverse=True)
    characters = TfidfVectorizer(analyzer="char", ngram_range=(3, 5)).fit_transform(forms).toarray()
    shingles = CountVectorizer(analyzer=duplicates._shingles, binary=True).fit_transform(forms).toarray().astype(float)
    both = shingles @ shingles.T
    sizes = shingles.sum(axis=1)
    jaccard = both / (sizes[:, None] + sizes - both)
    alike = (characters @ characters.T >= 0.85) | (jaccard >= 0.6)
    return connected_components(alike)[1][copies]


def same_partition(a: NDArray[np.int32], b: NDArray[np.int32]) -> bool:
    return len(set(zip(a.tolist(), b.tolist(), strict=True))) == len(set(a.tolist())) == len(set(b.tolist()))


def mutated(count: int, seed: int) -> list[str]:
    """Texts with copies of all degrees, so that pairs fall on both sides of the thresholds."""
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(WORDS, random.integers(1, 40))) for _ in range(count // 3)]
    while len(texts) < count:
        words = texts[random.integers(len(texts))].split()
        for _ in range(random.integers(0, 6)):
            words[random.integers(len(words))] = str(random.choice([*WORDS, "yeni", "2024", "lira"]))
        texts.append(" ".join(words))
    return texts


@pytest.mark.parametrize("seed", range(4))
def test_groups_match_all_pairs_on_texts_full_of_copies(seed: int) -> None:
    texts = mutated(400, seed)
    expected = all_pairs(texts)
    assert 50 < len(set(expected.tolist())) < 390
    assert same_partition(duplicate_groups(texts), expected)


def test_groups_match_all_pairs_on_demo() -> None:
    texts = read_corpus(demo_corpus()).texts
    assert same_partition(duplicate_groups(texts), all_pairs(texts))


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = mutated(150, 9)
    whole = duplicate_groups(texts)
    monkeypatch.setattr(duplicates, "CHUNK", 7)
    np.testing.assert_array_equal(duplicate_groups(texts), whole)


def test_case_punctuation_and_spacing_do_not_count() -> None:
    groups = duplicate_groups(["Kâr arttı, iş iyi!", "KÂR  ARTTI İŞ İYİ", "kâr azaldı, iş kötü", "kâr; arttı iş iyi."])
    assert groups[0] == groups[1] == groups[3] != groups[2]


def test_texts_without_words_are_copies_only_when_equal() -> None:
    groups = duplicate_groups(["!!!", "???", "!!!", "a", "b"])
    assert groups[0] == groups[2]
    assert len(set(groups.tolist())) == 4


def test_no_text_and_one_text() -> None:
    assert duplicate_groups([]).tolist() == []
    assert duplicate_groups(["a"]).tolist() == [0]
