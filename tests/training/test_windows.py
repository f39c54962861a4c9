"""Documents of several windows, from the plan to predictions: layouts, and a run as its training and its use see it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duygu.data.windows import Windows
from duygu.engines import ENGINES
from duygu.recipe import Recipe
from duygu.training.loop import Job, train
from duygu.training.plan import (
    TRAINING_SHAPES,
    assemble,
    evaluation_batches,
    exact_shape,
    fit_shapes,
    ladder_shape,
    make_plan,
)
from tests.training.test_loop import Watcher, assert_equal_ends, stop_at

WINDOWS = Windows(length=12, step=7, most=6, before=1, after=1)
LENGTHS = st.lists(st.integers(2, WINDOWS.limit), min_size=1, max_size=24).map(lambda found: np.array(found, np.int32))
SHORT = st.lists(st.integers(2, WINDOWS.length), min_size=1, max_size=24).map(lambda found: np.array(found, np.int32))


def documents(lengths: np.ndarray) -> list[np.ndarray]:
    return [np.arange(length, dtype=np.int32) + 1000 * number for number, length in enumerate(lengths, start=1)]


@given(LENGTHS, st.booleans(), st.integers(0, 5))
@settings(max_examples=60)
def test_plans_hold_all_windows_of_a_document_in_one_pass(lengths: np.ndarray, static: bool, microbatch: int) -> None:
    every, recipe = np.arange(len(lengths), dtype=np.int32), Recipe(epochs=2, batch=7, microbatch=microbatch)
    plan = make_plan(every, lengths, recipe, static, WINDOWS)
    plain = make_plan(every, lengths, recipe, static)
    assert len(plan.shapes) <= (TRAINING_SHAPES if static else 100)
    assert static or plan.real_share == 1.0
    for step, other in zip(plan.steps, plain.steps, strict=True):
        assert [part.tolist() for part in step.microbatches] == [part.tolist() for part in other.microbatches]
        for part, shape in zip(step.microbatches, step.shapes, strict=True):
            assert shape.tokens >= WINDOWS.computed(lengths[part]).sum()
            assert shape.documents >= WINDOWS.counts(lengths[part]).sum()


@given(LENGTHS, st.booleans())
@settings(max_examples=60)
def test_evaluation_batches_count_what_windows_repeat(lengths: np.ndarray, static: bool) -> None:
    every = np.arange(len(lengths), dtype=np.int32)
    batches = evaluation_batches(every, lengths, static, 60, WINDOWS)
    np.testing.assert_array_equal(np.sort(np.concatenate([part for part, _ in batches])), every)
    for part, shape in batches:
        assert len(part) == 1 or WINDOWS.computed(lengths[part]).sum() <= 60
        assert (shape.windows is None) == (lengths[part] <= WINDOWS.length).all()


@given(SHORT, st.booleans())
@settings(max_examples=60)
def test_where_all_documents_fit_nothing_changes(lengths: np.ndarray, static: bool) -> None:
    every, recipe = np.arange(len(lengths), dtype=np.int32), Recipe(epochs=2, batch=7)
    assert make_plan(every, lengths, recipe, static, WINDOWS).shapes == make_plan(every, lengths, recipe, static).shapes
    one, other = (evaluation_batches(every, lengths, static, windows=windows) for windows in (WINDOWS, None))
    assert [shape for _, shape in one] == [shape for _, shape in other]


@given(LENGTHS, st.booleans())
@settings(max_examples=60)
def test_assembled_windows_come_back_with_their_documents(lengths: np.ndarray, static: bool) -> None:
    ids, numbers = documents(lengths), np.arange(len(lengths), dtype=np.int32) + 5
    (shape,) = fit_shapes([lengths], 1, static, WINDOWS)
    batch = assemble(ids, numbers, numbers % 2, shape)
    if batch.owners is None:
        assert (lengths <= WINDOWS.length).all()
        return
    found: dict[int, list[list[int]]] = {}
    for row, owner in enumerate(batch.owners):
        window = batch.ids[batch.starts[row] : batch.starts[row] + batch.lengths[row]]
        if owner >= 0:
            found.setdefault(int(batch.numbers[owner]), []).append(window.tolist())
        else:
            assert len(window) == 0
    for number, document in zip(numbers, ids, strict=True):
        assert found[int(number)] == [window.tolist() for window in WINDOWS.divide(document)]
    real = batch.numbers >= 0
    np.testing.assert_array_equal(batch.numbers[real], numbers)
    np.testing.assert_array_equal(batch.labels[real], numbers % 2)
    assert batch.weights.sum() == batch.normaliser == len(numbers)


@given(LENGTHS)
@settings(max_examples=60)
def test_dropout_sees_every_window_as_one_of_its_own_whatever_the_layout(lengths: np.ndarray) -> None:
    """The keys (number, position) of the documents together, padded, and of each alone."""

    def keys(ids: list[np.ndarray], numbers: np.ndarray, shape: Any) -> set[tuple[int, int, int]]:
        batch = assemble(ids, numbers, numbers, shape)
        real = int(batch.lengths.sum())
        found = list(zip(batch.token_numbers[:real], batch.positions[:real], batch.ids[:real], strict=True))
        assert len({(number, position) for number, position, _ in found}) == real, "no two tokens share a mask"
        return {(int(a), int(b), int(c)) for a, b, c in found}

    ids, numbers = documents(lengths), np.arange(len(lengths), dtype=np.int32) + 2_000_000
    together = keys(ids, numbers, ladder_shape(lengths, WINDOWS))
    shapes = [exact_shape(lengths[n : n + 1], WINDOWS) for n in range(len(ids))]
    assert together == set().union(*(keys([ids[n]], numbers[n : n + 1], shapes[n]) for n in range(len(ids))))
    assert min(number for number, _, _ in together) >= 2_000_000, "nor with what is padding"


RECIPE = Recipe(
    epochs=2, lr=1e-3, batch=16, microbatch=8, length=8, precision="fp32", checkpoint_steps=2, long="windows",
    max_windows=3, overlap=0.25, word_dropout=0.2,
)  # fmt: skip


@pytest.fixture(scope="module", params=ENGINES)
def run(request: pytest.FixtureRequest, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Watcher]:
    """A finished run on 60 texts of three windows, some longer still; with words left out."""
    watcher = Watcher()
    job = Job(str(texts), "tiny", request.param, RECIPE, tmp_path_factory.mktemp("windows") / "run", threads=1)
    train(job, watcher)
    return job, watcher


def test_the_record_says_what_was_read(run: tuple[Job, Watcher], texts: Path) -> None:
    """Against the saved model's tokenizer without any limit."""
    from duygu.data.corpus import read_corpus
    from duygu.models.folder import open_classifier

    job, watcher = run
    data = json.loads((job.out / "data.json").read_text(encoding="utf-8"))
    model = open_classifier(job.out / "model")
    assert (model.length, model.head_share, model.windows, model.overlap) == RECIPE.cut
    whole = model.tokenizer.encode(read_corpus(texts).texts, 10_000, 1.0).lengths
    limit = 8 + 2 * 4  # each window begins after 4 of the 6 tokens that the one before it has room for
    assert whole.min() <= limit < whole.max(), "some are longer than three windows hold"
    assert data["truncated"] == (whole > limit).sum()
    assert data["left_out"] == np.maximum(whole - limit, 0).sum()
    assert data["windows"] == {"documents": 60, "windows": 180, "most": 3, "step": 4, "computed": 180 * 8}
    assert data["lengths"]["limit"] == limit
    (note,) = [message for message in watcher.messages if "max_windows" in message]
    assert f"{data['truncated']} documents are longer than 3 windows; {data['left_out']} tokens" in note


