"""Folds, splits by time and by source: what each promises, copies on one side, and files that other verbs read."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duygu import cli
from duygu.data.corpus import read_corpus
from duygu.data.demo import demo_corpus
from duygu.data.duplicates import duplicate_groups
from duygu.data.sources import DataFormat
from duygu.data.split import PARTS, Split, read_split
from duygu.data.split_files import SplitRequest, write_splits
from duygu.data.split_kinds import make_folds, sources_to_leave_out, split_by_source, split_by_time
from duygu.errors import DataError, FolderError, UserError
from tests.data.forms import WRITERS, rows_of

COUNT = 120
LABELS = np.arange(COUNT, dtype=np.int32) % 2
IDS = tuple(f"{number:03}" for number in range(COUNT))
ALONE = np.arange(COUNT, dtype=np.int32)
copies = st.lists(st.tuples(st.integers(0, COUNT - 1), st.integers(0, COUNT - 1)), max_size=30)


def with_copies(pairs: list[tuple[int, int]]) -> np.ndarray:
    groups = ALONE.copy()
    for first, second in pairs:
        groups[groups == groups[first]] = groups[second]
    return groups


def parts(split: Split) -> list[list[int]]:
    return [getattr(split, part).tolist() for part in PARTS]


def sides_share_nothing(split: Split, groups: np.ndarray) -> bool:
    sides = [set(groups[part].tolist()) for part in parts(split)]
    return all(first.isdisjoint(second) for first, second in combinations(sides, 2))


@given(pairs=copies, folds=st.integers(2, 8), seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_every_document_is_tested_in_just_one_fold(pairs: list[tuple[int, int]], folds: int, seed: int) -> None:
    groups = with_copies(pairs)
    made = make_folds(LABELS, groups, IDS, folds, seed)
    assert sorted(chain.from_iterable(split.test.tolist() for split in made)) == list(range(COUNT))
    for split in made:
        assert sorted(chain.from_iterable(parts(split))) == list(range(COUNT))
        assert sides_share_nothing(split, groups)
    again = make_folds(LABELS, groups, IDS, folds, seed)
    assert [split.digest for split in made] == [split.digest for split in again]


def test_folds_are_stratified_as_scikit_learn_does() -> None:
    """Each fold has the sizes by label that StratifiedKFold gives."""
    from sklearn.model_selection import StratifiedKFold

    labels = np.repeat(np.array([0, 1, 2], np.int32), (50, 40, 30))
    ours = sorted(np.bincount(labels[split.test]).tolist() for split in make_folds(labels, ALONE, IDS, 5))
    folds = StratifiedKFold(5, shuffle=True, random_state=0).split(labels[:, None], labels)
    assert ours == sorted(np.bincount(labels[test]).tolist() for _, test in folds)


@given(
    days=st.lists(st.one_of(st.none(), st.integers(1, 28)), min_size=COUNT, max_size=COUNT),
    pairs=copies,
)
@settings(max_examples=60, deadline=None)
def test_oldest_train_and_newest_test(days: list[int | None], pairs: list[tuple[int, int]]) -> None:
    dates = [None if day is None else f"2024-01-{day:02}" for day in days]
    groups = with_copies(pairs)
    refused = None
    try:
        split = split_by_time(LABELS, groups, IDS, dates)
    except DataError as error:
        refused = error.problem
    if refused is not None:
        few = len(set(days) - {None}) < 3
        assert re.search("no document has a date|different date" if few else "part has no document", refused)
        return
    train, validation, test = ([str(dates[number]) for number in part] for part in parts(split))
    assert max(train) < min(validation)
    assert max(validation) < min(test)
    assert sides_share_nothing(split, groups)
    used = set(chain.from_iterable(parts(split)))
    for number in set(range(COUNT)) - used:
        copied = [other for other in used if groups[other] == groups[number]]
        assert dates[number] is None or any(str(dates[other]) < str(dates[number]) for other in copied)


def test_parts_by_time_have_their_shares_where_dates_allow() -> None:
    dates = [f"2024-{1 + number // 28:02}-{1 + number % 28:02}" for number in range(COUNT)][::-1]
    split = split_by_time(LABELS, ALONE, IDS, dates, (0.5, 0.25, 0.25))
    assert parts(split) == [list(range(60, 120)), list(range(30, 60)), list(range(30))]
    assert split.warnings == ()


def test_documents_that_time_leaves_out_are_counted() -> None:
    dates: list[str | None] = [f"2024-{1 + number // 28:02}-{1 + number % 28:02}" for number in range(COUNT)]
    dates[5] = None
    groups = ALONE.copy()
    groups[119] = groups[1]
    split = split_by_time(LABELS, groups, IDS, dates)
    assert 119 not in split.test
    assert [warning.partition(" and are in no part")[0] for warning in split.warnings] == [
        "1 documents have no date",
        "1 documents are later copies of texts in an earlier part",
    ]


@given(seed=st.integers(0, 2**32), pairs=copies)
@settings(max_examples=40, deadline=None)
def test_source_left_out_is_tested_whole_and_no_copy_of_it_trains(seed: int, pairs: list[tuple[int, int]]) -> None:
    chosen = np.random.default_rng(seed).integers(0, 4, COUNT)
    sources = [("a", "b", "c", None)[number] for number in chosen.tolist()]
    groups = with_copies(pairs)
    for name in sources_to_leave_out(LABELS, sources):
        split = split_by_source(LABELS, groups, IDS, sources, name)
        assert split.test.tolist() == [number for number in range(COUNT) if sources[number] == name]
        trained = [*split.train.tolist(), *split.validation.tolist()]
        assert {sources[number] for number in trained} <= {"a", "b", "c"} - {name}
        assert sides_share_nothing(split, groups)
        tested = set(groups[split.test].tolist())
        missing = set(range(COUNT)) - set(trained) - set(split.test.tolist())
        assert all(sources[number] is None or groups[number] in tested for number in missing)


def test_only_sources_with_every_label_are_left_out() -> None:
    sources = ["whole" if number < 60 else "ups" if number % 2 else "downs" for number in range(COUNT)]
    assert sources_to_leave_out(LABELS, sources) == ["whole"]


@pytest.mark.parametrize("kind", ["stratified", "kfold", "time", "source"])
def test_written_splits_are_read_back_as_they_were_made(kind: str, tmp_path: Path) -> None:
    request = SplitRequest(str(demo_corpus()), tmp_path / "split.json", kind, folds=3, seed=4)  # type: ignore[arg-type]
    files = write_splits(request)
    corpus = read_corpus(demo_corpus())
    groups = duplicate_groups(corpus.texts)
    assert len(files) == {"stratified": 1, "time": 1, "kfold": 3}.get(kind, len(set(corpus.sources)))
    assert sorted(tmp_path.iterdir()) == sorted(file.path for file in files)
    for file in files:
        again = read_split(file.path, corpus.ids, corpus.labels, groups, corpus_digest=corpus.digest)
        assert (parts(again), again.digest) == (parts(file.split), file.split.digest)
        assert not [warning for warning in again.warnings if "copy" in warning or "made for" in warning]
        assert json.loads(file.path.read_text(encoding="utf-8"))["kind"] == kind


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", ["kfold", "time", "source"])
def test_same_corpus_is_split_alike_in_every_form(kind: str, name: str, tmp_path: Path) -> None:
    format = DataFormat(id_column="id", date_column="date", source_column="source")
    data = WRITERS[name](tmp_path / name, rows_of(read_corpus(demo_corpus())))
    made = [
        write_splits(SplitRequest(str(path), tmp_path / f"{number}.json", kind, folds=3, format=given))  # type: ignore[arg-type]
        for number, (path, given) in enumerate([(demo_corpus(), DataFormat()), (data, format)])
    ]
    folder, table = ([file.split.digest for file in files] for files in made)
    assert folder == table


def test_split_of_a_changed_corpus_is_told_and_rows_by_number_the_more(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    lines = [f"{('up', 'down')[n % 2]},{word} rose fell {n * 7919} {n * 31}" for n, word in enumerate("abcdefghijkl")]
    table.write_text("\n".join(["label,text", *lines]), encoding="utf-8")
    write_splits(SplitRequest(str(table), tmp_path / "split.json"))
    table.write_text("\n".join(["label,text", "up,one more", *lines]), encoding="utf-8")
    corpus = read_corpus(table)
    groups = duplicate_groups(corpus.texts)
    told = read_split(tmp_path / "split.json", corpus.ids, corpus.labels, groups, corpus_digest=corpus.digest).warnings
    assert "known by their numbers alone" in told[-1]
    assert not [
        w for w in read_split(tmp_path / "split.json", corpus.ids, corpus.labels, groups).warnings if "row" in w
    ]


def test_sources_that_look_alike_as_file_names_get_files_of_their_own(tmp_path: Path) -> None:
    names = ["a/b", "a b", "A_b", "../../c"]
    rows = [f"{('up', 'down')[n % 2]},{names[n // 10]},{n * 7919} {n * 104729} word{n}" for n in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["label,source,text", *rows]), encoding="utf-8")
    format = DataFormat(source_column="source")
    files = write_splits(SplitRequest(str(tmp_path / "t.csv"), tmp_path / "s.json", "source", format=format))
    assert len({file.path.name.casefold() for file in files}) == 4
    assert {file.path.parent for file in files} == {tmp_path}
    assert all(file.path.is_file() for file in files)


def test_no_file_is_written_where_one_of_several_stands(tmp_path: Path) -> None:
    (tmp_path / "split-fold2.json").write_text("mine", encoding="utf-8")
    request = SplitRequest(str(demo_corpus()), tmp_path / "split.json", "kfold", folds=3)
    with pytest.raises(FolderError, match="exists already"):
        write_splits(request)
    assert [path.name for path in tmp_path.iterdir()] == ["split-fold2.json"]


def test_options_that_do_not_go_together_are_refused() -> None:
    for options in (
        {"kind": "kfold", "shares": (1, 1, 1)},
        {"shares": (1, 0, 1)},
        {"shares": (1, 1)},
        {"left_out": "a"},
    ):
        with pytest.raises(UserError):
            SplitRequest("data", Path("out"), **options)  # type: ignore[arg-type]


def test_verb_prints_a_line_or_an_object_per_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, out = str(demo_corpus()), str(tmp_path / "s.json")
    assert cli.main(["split", data, "--out", out, "--kind", "kfold", "--folds", "2"]) == 0
    lines = [line.split("\t") for line in capfd.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == [str(tmp_path / f"s-fold{number}.json") for number in (1, 2)]
    assert [line[-1] for line in lines] == ["fold 1 of 2", "fold 2 of 2"]
    assert cli.main(["split", data, "--out", out, "--shares", "80,10,10", "--json"]) == 0
    (file,) = json.loads(capfd.readouterr().out)["files"]
    sizes = Counter({part: file[part] for part in PARTS})
    assert sizes.total() == len(read_corpus(demo_corpus()).ids)
    assert abs(sizes["train"] - 0.8 * sizes.total()) <= 2
