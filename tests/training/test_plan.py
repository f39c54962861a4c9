"""The plan is arithmetic: properties over random lengths and recipes, and a brute-force oracle for the shapes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duygu.recipe import Recipe
from duygu.training.plan import (
    EVALUATION_TOKENS,
    TRAINING_SHAPES,
    Shape,
    assemble,
    evaluation_batches,
    exact_shape,
    fit_shapes,
    ladder_shape,
    learning_rate,
    make_plan,
)

lengths_strategy = st.lists(st.integers(1, 256), min_size=1, max_size=120).map(
    lambda values: np.array(values, np.int32)
)
recipes = st.builds(
    Recipe,
    epochs=st.integers(1, 4),
    batch=st.integers(1, 20),
    microbatch=st.integers(0, 7),
    seed=st.integers(0, 2**31 - 1),
    warmup=st.sampled_from([0.0, 0.1, 0.5]),
)


@given(lengths_strategy, recipes, st.booleans())
def test_every_document_once_an_epoch_and_every_layout_fits(lengths: np.ndarray, recipe: Recipe, static: bool) -> None:
    train = np.arange(len(lengths), dtype=np.int32)
    plan = make_plan(train, lengths, recipe, static)
    for epoch in range(1, recipe.epochs + 1):
        steps = [step for step in plan.steps if step.epoch == epoch]
        assert len(steps) == plan.steps_per_epoch
        documents = np.concatenate([step.documents for step in steps])
        np.testing.assert_array_equal(np.sort(documents), train)
        assert all(len(step.documents) == recipe.batch for step in steps[:-1])
    if static:
        assert len(plan.shapes) <= TRAINING_SHAPES
    else:
        assert plan.real_share == 1.0
    for step in plan.steps:
        for part, shape in zip(step.microbatches, step.shapes, strict=True):
            assert shape.tokens >= lengths[part].sum()
            assert shape.documents >= len(part)


@given(lengths_strategy, recipes)
def test_both_engines_take_the_same_steps(lengths: np.ndarray, recipe: Recipe) -> None:
    train = np.arange(len(lengths), dtype=np.int32)
    one, other = (make_plan(train, lengths, recipe, static) for static in (True, False))
    for a, b in zip(one.steps, other.steps, strict=True):
        assert (a.number, a.epoch, a.lr) == (b.number, b.epoch, b.lr)
        np.testing.assert_array_equal(a.documents, b.documents)


@given(lengths_strategy, st.booleans(), st.sampled_from([1, 100, 700, EVALUATION_TOKENS]))
def test_evaluation_predicts_every_document_once(lengths: np.ndarray, static: bool, budget: int) -> None:
    documents = np.arange(len(lengths), dtype=np.int32)[::-1]
    batches = evaluation_batches(documents, lengths, static, budget)
    np.testing.assert_array_equal(np.sort(np.concatenate([part for part, _ in batches])), np.sort(documents))
    for part, shape in batches:
        assert len(part) == 1 or lengths[part].sum() <= budget
        assert shape.tokens >= lengths[part].sum()
        assert shape.documents >= len(part)
        assert shape.slots >= len(part) * lengths[part].max() or not static


def test_scoring_shapes_are_few_whatever_the_texts() -> None:
    """Two sets of texts of like lengths need the same compiled shapes, and all texts together only rungs."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(20):
        lengths = np.minimum(random.lognormal(5, 0.7, size=300).astype(np.int32) + 2, 256)
        found.append({shape for _, shape in evaluation_batches(np.arange(300, dtype=np.int32), lengths, static=True)})
    assert len(set.union(*found)) <= 20, "less than one new shape a set"
    rungs = {ladder_shape(np.array([length], np.int32)).tokens for length in range(1, 513)}
    assert rungs == {16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512}