def test_evaluation_and_prediction_are_one(run: tuple[Job, Watcher], texts: Path) -> None:
    """predictions.csv, the predictor on the same texts, and transformers window by window on the same folder."""
    import torch
    from scipy.special import softmax
    from transformers import AutoModelForSequenceClassification

    from duygu.data.corpus import read_corpus
    from duygu.use.classifier import Classifier

    job, _ = run
    corpus, classifier = read_corpus(texts), Classifier.open(job.out, job.engine)
    with (job.out / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = [corpus.texts[corpus.ids.index(row["id"])] for row in rows]
    recorded = np.array([[float(row[f"p({name})"]) for name in classifier.names] for row in rows])
    logits = classifier.logits(chosen)
    assert np.ptp(recorded[:, 0]) > 1e-3, "answers differ by more than what is tolerated"
    np.testing.assert_allclose(softmax(logits.astype(float), axis=1), recorded, atol=1e-6)
    np.testing.assert_allclose(classifier.logits(chosen[:1]), logits[:1], atol=1e-6)
    model = AutoModelForSequenceClassification.from_pretrained(job.out / "model").eval()
    encoded = classifier.model.tokenizer.encode(chosen, *RECIPE.cut)
    assert encoded.windows is not None
    for found, ids in zip(logits, encoded.take(np.arange(len(chosen), dtype=np.int32)), strict=True):
        with torch.inference_mode():
            parts = [model(torch.from_numpy(part[None]).long()).logits[0] for part in encoded.windows.divide(ids)]
        np.testing.assert_allclose(found, torch.stack(parts).mean(dim=0).numpy(), atol=1e-5)


def test_a_run_with_windows_goes_on_to_the_bit(run: tuple[Job, Watcher], tmp_path: Path) -> None:
    if run[0].engine == "jax":
        pytest.skip("what windows change is the plan, which is the same function for both engines")
    job = replace(run[0], out=tmp_path / "run")
    stop_at(job, 3)
    train(replace(job, resume=True), Watcher())
    assert_equal_ends(job.out, run[0].out)
