"""MinHash against all pairs: what it finds, what it misses, and that nothing else is called a copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from duygu.data import duplicates
from duygu.data.corpus import read_corpus
from duygu.data.demo import demo_corpus
from duygu.data.duplicates import duplicate_groups, normal_form
from duygu.data.minhash import ALIKE, NEIGHBOURS, RUN, near_pairs
from tests.data.test_duplicates import mutated


def jaccard(one: str, other: str) -> float:
    """The definition, on the texts themselves."""
    sets = [{text[n : n + RUN] for n in range(max(1, len(text) - RUN + 1))} for text in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def linked(groups: np.ndarray) -> set[tuple[int, int]]:
    """Every pair of one group."""
    numbers = groups.tolist()
    return {(i, j) for j in range(len(numbers)) for i in range(j) if numbers[i] == numbers[j]}


@pytest.mark.parametrize("seed", range(3))
def test_pairs_are_those_of_the_definition(seed: int) -> None:
    texts = sorted({normal_form(text) for text in mutated(400, seed)})
    expected = {(i, j) for j in range(len(texts)) for i in range(j) if jaccard(texts[i], texts[j]) >= ALIKE}
    found = set(map(tuple, near_pairs(texts).tolist()))
    assert len(expected) > 30
    assert found <= expected
    assert len(found) >= 0.95 * len(expected)


def test_copies_are_found_among_more_texts_than_are_compared_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["bir iki üç dört beş altı yedi", "bir iki üç dört beş altı yedi.", "bir iki üç dört beş altı yedi sekiz"]
    monkeypatch.setattr(duplicates, "EXACT_LIMIT", 2)
    assert len(set(duplicate_groups(texts).tolist())) == 1
    assert len(set(duplicate_groups([*texts, "faizler yükseldi, borsa düştü"]).tolist())) == 2


def test_many_copies_of_one_text_are_one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than each is compared with."""
    monkeypatch.setattr(duplicates, "EXACT_LIMIT", 2)
    start = "şirketin üçüncü çeyrek kârı beklentileri aştı ve hisse günü artıda kapattı, analistler olumlu buldu "
    texts = [f"{start} {number}" for number in range(5 * NEIGHBOURS)]
    assert set(duplicate_groups(texts).tolist()) == {0}


def test_texts_without_a_run_of_five_characters() -> None:
    assert near_pairs([]).shape == (0, 2)
    assert near_pairs(["a"]).shape == (0, 2)
    assert near_pairs(["a", "b", "a", ""]).tolist() == [[0, 2]]
    assert near_pairs(["\ud800", "\ud800"]).tolist() == [[0, 1]]


def test_demo_has_the_same_copies_by_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    recall, precision = against_all_pairs(read_corpus(demo_corpus()).texts, monkeypatch)
    assert recall >= 0.9
    assert precision >= 0.9


def test_real_texts_have_the_same_copies_by_both_ways(bist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recall, precision = against_all_pairs(read_corpus(bist).texts, monkeypatch)
    assert recall >= 0.9
    assert precision >= 0.9


def against_all_pairs(texts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> tuple[float, float]:
    """Share of the pairs within groups of all pairs that MinHash links, and share of what it links that are such."""
    expected = linked(duplicate_groups(texts))
    monkeypatch.setattr(duplicates, "EXACT_LIMIT", 2)
    found = linked(duplicate_groups(texts))
    return len(found & expected) / len(expected), len(found & expected) / len(found)
