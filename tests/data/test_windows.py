"""Windows against the document that they were made of, and what a tokenizer cuts before they are made."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duygu.data.corpus import read_corpus
from duygu.data.demo import demo_corpus
from duygu.data.tokens import TextTokenizer
from duygu.data.windows import Windows
from duygu.errors import RecipeError
from duygu.recipe import Recipe

FITTING = st.builds(
    Windows, length=st.integers(4, 20), step=st.integers(1, 16), most=st.integers(2, 9), before=st.integers(0, 2),
    after=st.integers(0, 1),
).filter(lambda windows: windows.step <= windows.length - windows.before - windows.after)  # fmt: skip


def document(length: int, windows: Windows) -> np.ndarray:
    """Special tokens below 0, and the text's tokens numbered from 0, so that each shows its place."""
    text = np.arange(length - windows.before - windows.after)
    return np.array([*[-1] * windows.before, *text, *[-2] * windows.after], np.int32)


@given(FITTING, st.integers(4, 150))
def test_windows_cover_every_token_in_order_and_overlap_as_stated(windows: Windows, length: int) -> None:
    ids = document(length, windows)
    parts = windows.divide(ids)
    if length <= windows.length:
        assert len(parts) == 1
        assert parts[0] is ids
        return
    texts = [part[windows.before : len(part) - windows.after] for part in parts]
    for part, text in zip(parts, texts, strict=True):
        assert len(part) == windows.length
        np.testing.assert_array_equal(np.diff(text), 1, err_msg="a stretch of the text")
        np.testing.assert_array_equal(part, [*[-1] * windows.before, *text, *[-2] * windows.after])
    np.testing.assert_array_equal(np.unique(np.concatenate(texts)), ids[ids >= 0], err_msg="nothing is left out")
    starts = np.array([text[0] for text in texts])
    assert (starts[0], texts[-1][-1]) == (0, ids.max())
    assert (np.diff(starts[:-1]) == windows.step).all()
    assert 0 < starts[-1] - starts[-2] <= windows.step, "the last one repeats as much or more"


@given(FITTING, st.lists(st.integers(4, 150), min_size=1, max_size=6))
def test_what_the_plan_reckons_with_is_what_is_divided(windows: Windows, lengths: list[int]) -> None:
    ids, sizes = [document(length, windows) for length in lengths], np.array(lengths, np.int32)
    rows, owners, places = windows.split(ids)
    np.testing.assert_array_equal(windows.rows(sizes), [len(row) for row in rows])
    np.testing.assert_array_equal(windows.counts(sizes), np.bincount(owners))
    np.testing.assert_array_equal(windows.computed(sizes), np.bincount(owners, [len(row) for row in rows]))
    np.testing.assert_array_equal(places, np.concatenate([np.arange(count) for count in np.bincount(owners)]))
    assert windows.counts(np.array([windows.limit])) == windows.most
    assert windows.counts(np.array([windows.limit + 1])) == windows.most + 1


@pytest.fixture(scope="module")
def texts() -> tuple[str, ...]:
    corpus = read_corpus(demo_corpus()).texts
    return (*corpus[:40], " ".join(corpus[:4]), " ".join(corpus[:30]), "")


@pytest.fixture(scope="module")
def tokenizer(texts: tuple[str, ...]) -> TextTokenizer:
    return TextTokenizer.train(texts, 600)


@pytest.mark.parametrize("head_share", [1.0, 0.75, 0.0])
def test_documents_are_cut_to_what_the_most_windows_hold(
    tokenizer: TextTokenizer, texts: tuple[str, ...], head_share: float
) -> None:
    """The oracle: the same cut without windows, at the length that so many windows hold."""
    found = tokenizer.encode(texts, 32, head_share, 4, 0.25)
    windows = Windows(length=32, step=22, most=4, before=1, after=1)
    assert (found.windows, windows.limit) == (windows, 98)
    expected = tokenizer.encode(texts, 98, head_share)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_array_equal(found.whole, expected.whole)
    counts = windows.counts(found.lengths)
    assert (counts.min(), counts.max()) == (1, 4)
    assert found.whole.max() > 98, "or nothing was cut"
    assert found.computed.sum() > found.lengths.sum()
    np.testing.assert_array_equal(expected.computed, expected.lengths)


def test_a_recipe_says_how_long_documents_are_read(tokenizer: TextTokenizer, texts: tuple[str, ...]) -> None:
    assert Recipe().cut == (256, 0.75, 1, 0.0)
    assert Recipe(long="head", length=16).cut == (16, 1.0, 1, 0.0)
    assert Recipe.from_toml('long = "windows"\noverlap = 0.5').cut == (256, 0.75, 8, 0.5)
    whole = tokenizer.encode(texts, 10_000, 1.0)
    head = tokenizer.encode(texts, *Recipe(long="head", length=16).cut)
    every = np.arange(len(texts), dtype=np.int32)
    for one, other in zip(head.take(every), whole.take(every), strict=True):
        np.testing.assert_array_equal(one[:-1], other[: len(one) - 1])
    one_window = tokenizer.encode(texts, *Recipe(long="windows", max_windows=1, length=16).cut)
    np.testing.assert_array_equal(one_window.ids, tokenizer.encode(texts, 16, 0.75).ids)
    with pytest.raises(RecipeError, match="long = 'tail'"):
        Recipe().changed({"long": "tail"})


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.999])
def test_overlap_is_a_share_of_the_text_and_windows_always_go_on(overlap: float) -> None:
    windows = Windows.overlapping(10, overlap, 3, 1, 1)
    assert windows.step == max(1, 8 - round(8 * overlap))
