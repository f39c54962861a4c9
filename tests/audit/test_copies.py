"""Copies, conflicts and leaks that were planted: all are found, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from duygu.data.doubts import conflicting_documents, label_doubts
from duygu.data.split import Split
from duygu.verdict.audit.copies import conflicts, exact_copies, inflation, leakage, near_copies
from duygu.verdict.audit.findings import Subject, percent, several
from tests.audit.made import subject, texts, words

WORDS = words(300)
LABELS = ["down", "up"]


def planted(copies: int = 0, spaced: int = 0, near: int = 0, other_label: bool = False) -> Subject:
    """40 texts and then so many copies: to the letter, in capitals, with one word of 30 changed."""
    plain = texts(40, WORDS)
    found = [*plain, *plain[:copies]]
    found += [text.upper() + "!" for text in plain[10 : 10 + spaced]]
    found += [f"{text.rpartition(' ')[0]} changed" for text in plain[20 : 20 + near]]
    labels = [LABELS[number % 2] for number in range(40)]
    labels += [LABELS[(number + other_label) % 2] for start, count in ((0, copies), (10, spaced), (20, near))
               for number in range(start, start + count)]  # fmt: skip
    return subject(found, labels)


def split(test: list[int], train: list[int]) -> Split:
    parts = [np.array(part, np.int32) for part in (train, [], test)]
    return Split(*parts, seed=0, digest="", warnings=())


def test_copies_are_counted_by_how_equal_they_are() -> None:
    made = planted(copies=3, spaced=4, near=5)
    exact, near = exact_copies(made), near_copies(made)
    assert (exact.numbers["verbatim"], exact.numbers["normalised"]) == (3, 7)
    assert exact.numbers["groups"] == [[f"{n:04}", f"{40 + k:04}"] for k, n in enumerate([0, 1, 2, 10, 11, 12, 13])]
    assert (near.numbers["surplus"], near.numbers["documents"]) == (5, 10)
    assert (exact.level, near.level) == ("look", "look")


def test_texts_without_copies_are_fine() -> None:
    made = planted()
    assert [finding.level for finding in (exact_copies(made), near_copies(made), conflicts(made))] == ["fine"] * 3


def test_copies_under_one_label_do_not_conflict() -> None:
    found = conflicts(planted(copies=3, near=3))
    assert (found.level, found.numbers["documents"], found.numbers["near_documents"]) == ("fine", 0, 0)


def test_the_same_text_under_two_labels_is_found_with_both_labels() -> None:
    found = conflicts(planted(copies=1, near=2, other_label=True))
    assert (found.level, found.numbers["documents"], found.numbers["near_documents"]) == ("look", 2, 4)
    assert found.numbers["groups"] == [[{"id": "0000", "label": "down"}, {"id": "0040", "label": "up"}]]
    assert found.numbers["ceiling"] == pytest.approx(42 / 43)


def test_many_conflicts_are_a_stop() -> None:
    assert conflicts(planted(copies=5, other_label=True)).level == "stop"


def test_leaks_are_counted_and_measured() -> None:
    made = planted(copies=4, spaced=2, near=3)
    given = split(test=list(range(40, 49)) + list(range(30, 40)), train=list(range(30)))
    right = np.full((19, 2), -1.0, np.float32)
    right[np.arange(19), made.corpus.labels[given.test]] = 1.0
    right[9:14] *= -1  # five wrong answers, all to documents without twins
    found = leakage(made, given, right)
    assert [found.numbers[key] for key in ("verbatim", "normalised", "near")] == [4, 6, 9]
    assert found.level == "stop"
    assert found.numbers["linear_accuracy"] == pytest.approx(14 / 19)
    assert found.numbers["linear_accuracy_without"] == pytest.approx(5 / 10)
    assert found.numbers["inflation"] == pytest.approx(14 / 19 - 5 / 10)  # here the twins were all answered right
    assert found.numbers["ids"] == [f"{number:04}" for number in range(40, 49)]


def test_a_split_without_leaks_is_fine() -> None:
    made = planted(copies=4)
    given = split(test=list(range(20, 40)), train=[*range(20), *range(40, 44)])
    found = leakage(made, given, np.zeros((20, 2), np.float32))
    assert (found.level, found.numbers["near"], found.numbers["inflation"]) == ("fine", 0, 0.0)


@pytest.mark.parametrize(("share", "clean"), [(0.10, 0.893), (0.15, 0.887), (0.20, 0.879)])
def test_inflation_is_that_of_answering_twins_from_memory(share: float, clean: float) -> None:
    """What the formula (a - d) / (1 - d) leaves of an accuracy of 90.35 %."""
    assert 0.9035 - inflation(0.9035, share) == pytest.approx(clean, abs=0.001)
    assert inflation(0.9, 1.0) == pytest.approx(0.9)
    assert inflation(0.0, 0.5) == 0.0
    assert inflation(1.0, 1.0) == 0.0


def test_doubts_before_training_name_conflicts_tiny_labels_and_imbalance() -> None:
    conflicting, clean = planted(copies=2, other_label=True), planted(copies=2)
    assert "4 documents have the text of another with a different label" in label_doubts(*of(conflicting))[0]
    assert label_doubts(*of(clean)) == []
    few = subject(texts(100, WORDS), ["a"] * 92 + ["b"] * 8)
    tiny, heavy = label_doubts(*of(few))
    assert "'b' has 8 documents" in tiny
    assert "92% of the documents have the label 'a'" in heavy


def of(made: Subject) -> tuple[object, object]:
    return made.corpus, made.near


def test_conflicting_documents_match_the_groups() -> None:
    random = np.random.default_rng(0)
    groups, labels = random.integers(0, 30, 100).astype(np.int32), random.integers(0, 3, 100).astype(np.int32)
    expected = [n for n in range(100) if len(set(labels[groups == groups[n]].tolist())) > 1]
    assert conflicting_documents(groups, labels).tolist() == expected
    assert conflicting_documents(np.empty(0, np.int32), np.empty(0, np.int32)).tolist() == []


def test_groups_of_several_come_largest_first() -> None:
    found = several(np.array([5, 1, 5, 2, 1, 5, 3], np.int32))
    assert [group.tolist() for group in found] == [[0, 2, 5], [1, 4]]


def test_a_share_never_looks_like_none_or_all() -> None:
    assert [percent(share) for share in (0, 1e-6, 0.0004, 0.5, 0.9996, 1)] == [
        "0.0 %",
        "under 0.01 %",
        "0.04 %",
        "50.0 %",
        "99.96 %",
        "100.0 %",
    ]
