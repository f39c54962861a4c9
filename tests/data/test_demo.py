"""The bundled corpus: readable, faulty where it says so, and too hard to be solved by counting words."""

from __future__ import annotations

import re
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from duygu.data.corpus import Corpus, read_corpus
from duygu.data.demo import demo_corpus
from duygu.data.split import duplicate_groups, make_split
from duygu.verbs.demo import farewell
from duygu.verdict.baselines import baselines


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return read_corpus(demo_corpus())


@pytest.fixture(scope="module")
def groups(corpus: Corpus) -> np.ndarray:
    return duplicate_groups(corpus.texts)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.replace("İ", "i").replace("I", "ı").lower())


def test_demo_has_the_labels_and_encodings_it_announces(corpus: Corpus) -> None:
    assert corpus.names == ("negative", "positive")
    np.testing.assert_array_equal(np.bincount(corpus.labels), [299, 302])
    assert dict(corpus.encodings) == {"UTF-8": 599, "UTF-8 with BOM": 1, "cp1254": 1}
    assert corpus.warnings == ()


def test_note_beside_the_demo_says_it_is_synthetic_and_names_the_odd_files() -> None:
    note = (demo_corpus().parent / "README.md").read_text(encoding="utf-8")
    assert "synthetic" in note
    assert "601 short" in note
    named = re.findall(r"`((?:negative|positive)/\w[\w-]*\.txt)`", note)
    assert len(named) == 8
    assert all((demo_corpus() / name).is_file() for name in named)


def test_git_leaves_the_bytes_of_the_demo_alone() -> None:
    assert "news/** -text" in (demo_corpus().parent / ".gitattributes").read_text().splitlines()
    assert (demo_corpus() / "positive/sanayidefteri_2022-09-07.txt").read_bytes().startswith(b"\xef\xbb\xbf")
    with pytest.raises(UnicodeDecodeError):
        (demo_corpus() / "negative/haberkulesi_2022-08-12.txt").read_text(encoding="utf-8")
    assert not any(b"\r" in path.read_bytes() for path in demo_corpus().glob("*/*.txt"))


def test_demo_has_copies_across_sources_and_three_with_conflicting_labels(corpus: Corpus, groups: np.ndarray) -> None:
    sizes = np.bincount(groups)
    assert sorted(sizes[sizes > 1]) == [2] * 22
    pairs = [np.flatnonzero(groups == group) for group in np.flatnonzero(sizes == 2)]
    assert all(source(corpus.ids[one]) != source(corpus.ids[other]) for one, other in pairs)
    assert sum(corpus.labels[one] != corpus.labels[other] for one, other in pairs) == 3
    assert sum(corpus.texts[one] == corpus.texts[other] for one, other in pairs) == 7


def source(id: str) -> str:
    return Path(id).stem.partition("_")[0]


def test_demo_file_names_hold_a_source_that_does_not_tell_the_label_and_a_date(corpus: Corpus) -> None:
    sources = np.array([source(id) for id in corpus.ids])
    assert len(set(sources)) == 8
    for name in set(sources):
        assert 0.35 < corpus.labels[sources == name].mean() < 0.65
    for id in corpus.ids:
        assert 2021 <= date.fromisoformat(Path(id).stem.split("_")[1]).year <= 2024


def test_demo_has_texts_of_many_lengths_and_five_very_long_ones(corpus: Corpus) -> None:
    lengths = np.array([len(words(text)) for text in corpus.texts])
    assert lengths.min() < 10
    assert (lengths > 256).sum() == 5
    assert ((lengths > 40) & (lengths <= 100)).sum() >= 30


def test_demo_is_not_made_of_templates(corpus: Corpus, groups: np.ndarray) -> None:
    """No run of six words in more than two items that are not copies of each other, no opening in more than four."""
    once = [words(corpus.texts[index]) for index in np.unique(groups, return_index=True)[1]]
    for length, most in ((6, 2), (5, 2), (4, 4)):
        runs = [run for text in once for run in {tuple(text[at : at + length]) for at in range(len(text) - length + 1)}]
        assert most_common(runs) <= most
    assert most_common([tuple(text[:4]) for text in once]) <= 4


def most_common(runs: list[tuple[str, ...]]) -> int:
    """How often the commonest of them occurs."""
    ordered, longest, here = sorted(runs), 1, 1
    for one, next_one in pairwise(ordered):
        here = here + 1 if one == next_one else 1
        longest = max(longest, here)
    return longest


def test_linear_model_learns_demo_but_not_all_of_it(corpus: Corpus, groups: np.ndarray) -> None:
    split = make_split(corpus.labels, groups, corpus.ids)
    rest = np.concatenate([split.validation, split.test])
    majority, linear = baselines(corpus.texts, corpus.labels, corpus.names, split.train, rest)
    assert majority.test.accuracy < 0.55
    assert 0.78 < linear.test.accuracy < 0.95


@pytest.mark.parametrize(
    ("files", "named"), [(["report.md"], "report.md"), (["report.md", "report.html"], "report.html")]
)
def test_demo_ends_by_naming_the_report_there_is_and_the_next_command(
    tmp_path: Path, files: list[str], named: str
) -> None:
    out = tmp_path / "my demo"
    out.mkdir()
    for name in files:
        (out / name).touch()
    report, command = farewell(out, "jax-13")
    assert report == f"report: {out / named}"
    assert command == f"next: duygu predict '{out}/runs/jax-13' \"Şirketin kârı beklentileri aştı.\""
