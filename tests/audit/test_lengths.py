"""Lengths, limits and vocabularies against counts made by hand and by the tokenizers library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from duygu.data.corpus import read_corpus
from duygu.data.demo import demo_corpus
from duygu.data.tokens import TextTokenizer
from duygu.verdict.audit.findings import Subject
from duygu.verdict.audit.lengths import (
    count_tokens,
    encodings,
    histogram,
    token_lengths,
    tokenizer_health,
    word_lengths,
)
from tests.audit.made import corpus, subject, texts, words

WORDS = words(100)


def test_words_are_counted() -> None:
    made = subject([*texts(97, WORDS, 20), "bir", "iki üç", " ".join(WORDS)], ["a", "b"] * 50)
    found = word_lengths(made)
    assert found.numbers["percentiles"]["50"] == 20
    assert found.numbers["percentiles"]["100"] == 100
    assert found.numbers["short"] == 2
    assert found.level == "look"
    assert word_lengths(subject(texts(50, WORDS), ["a", "b"] * 25)).level == "fine"


def test_limits_cut_what_is_longer() -> None:
    tokens = np.array([100, 200, 300, 600], np.int64)
    found = token_lengths(subject(texts(4, WORDS), ["a", "b"] * 2), tokens)
    assert [found.numbers["limits"][limit]["documents"] for limit in ("128", "256", "512")] == [3, 2, 1]
    assert found.numbers["limits"]["512"]["tokens"] == pytest.approx(88 / 1200)
    # The text of a window of 128 is 126 tokens, of which the next repeats 32: 600 need 1 + ceil(472 / 94) of them.
    assert found.numbers["limits"]["128"]["windows"] == pytest.approx((100 + 128 * (2 + 3 + 7)) / (100 + 3 * 128))
    assert "nothing is cut and" in found.sentence
    assert found.level == "look"
    assert token_lengths(subject(texts(4, WORDS), ["a", "b"] * 2), tokens // 3).level == "fine"


def test_histogram_holds_every_document_once() -> None:
    values = np.random.default_rng(0).lognormal(4, 1, 5000).astype(np.int64)
    found = histogram(values)
    assert sum(found["counts"]) == 5000
    assert len(found["edges"]) == len(found["counts"]) + 1
    assert found["longest"] == values.max()
    assert histogram(np.array([1]))["counts"] == [1]


def test_tokens_are_those_of_the_library() -> None:
    made = read_corpus(demo_corpus())
    tokenizer = TextTokenizer.train(made.texts, 2000)
    whole, special, unknown = count_tokens(tokenizer, [*made.texts, "ж ж"])
    assert special == 2
    assert whole[-1] == 4
    assert unknown == 2
    expected = tokenizer.encode(made.texts[:5], 64, 1.0).whole
    np.testing.assert_array_equal(whole[:5], expected)


def test_a_vocabulary_of_another_language_is_told_of(minilm: Path) -> None:
    made = read_corpus(demo_corpus())
    whole, special, unknown = count_tokens(TextTokenizer.from_folder(minilm), made.texts)
    found = tokenizer_health(_of(made.texts), whole - special, unknown)
    assert found.level != "fine"
    assert "hardly fits" in found.sentence


def test_a_vocabulary_of_these_texts_is_fine() -> None:
    made = read_corpus(demo_corpus())
    whole, special, unknown = count_tokens(TextTokenizer.train(made.texts, 4000), made.texts)
    found = tokenizer_health(_of(made.texts), whole - special, unknown)
    assert found.level == "fine"
    assert 1 < found.numbers["tokens_per_word"] < 2.5


@pytest.mark.parametrize(("unknown", "level"), [(0, "fine"), (20, "look"), (60, "stop")])
def test_unknown_tokens_are_judged_by_their_share(unknown: int, level: str) -> None:
    made = subject(["bir iki üç dört beş"] * 200, ["a", "b"] * 100)
    assert tokenizer_health(made, np.full(200, 5), unknown).level == level


def test_encodings_are_told_of_unless_all_are_utf8() -> None:
    levels = {
        encoding: encodings(_with(corpus(["bir", "iki"], ["a", "b"], encoding=encoding))).level
        for encoding in ("UTF-8", "cp1254")
    }
    assert levels == {"UTF-8": "fine", "cp1254": "look"}
    mixed = encodings(_with(read_corpus(demo_corpus())))
    assert mixed.level == "look"
    assert mixed.numbers["documents"]["cp1254"] == 1


def _with(made: object) -> Subject:
    nothing = np.empty(0, np.int32)
    return Subject(made, nothing, nothing)


def _of(contents: tuple[str, ...]) -> Subject:
    return _with(corpus(contents, ["a", "b"] * (len(contents) // 2) + ["a"] * (len(contents) % 2)))
