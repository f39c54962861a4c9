"""Splits: shares, strata and groups kept, the same again, and every fault of a given split file told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duygu.data.corpus import read_corpus
from duygu.data.duplicates import EXACT_LIMIT
from duygu.data.split import PARTS, Split, duplicate_groups, make_split, read_split, write_split
from duygu.errors import DataError

COUNT = 100
IDS = tuple(f"{label}/{number:03}.txt" for label in ("down", "up") for number in range(COUNT // 2))
LABELS = np.repeat(np.arange(2, dtype=np.int32), COUNT // 2)
ALONE = np.arange(COUNT, dtype=np.int32)


def parts(split: Split) -> list[list[int]]:
    return [getattr(split, part).tolist() for part in PARTS]


def saved(tmp_path: Path, **content: Any) -> Path:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def names(indices: Sequence[int] | range) -> list[str]:
    return [IDS[index] for index in indices]


@given(
    labels=st.lists(st.integers(0, 3), min_size=40, max_size=300),
    copies=st.lists(st.tuples(st.integers(0, 299), st.integers(0, 299)), max_size=60),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_split_is_a_partition_that_keeps_groups_whole(
    labels: list[int], copies: list[tuple[int, int]], seed: int
) -> None:
    count = len(labels)
    groups = np.arange(count, dtype=np.int32)
    for first, second in copies:
        groups[first % count] = groups[second % count]
    ids = [f"{number:03}" for number in range(count)]
    array = np.array(labels, np.int32)
    try:
        split = make_split(array, groups, ids, seed)
    except DataError:
        assert min(len(np.unique(groups[array == label])) for label in set(labels)) < 12
        return
    assert sorted(chain.from_iterable(parts(split))) == list(range(count))
    for part in parts(split):
        assert part == sorted(part)
        assert set(array[part]) == set(labels)
    sides = [set(groups[part]) for part in parts(split)]
    assert all(first.isdisjoint(second) for first, second in combinations(sides, 2))
    assert parts(make_split(array, groups, ids, seed)) == parts(split)


@given(st.lists(st.integers(20, 200), min_size=2, max_size=4), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_every_label_has_its_shares_within_one_document(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    split = make_split(labels, np.arange(len(labels), dtype=np.int32), [f"{n:04}" for n in range(len(labels))], seed)
    for part, share in zip(parts(split), (0.64, 0.16, 0.20), strict=True):
        assert np.all(np.abs(np.bincount(labels[part]) - share * np.array(sizes)) <= 1)


def test_split_depends_on_its_seed() -> None:
    first, second = make_split(LABELS, ALONE, IDS, 0), make_split(LABELS, ALONE, IDS, 1)
    assert first.digest != second.digest
    assert set(first.test.tolist()) != set(second.test.tolist())


def test_three_documents_of_a_label_are_enough_and_two_groups_are_not() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1], np.int32)
    ids = [f"{number}" for number in range(6)]
    split = make_split(labels, np.arange(6, dtype=np.int32), ids)
    assert [len(part) for part in parts(split)] == [2, 2, 2]
    with pytest.raises(DataError, match="no document with the label of 3"):
        make_split(labels, np.array([0, 1, 2, 3, 3, 4], np.int32), ids)


def test_big_group_of_copies_trains() -> None:
    groups = ALONE.copy()
    groups[:20] = 0
    assert set(range(20)) <= set(make_split(LABELS, groups, IDS).train.tolist())


def test_written_split_is_read_back(tmp_path: Path) -> None:
    split = make_split(LABELS, ALONE, IDS, 7)
    write_split(tmp_path / "split.json", split, IDS, "digest of the corpus")
    content = json.loads((tmp_path / "split.json").read_text(encoding="utf-8"))
    assert content["schema"] == 1
    assert content["corpus"] == "digest of the corpus"
    again = read_split(tmp_path / "split.json", IDS, LABELS, ALONE, seed=99)
    assert (parts(again), again.seed, again.digest, again.warnings) == (parts(split), 7, split.digest, ())


def test_changed_split_is_told(tmp_path: Path) -> None:
    split = make_split(LABELS, ALONE, IDS)
    write_split(tmp_path / "split.json", split, IDS, "")
    content = json.loads((tmp_path / "split.json").read_text(encoding="utf-8"))
    content["train"].append(content["test"].pop())
    changed = read_split(saved(tmp_path, **content), IDS, LABELS, ALONE)
    assert "was changed" in changed.warnings[0]


def test_validation_is_a_fifth_of_the_training_side(tmp_path: Path) -> None:
    train, test = [*range(40), *range(50, 90)], [*range(40, 50), *range(90, 100)]
    path = saved(tmp_path, train=names(train), test=names(test))
    split = read_split(path, IDS, LABELS, ALONE, seed=3)
    assert sorted([*split.train, *split.validation]) == train
    assert split.test.tolist() == test
    np.testing.assert_array_equal(np.bincount(LABELS[split.validation]), [8, 8])
    assert parts(read_split(path, IDS, LABELS, ALONE, seed=3)) == parts(split)
    assert parts(read_split(path, IDS, LABELS, ALONE, seed=4)) != parts(split)


def test_carved_validation_keeps_groups_whole(tmp_path: Path) -> None:
    groups = ALONE // 2
    train = [*range(40), *range(50, 90)]
    split = read_split(
        saved(tmp_path, train=names(train), test=names([*range(40, 50), *range(90, 100)])), IDS, LABELS, groups
    )
    assert not set(groups[split.train]) & set(groups[split.validation])
    assert split.warnings == ()


def test_file_names_alone_are_understood_where_they_are_unique(tmp_path: Path) -> None:
    ids = tuple(f"{label}/{number:03}.txt" for number, label in enumerate(np.array(["down", "up"])[LABELS]))
    path = saved(
        tmp_path, train=[id[-7:] for id in ids if id[-5] != "9"], test=[id[-7:] for id in ids if id[-5] == "9"]
    )
    split = read_split(path, ids, LABELS, ALONE)
    assert [ids[index][-5] for index in split.test] == ["9"] * 10


def test_leaks_and_unnamed_documents_are_told_and_nothing_is_moved(tmp_path: Path) -> None:
    groups = ALONE.copy()
    groups[41] = groups[3]
    test = [*range(40, 50), *range(90, 99)]
    path = saved(tmp_path, train=names([*range(40), *range(50, 90)]), test=names(test))
    split = read_split(path, IDS, LABELS, groups)
    assert split.test.tolist() == test
    leak, unnamed = split.warnings
    assert leak.startswith("1 of 19 test documents have a copy")
    assert unnamed.startswith("1 documents of the corpus are in no part")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"train": ["down/000.txt"]}, "no list of ids named 'test'"),
        ({"train": "down/000.txt", "test": ["up/000.txt"]}, "no list of ids named 'train'"),
        ({"train": [1], "test": ["up/000.txt"]}, "no list of ids named 'train'"),
        ({"train": names(range(90)), "test": []}, "the test part of the split is empty"),
        (
            {"train": names(range(90)), "validation": [], "test": names([99])},
            "the validation part of the split is empty",
        ),
        (
            {"train": names(range(90)), "test": ["up/x.txt", "up/y.txt"]},
            "2 document(s) of the split are not in the corpus",
        ),
        ({"train": names(range(90)), "test": ["007.txt"]}, "1 name(s) of the split fit several documents"),
        (
            {"train": names(range(90)), "test": names([89, 99])},
            "1 document(s) stand twice in the split, such as up/039",
        ),
        ({"train": names(range(90)), "test": names([98, 99, 98])}, "1 document(s) stand twice"),
        (
            {"train": names(range(90)), "test": names([98, 99])},
            "the test part has no document with the label of down/000",
        ),
    ],
)
def test_faulty_split_is_refused(tmp_path: Path, content: dict[str, Any], problem: str) -> None:
    with pytest.raises(DataError) as caught:
        read_split(saved(tmp_path, **content), IDS, LABELS, ALONE)
    assert problem in caught.value.problem
    assert caught.value.where == str(tmp_path / "split.json")
    assert caught.value.fix


@pytest.mark.parametrize("content", ["", "[1, 2]", "{", '{"schema": 99, "train": [], "test": []}', "\x00"])
def test_file_that_is_no_split_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError):
        read_split(path, IDS, LABELS, ALONE)


def test_missing_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read_split(tmp_path / "absent.json", IDS, LABELS, ALONE)


def test_large_corpus_is_told_how_near_copies_are_found() -> None:
    count = EXACT_LIMIT + 1
    numbers = np.arange(count, dtype=np.int32)
    split = make_split(numbers % 2, numbers, [f"{number:06}" for number in range(count)])
    assert "found by MinHash" in split.warnings[0]


def test_published_bist_split_has_its_size_and_its_leak(bist: Path, bist_split: Path) -> None:
    corpus = read_corpus(bist)
    groups = duplicate_groups(corpus.texts)
    split = read_split(bist_split, corpus.ids, corpus.labels, groups)
    assert [len(part) for part in parts(split)] == [1092, 273, 341]
    trained = np.concatenate([split.train, split.validation])
    exact = {corpus.texts[index] for index in trained}
    assert sum(corpus.texts[index] in exact for index in split.test) == 30
    assert len(corpus.texts) - len(set(corpus.texts)) == 136
    assert split.warnings[0].startswith("53 of 341 test documents have a copy")
