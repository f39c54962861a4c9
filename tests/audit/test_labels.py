"""Labels, sources and words: what was planted is found, and chance is called chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from duygu.verdict.audit.findings import Finding, Subject
from duygu.verdict.audit.folds import FOLDS, drawn, fold_numbers, out_of_fold
from duygu.verdict.audit.labels import balance, baseline_scores, doubtful_labels
from duygu.verdict.audit.sources import left_out_sources, source_shortcut
from duygu.verdict.audit.words import SIZES, chosen_words, count_words, word_list
from duygu.verdict.baselines import LINEAR, MAJORITY, predictors
from duygu.verdict.metrics import FloatArray
from tests.audit.made import subject, texts, words

WORDS = words(400)
LABELS = ("down", "up")


def logits_of(made: Subject, name: str = LINEAR) -> FloatArray:
    corpus, documents = made.corpus, drawn(made)
    ask = predictors(corpus.texts, corpus.labels, len(corpus.names), corpus.sources)[name]
    return out_of_fold(ask, documents, fold_numbers(made, documents), len(corpus.names))


def separable(count: int = 200, flipped: Sequence[int] = ()) -> Subject:
    """Each label with half of its words of its own; some labels turned."""
    random = np.random.default_rng(3)
    own = {"down": WORDS[:60], "up": WORDS[60:120]}
    labels = [LABELS[number % 2] for number in range(count)]
    contents = [" ".join([*random.choice(own[label], 12), *random.choice(WORDS[120:], 12)]) for label in labels]
    for number in flipped:
        labels[number] = LABELS[1 - LABELS.index(labels[number])]
    return subject(contents, labels)


def counted(count: int, seed: int, noise: float = 0.0) -> tuple[Subject, set[str]]:
    """Labels by which of two lists of 15 words a text has more of; and the words."""
    random = np.random.default_rng(seed)
    contents = texts(count, WORDS, 60, seed)
    down, up = set(WORDS[:15]), set(WORDS[15:30])
    score = [sum((word in up) - (word in down) for word in text.split()) for text in contents]
    kept = [number for number, value in enumerate(score) if value]
    labels = [LABELS[(score[number] > 0) ^ (random.random() < noise)] for number in kept]
    return subject([contents[number] for number in kept], labels), down | up


def by_words(made: Subject) -> Finding:
    documents = drawn(made)
    return word_list(made, documents, fold_numbers(made, documents), logits_of(made))


@pytest.mark.parametrize(
    ("sizes", "level"), [((100, 100), "fine"), ((60, 40), "look"), ((300, 60), "look"), ((100, 9), "stop")]
)
def test_balance_is_judged_by_the_share_and_the_smallest_label(sizes: tuple[int, int], level: str) -> None:
    made = subject(texts(sum(sizes), WORDS), ["a"] * sizes[0] + ["b"] * sizes[1])
    found = balance(made)
    assert found.level == level
    assert found.numbers["labels"] == {"a": sizes[0], "b": sizes[1]}
    assert found.numbers["majority"] == pytest.approx(max(sizes) / sum(sizes))


def test_copies_do_not_make_a_label_larger() -> None:
    made = subject([*texts(60, WORDS), *["one text alone of many words"] * 60], ["a"] * 60 + ["b"] * 60)
    found = balance(made)
    assert found.numbers["distinct"] == {"a": 60, "b": 1}
    assert found.level == "stop"


def test_folds_are_grouped_and_every_document_is_answered_by_a_model_that_has_not_seen_it() -> None:
    contents = texts(60, WORDS)
    made = subject([*contents, *contents], ["a", "b"] * 60)
    documents = drawn(made)
    folds = fold_numbers(made, documents)
    assert set(folds.tolist()) == set(range(FOLDS))
    asked: list[int] = []

    def predict(train: np.ndarray, test: np.ndarray) -> FloatArray:
        assert not set(made.near[train].tolist()) & set(made.near[test].tolist())
        asked.extend(test.tolist())
        return np.zeros((len(test), 2), np.float32)

    out_of_fold(predict, documents, folds, 2)
    assert sorted(asked) == list(range(120))


def test_a_large_corpus_is_sampled_by_groups_and_labels() -> None:
    contents = texts(300, WORDS)
    made = subject([*contents, *contents[:100]], ["a"] * 200 + ["b"] * 100 + ["a"] * 100)
    documents = drawn(made, limit=100)
    assert len(documents) == pytest.approx(100, abs=4)
    assert (made.corpus.labels[documents] == 0).mean() == pytest.approx(0.75, abs=0.03)
    chosen = set(made.near[documents].tolist())
    assert np.isin(made.near, list(chosen)).sum() == len(documents)


def test_baselines_are_scored_on_every_document_once() -> None:
    made = separable()
    crossed = {name: logits_of(made, name) for name in (MAJORITY, LINEAR)}
    found = baseline_scores(made, drawn(made), crossed)
    assert found.numbers["cross_validated"][LINEAR]["documents"] == 200
    assert found.numbers["cross_validated"][LINEAR]["accuracy"] > 0.9


def test_labels_without_relation_to_the_texts_are_said_to_be_so() -> None:
    made = subject(texts(200, WORDS), [LABELS[n] for n in np.random.default_rng(1).integers(0, 2, 200)])
    found = baseline_scores(made, drawn(made), {name: logits_of(made, name) for name in (MAJORITY, LINEAR)})
    assert found.level == "look"
    assert "not shown to beat the majority" in found.sentence


def test_turned_labels_are_ranked_first() -> None:
    flipped = [*range(5, 300, 40), *range(24, 300, 40)]  # of both labels
    made = separable(300, flipped)
    found = doubtful_labels(made, drawn(made), logits_of(made))
    ranked = [int(row["id"]) for row in found.numbers["ranked"]]
    assert len(ranked) >= 10
    assert len(set(ranked[:10]) & set(flipped)) >= 9
    assert found.level == "look"
    first = found.numbers["ranked"][0]
    assert first["label"] != first["likelier"]
    assert made.corpus.texts[ranked[0]].startswith(first["begins"])


def test_sound_labels_are_not_doubted() -> None:
    made = separable()
    assert doubtful_labels(made, drawn(made), logits_of(made)).level == "fine"


def test_labels_by_a_count_of_words_are_found_with_the_words() -> None:
    made, behind = counted(1000, seed=5)
    found = by_words(made)
    assert found.level == "look"
    assert found.numbers["unseen"] > 0.9
    assert found.numbers["shuffled"]["unseen"] == pytest.approx(0.5, abs=0.08)
    lists = found.numbers["words"]
    first = {word for words in lists.values() for word in words[:12]}
    assert first <= behind
    assert set(lists["down"][:10]) <= set(WORDS[:15])
    assert found.numbers["size"] <= SIZES[-1]


def test_random_labels_have_no_word_list() -> None:
    made = subject(texts(400, WORDS, 60), [LABELS[n] for n in np.random.default_rng(2).integers(0, 2, 400)])
    found = by_words(made)
    assert found.level == "fine"
    assert found.numbers["unseen"] == pytest.approx(0.5, abs=0.1)
    assert found.numbers["reproduced"] == pytest.approx(found.numbers["shuffled"]["reproduced"], abs=0.1)


@pytest.mark.slow
def test_labels_counted_with_much_noise_are_not_called_counted() -> None:
    assert by_words(counted(1000, seed=5, noise=0.25)[0]).level == "fine"


def test_three_labels_have_three_lists() -> None:
    random = np.random.default_rng(0)
    labels = ["a", "b", "c"] * 60
    contents = [" ".join([label * 4, *random.choice(WORDS, 20)]) for label in labels]
    found = by_words(subject(contents, labels))
    assert [words[0] for words in found.numbers["words"].values()] == ["aaaa", "bbbb", "cccc"]
    assert found.numbers["unseen"] > 0.9


def test_texts_without_words_have_an_empty_list() -> None:
    counts, names = count_words(["1 2 3", "4 5"])
    assert (counts.shape, names) == ((2, 0), [])
    assert chosen_words(counts, np.array([0, 1], np.int32), 2).answers(counts).tolist() == [0, 0]
    assert chosen_words(counts, np.array([1, 1], np.int32), 2).answers(counts).tolist() == [1, 1]


def with_sources(shares: Sequence[float]) -> Subject:
    """Three sources of 80 documents with these shares of "up", and words that say nothing."""
    labels = [LABELS[number < share * 80] for share in shares for number in range(80)]
    return subject(texts(240, WORDS), labels, [f"source{n // 80}" for n in range(240)])


@pytest.mark.parametrize(("shares", "level"), [((0.5, 0.5, 0.5), "fine"), ((0.1, 0.5, 0.9), "look")])
def test_sources_that_give_the_label_away_are_found(shares: Sequence[float], level: str) -> None:
    made = with_sources(shares)
    documents = drawn(made)
    found = source_shortcut(made, documents, fold_numbers(made, documents))
    assert found.level == level
    assert found.numbers["sources"]["source0"] == {"down": 80 - round(shares[0] * 80), "up": round(shares[0] * 80)}
    if level == "look":
        assert found.numbers["balanced_accuracy"] == pytest.approx((0.9 * 80 * 2 + 40) / 240, abs=0.08)


def test_lengths_that_give_the_label_away_are_found_without_sources() -> None:
    contents = [" ".join(text.split()[: 10 if number % 2 else 25]) for number, text in enumerate(texts(200, WORDS))]
    made = subject(contents, [LABELS[number % 2] for number in range(200)])
    documents = drawn(made)
    found = source_shortcut(made, documents, fold_numbers(made, documents))
    assert found.level == "look"
    assert found.numbers["balanced_accuracy"] > 0.95
    assert "No source is known" in found.sentence
    assert left_out_sources(made, documents, logits_of(made), predictor(made)) == []


def predictor(made: Subject) -> object:
    return predictors(made.corpus.texts, made.corpus.labels, len(made.corpus.names), made.corpus.sources)[LINEAR]


def test_words_that_mean_the_label_in_one_source_only_are_lost_on_others() -> None:
    random = np.random.default_rng(0)
    labels = [LABELS[number % 2] for number in range(240)]
    sources = [f"source{number // 80}" for number in range(240)]
    telling = dict(zip(sorted({*zip(labels, sources, strict=True)}), WORDS[300:], strict=False))
    contents = [
        " ".join([*random.choice(WORDS[:300], 20), *[telling[pair]] * 3]) for pair in zip(labels, sources, strict=True)
    ]
    made = subject(contents, labels, sources)
    (found,) = left_out_sources(made, drawn(made), logits_of(made), predictor(made))
    assert found.level == "look"
    assert found.numbers["seen"] > 0.95
    assert found.numbers["unseen"] < found.numbers["seen"] - 0.05
    assert [row["documents"] for row in found.numbers["sources"]] == [80, 80, 80]