@given(lengths_strategy, st.booleans())
def test_assembled_tokens_come_back_from_both_layouts(lengths: np.ndarray, static: bool) -> None:
    lengths = lengths[:24]
    ids = [np.arange(length, dtype=np.int32) + 1000 * number for number, length in enumerate(lengths, start=1)]
    numbers = np.arange(len(ids), dtype=np.int32)
    (shape,) = fit_shapes([lengths], 1, static)
    batch = assemble(ids, numbers, numbers, shape)
    flat = np.append(batch.ids, -1)  # a slot that is padding points past the end
    slots = flat[np.minimum(batch.rows, shape.tokens)]
    groups = np.split(slots, np.cumsum([count * length for count, length in shape.groups])[:-1])
    rows = [row for (count, _), part in zip(shape.groups, groups, strict=True) for row in np.split(part, count)]
    assert len(rows) == shape.documents
    for row, (number, length, start) in enumerate(zip(batch.numbers, batch.lengths, batch.starts, strict=True)):
        expected = ids[number] if number >= 0 else np.zeros(0, np.int32)
        np.testing.assert_array_equal(rows[row][:length], expected)
        assert (rows[row][length:] == -1).all(), "what is not the document's is padding"
        np.testing.assert_array_equal(batch.ids[start : start + length], expected)
        np.testing.assert_array_equal(batch.positions[start : start + length], np.arange(length))
        assert (batch.token_numbers[start : start + length] == number).all()
        assert batch.weights[row] == (1.0 if number >= 0 else 0.0)
    real = int(lengths.sum())
    assert (batch.slots[real:] == shape.slots).all()
    np.testing.assert_array_equal(batch.rows[batch.slots[:real]], np.arange(real))
    assert batch.normaliser == len(ids)


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(1, 64), min_size=1, max_size=4), min_size=1, max_size=7), st.integers(1, 3))
def test_shapes_are_the_cheapest_consecutive_cover(layouts: list[list[int]], limit: int) -> None:
    """Oracle: every way to cut the layouts, sorted by tokens, into at most ``limit`` classes."""
    arrays = [np.array(layout, np.int32) for layout in layouts]
    found = sum(shape.cost for shape in fit_shapes(arrays, limit, static=True))
    single = [fit_shapes([array, np.ones(max(map(len, layouts)), np.int32)], 2, static=True)[0] for array in arrays]
    ordered = sorted(single, key=lambda shape: shape.tokens)
    best = float("inf")
    for cuts in range(limit):
        for ends in itertools.combinations(range(1, len(ordered)), cuts):
            bounds = [0, *ends, len(ordered)]
            classes = [ordered[a:b] for a, b in itertools.pairwise(bounds)]
            best = min(best, sum(len(part) * joined(part).cost for part in classes))
    assert found <= best + 1e-9


def joined(shapes: list[Shape]) -> Shape:
    lengths = np.array([[length for _, length in shape.groups] for shape in shapes]).max(axis=0)
    groups = tuple((count, int(length)) for (count, _), length in zip(shapes[0].groups, lengths, strict=True))
    return Shape(max(shape.tokens for shape in shapes), groups)


def test_exact_shape_has_no_padding() -> None:
    shape = exact_shape(np.array([3, 9, 3, 1], np.int32))
    assert shape == Shape(16, ((1, 9), (2, 3), (1, 1)))
    assert shape.slots == shape.tokens


def test_learning_rate_warms_up_and_decays_without_wasting_an_update() -> None:
    rates = [learning_rate(number, 100, Recipe(lr=1.0, warmup=0.1)) for number in range(1, 101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(1 / 91)
    assert np.all(np.diff(rates[:10]) > 0)
    assert np.all(np.diff(rates[9:]) < 0)


def test_order_depends_on_seed_and_epoch_only() -> None:
    train, lengths = np.arange(50, dtype=np.int32), np.full(50, 9, np.int32)
    plans = [make_plan(train, lengths, Recipe(seed=seed, epochs=2), static=False) for seed in (1, 1, 2)]
    orders = [np.concatenate([step.documents for step in plan.steps]) for plan in plans]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    assert not np.array_equal(orders[0][:50], orders[0][50:])


def test_at_least_93_percent_of_computed_tokens_are_real_on_bist(shared_data: Path) -> None:
    """Padding to 256 tokens, as the original work did, leaves less than two thirds real."""
    from duygu.data.corpus import read_corpus
    from duygu.data.tokens import TextTokenizer

    corpus = read_corpus(shared_data / "bist")
    tokenizer = TextTokenizer.from_folder(shared_data.parent / "tokenizers" / "tr_wordpiece_32k_cased")
    encoded = tokenizer.encode(corpus.texts, 256, 0.75)
    names = {Path(name).name for name in json.loads((shared_data / "bist_split.json").read_text())["train"]}
    train = np.array([i for i, id in enumerate(corpus.ids) if Path(id).name in names], np.int32)
    plan = make_plan(train, encoded.lengths, Recipe(), static=True)
    assert encoded.lengths[train].mean() / 256 < 0.65
    assert plan.real_share > 0.93
