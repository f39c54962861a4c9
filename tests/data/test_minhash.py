"""MinHash against all pairs: what it finds, what it misses, and that nothing else is called a copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from duygu.data import duplicates
from duygu.data.corpus import read_corpus
from duygu.data.demo import demo_corpus
from duygu.data.duplicates import duplicate_groups, normal_form
from duygu.data.minhash import ALIKE, NEIGHBOURS, RUN, likely_pairs
from tests.data.test_duplicates import mutated


def jaccard(one: str, other: str) -> float:
    """The definition, on the texts themselves."""
    sets = [{text[n : n + RUN] for n in range(max(1, len(text) - RUN + 1))} for text in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def linked(groups: np.ndarray) -> set[tuple[int, int]]:
    """Every pair of one group."""
    numbers = groups.tolist()
    return {(i, j) for j in range(len(numbers)) for i in range(j) if numbers[i] == numbers[j]}


def test_likely_pairs_hold_those_that_are_alike() -> None:
    texts = sorted({normal_form(text) for text in mutated(300, 0)})
    exact = {(i, j): jaccard(texts[i], texts[j]) for j in range(len(texts)) for i in range(j)}
    found = set(map(tuple, likely_pairs(texts).tolist()))
    alike = {pair for pair, value in exact.items() if value >= ALIKE + 0.15}
    assert len(alike) > 30
    assert len(found & alike) >= 0.98 * len(alike)
    assert min(exact[pair] for pair in found) > ALIKE - 0.15


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
    assert likely_pairs([]).shape == (0, 2)
    assert likely_pairs(["a"]).shape == (0, 2)
    assert likely_pairs(["a", "b", "a", ""]).tolist() == [[0, 2]]
    assert likely_pairs(["\ud800", "\ud800"]).tolist() == [[0, 1]]


def test_groups_that_are_too_many_for_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = mutated(300, 4)
    monkeypatch.setattr(duplicates, "EXACT_LIMIT", 299)
    whole = duplicate_groups(texts)
    monkeypatch.setattr(duplicates, "BLOCK", 60)
    parts = duplicate_groups(texts)
    assert len(linked(whole) & linked(parts)) >= 0.9 * len(linked(whole))


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
