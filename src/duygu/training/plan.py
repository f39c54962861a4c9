"""What happens at step n, decided before the first step by plain arithmetic on document lengths.

One optimiser step is a fixed list of documents. How they are laid out never changes the optimisation: linear layers
run over the concatenated real tokens of the step ("token-flat"), attention within each document only. A `Shape` says
how much room a layout has. PyTorch takes the exact shape of every step, so it computes no padding at all; JAX compiles
once per shape, so the few it gets are chosen here to waste least over the whole plan, which is known in advance.

Nothing here sees a framework, and everything is a pure function of (lengths, recipe), so a resumed run recomputes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from duygu.data.windows import Windows
from duygu.errors import RecipeError
from duygu.recipe import Recipe, label_weights

IntArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]
Number = TypeVar("Number", np.int32, np.float32)

TRAINING_SHAPES = 6  # compiled shapes that a static engine gets for training
EVALUATION_TOKENS = 4096  # per forward pass: enough for the full rate of a product, little memory
GROUPS = 2  # attention groups of a static shape: documents of like length share a padded length
LENGTH_STEP = 8  # static lengths and token counts are multiples of this
ATTENTION_COST = 1 / 1024  # of one score (a query-key pair of one document) relative to a token's linear layers
WINDOW = 1 << 21  # the second window of document n drops as document n + WINDOW does; 1,024 windows fit into an int32
CANDIDATES = 512  # layouts the exact search looks at; more are merged with their neighbours first


@dataclass(frozen=True, slots=True)
class Shape:
    """Room for one forward pass: ``tokens`` flat tokens, and for attention groups of (documents, length)."""

    tokens: int
    groups: tuple[tuple[int, int], ...]
    windows: Windows | None = None  # what rows are of a document that is too long for one; None where none is

    @property
    def documents(self) -> int:
        """Rows, padding included: documents, or windows of documents."""
        return sum(count for count, _ in self.groups)

    @property
    def slots(self) -> int:
        """Rows of the padded attention layout, all groups together."""
        return sum(count * length for count, length in self.groups)

    @property
    def cost(self) -> float:
        """Predicted work in tokens: linear layers plus attention."""
        return self.tokens + ATTENTION_COST * sum(count * length * length for count, length in self.groups)


@dataclass(frozen=True, slots=True)
class Batch:
    """One forward pass, laid out: T flat tokens, D rows (longest first), S attention slots.

    Padding tokens lie after the real ones, padding rows after the real rows; they have weight 0 and number -1. A row is
    a document, unless the shape has windows: then tokens, starts and lengths are those of windows, whose documents
    ``owners`` names, and numbers, labels and weights are of the documents, which are fewer and so have padding.
    """

    ids: IntArray  # (T,) token ids
    positions: IntArray  # (T,) position in the token's row, from 0
    token_numbers: IntArray  # (T,) number of the token's document and window; with position and feature it keys dropout
    starts: IntArray  # (D,) flat index of each row's first token
    lengths: IntArray  # (D,) tokens of each row
    numbers: IntArray  # (D,) the documents' numbers in the corpus
    labels: IntArray  # (D,)
    weights: FloatArray  # (D,) document weights of the loss
    normaliser: float  # sum of weights of the whole optimiser step, over all its microbatches
    rows: IntArray  # (S,) flat token of each attention slot, T where the slot is padding
    slots: IntArray  # (T,) attention slot of each flat token, S where the token is padding
    shape: Shape
    owners: IntArray | None = None  # (D,) document, an index into numbers, of each window; -1 for padding


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step: its number and epoch (both from 1), learning rate and microbatches."""

    number: int
    epoch: int
    lr: float
    microbatches: tuple[IntArray, ...]  # corpus indices of documents
    shapes: tuple[Shape, ...]  # one per microbatch

    @property
    def documents(self) -> IntArray:
        """Every document of the step, in the order of the epoch."""
        return np.concatenate(self.microbatches)


@dataclass(frozen=True, slots=True)
class Plan:
    """All optimiser steps of a run and the distinct shapes that they need."""

    steps: tuple[Step, ...]
    shapes: tuple[Shape, ...]
    steps_per_epoch: int
    real_share: float  # real tokens / tokens that linear layers compute


def make_plan(train: IntArray, lengths: IntArray, recipe: Recipe, static: bool, windows: Windows | None = None) -> Plan:
    """Plan a whole run over the documents ``train`` (corpus indices); ``lengths`` are those of the whole corpus.

    ``static`` asks for at most `TRAINING_SHAPES` distinct shapes (JAX), else every layout is exact (PyTorch). All
    ``windows`` of a document are in one microbatch.
    """
    steps_per_epoch = math.ceil(len(train) / recipe.batch)
    updates = steps_per_epoch * recipe.epochs
    layouts = [split_microbatches(documents, recipe) for documents in _epochs(train, recipe)]
    flat = [documents for microbatches in layouts for documents in microbatches]
    shapes = iter(fit_shapes([lengths[documents] for documents in flat], TRAINING_SHAPES, static, windows))
    steps = tuple(
        Step(
            number=number,
            epoch=1 + (number - 1) // steps_per_epoch,
            lr=learning_rate(number, updates, recipe),
            microbatches=microbatches,
            shapes=tuple(next(shapes) for _ in microbatches),
        )
        for number, microbatches in enumerate(layouts, start=1)
    )
    used = [shape for step in steps for shape in step.shapes]
    computed_lengths = lengths if windows is None else windows.computed(lengths)
    real = sum(int(computed_lengths[documents].sum()) for documents in flat)
    computed = sum(shape.tokens for shape in used)
    return Plan(steps, tuple(dict.fromkeys(used)), steps_per_epoch, real / computed)


def document_weights(labels: IntArray, train: IntArray, names: Sequence[str], recipe: Recipe) -> FloatArray:
    """(N,) what each document counts in the loss, by its label, as ``recipe.class_weights`` says.

    "balanced" is N / (labels * documents of the label) over the training part, as scikit-learn's
    ``compute_class_weight`` has it. Raises `RecipeError` unless every label has a number.
    """
    if recipe.class_weights == "none":
        return np.ones(len(labels), np.float32)
    if recipe.class_weights == "balanced":
        counts = np.bincount(labels[train], minlength=len(names))
        weights = len(train) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    else:
        weights = np.array(label_weights(recipe.class_weights))
    if len(weights) != len(names):
        problem = f"class_weights has {len(weights)} numbers, but there are {len(names)} labels: {', '.join(names)}"
        raise RecipeError(problem, "recipe field class_weights", "give a number for each of them, in this order")
    return weights[labels].astype(np.float32)


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The seeded order of ``count`` documents in ``epoch``; depends on nothing else."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)


def learning_rate(number: int, updates: int, recipe: Recipe) -> float:
    """Linear warm-up to ``recipe.lr``, then linear decay, for update ``number`` from 1.

    transformers' schedule gives the first update a rate of 0 and so wastes it; here the first and the last update
    both learn: the rate would be 0 one update before the first and one after the last.
    """
    warm = math.ceil(recipe.warmup * updates)
    if number <= warm:
        return recipe.lr * number / warm
    return recipe.lr * (updates - number + 1) / (updates - warm + 1)


def split_microbatches(documents: IntArray, recipe: Recipe) -> tuple[IntArray, ...]:
    """A step's documents in forward passes of at most ``recipe.microbatch`` documents."""
    size = recipe.microbatch or len(documents)
    return tuple(documents[start : start + size] for start in range(0, len(documents), size))


def evaluation_batches(
    documents: IntArray,
    lengths: IntArray,
    static: bool,
    budget: int = EVALUATION_TOKENS,
    windows: Windows | None = None,
) -> list[tuple[IntArray, Shape]]:
    """Every document exactly once, documents of like length together: (corpus indices, shape) per forward pass.

    A pass takes at most ``budget`` tokens, or one document. Static shapes come from a fixed ladder, whatever the texts,
    so that what was compiled for one set of texts serves the next.
    """
    order = documents[np.argsort(-lengths[documents], kind="stable")]
    computed = lengths if windows is None else windows.computed(lengths)
    ends = np.cumsum(computed[order], dtype=np.int64)
    batches: list[tuple[IntArray, Shape]] = []
    start = 0
    while start < len(order):
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + budget, side="right")))
        part = order[start:end]
        batches.append((part, (ladder_shape if static else exact_shape)(lengths[part], windows)))
        start = end
    return batches


def ladder_shape(lengths: IntArray, windows: Windows | None = None) -> Shape:
    """A shape that holds these documents and whose sizes are rungs: one attention group."""
    windows = _needed(windows, lengths)
    lengths = _rows(lengths, windows)
    longest, rows = _rung(int(lengths.max())), 1 << (len(lengths) - 1).bit_length()
    return Shape(_rung(int(lengths.sum())), ((rows, longest),), windows)


def fit_shapes(layouts: Sequence[IntArray], limit: int, static: bool, windows: Windows | None = None) -> list[Shape]:
    """A shape for each layout (the lengths of one forward pass): exact ones, or at most ``limit`` distinct ones."""
    if not static:
        return [exact_shape(lengths, windows) for lengths in layouts]
    if not layouts:
        return []
    windows = _needed(windows, np.concatenate(layouts))  # of all or none, so that there are no more shapes
    layouts = [_rows(lengths, windows) for lengths in layouts]
    count = max(len(lengths) for lengths in layouts)
    wanted = np.array([_room(lengths, count) for lengths in layouts])
    chosen = [replace(shape, windows=windows) for shape in _cheapest_cover(wanted, _group_sizes(count), limit)]
    return [min((shape for shape in chosen if _holds(shape, room)), key=lambda shape: shape.cost) for room in wanted]


def exact_shape(lengths: IntArray, windows: Windows | None = None) -> Shape:
    """The layout without any padding: documents of equal length form a group."""
    windows = _needed(windows, lengths)
    lengths = _rows(lengths, windows)
    values, counts = np.unique(lengths, return_counts=True)
    groups = tuple((int(count), int(value)) for value, count in zip(values[::-1], counts[::-1], strict=True))
    return Shape(int(lengths.sum()), groups, windows)


def assemble(
    ids: Sequence[IntArray],
    numbers: IntArray,
    labels: IntArray,
    shape: Shape,
    weights: FloatArray | None = None,
    normaliser: float | None = None,
) -> Batch:
    """Lay documents out in ``shape``: ``ids[i]`` are the tokens of document ``numbers[i]``, all its windows together.

    Without weights every document counts 1; without a normaliser the batch is its own optimiser step.
    """
    weights = np.ones(len(numbers), np.float32) if weights is None else weights
    normaliser = float(weights.sum()) if normaliser is None else normaliser
    owners, row_numbers = None, numbers
    if shape.windows is not None:
        ids, owners, places = shape.windows.split(ids)
        row_numbers = numbers[owners] + places * np.int32(WINDOW)
    sizes = np.array([len(tokens) for tokens in ids], np.int32)
    order = np.argsort(-sizes, kind="stable")
    lengths = _padded(sizes[order], shape.documents, 0)
    starts = (np.cumsum(lengths) - lengths).astype(np.int32)
    tokens = int(sizes.sum())
    row_of_token = np.repeat(np.arange(shape.documents, dtype=np.int32), lengths)
    positions = np.arange(tokens, dtype=np.int32) - starts[row_of_token]
    slots = _first_slots(shape)[row_of_token] + positions
    rows = np.full(shape.slots, shape.tokens, np.int32)
    rows[slots] = np.arange(tokens, dtype=np.int32)
    real = lengths > 0
    placed = order if owners is None else np.arange(len(numbers))
    return Batch(
        ids=_padded(np.concatenate([ids[int(index)] for index in order]), shape.tokens, 0),
        positions=_padded(positions, shape.tokens, 0),
        token_numbers=_padded(row_numbers[order][row_of_token], shape.tokens, -1),
        starts=np.where(real, starts, 0).astype(np.int32),
        lengths=lengths,
        numbers=_padded(numbers[placed], shape.documents, -1),
        labels=_padded(labels[placed], shape.documents, 0),
        weights=_padded(weights[placed], shape.documents, 0),
        normaliser=normaliser,
        rows=rows,
        slots=_padded(slots, shape.tokens, shape.slots),
        shape=shape,
        owners=None if owners is None else _padded(owners[order], shape.documents, -1),
    )


def _needed(windows: Windows | None, lengths: IntArray) -> Windows | None:
    """``windows``, where any of these documents has several; else all is as if there were none."""
    return windows if windows is not None and (lengths > windows.length).any() else None


def _rows(lengths: IntArray, windows: Windows | None) -> IntArray:
    """(R,) tokens of each row: of a document, or of one of its windows."""
    return lengths if windows is None else windows.rows(lengths)


def _epochs(train: IntArray, recipe: Recipe) -> Iterator[IntArray]:
    """The documents of every optimiser step, epoch after epoch; the last step of an epoch may be smaller."""
    for epoch in range(1, recipe.epochs + 1):
        order = train[epoch_order(len(train), recipe.seed, epoch)]
        for start in range(0, len(order), recipe.batch):
            yield order[start : start + recipe.batch]


def _rung(size: int) -> int:
    """The least of 16, 24, 32, 48, 64, 96, ... that is no less than ``size``."""
    power = 1 << max(4, (size - 1).bit_length())
    return power * 3 // 4 if size <= power * 3 // 4 and power > 16 else power


def _padded(values: NDArray[Number], size: int, fill: int) -> NDArray[Number]:
    padded = np.full(size, fill, values.dtype)
    padded[: len(values)] = values
    return padded


def _first_slots(shape: Shape) -> IntArray:
    """(D,) attention slot of each document row's first token."""
    lengths = np.concatenate([np.full(count, length, np.int32) for count, length in shape.groups])
    return (np.cumsum(lengths) - lengths).astype(np.int32)


def _group_sizes(count: int) -> list[int]:
    """``count`` documents in up to `GROUPS` groups of nearly equal size."""
    groups = min(GROUPS, count)
    return [count // groups + (index < count % groups) for index in range(groups)]


def _room(lengths: IntArray, count: int) -> list[int]:
    """What a layout needs: flat tokens, then the longest document of each group, in multiples of `LENGTH_STEP`."""
    ordered = np.zeros(count, np.int64)
    ordered[: len(lengths)] = np.sort(lengths)[::-1]
    firsts = np.cumsum([0, *_group_sizes(count)[:-1]])
    needs = np.array([ordered.sum(), *ordered[firsts]])
    return (np.maximum(1, -(-needs // LENGTH_STEP)) * LENGTH_STEP).tolist()


def _holds(shape: Shape, room: NDArray[np.int64]) -> bool:
    return shape.tokens >= room[0] and all(
        length >= need for (_, length), need in zip(shape.groups, room[1:], strict=True)
    )


def _cheapest_cover(wanted: NDArray[np.int64], sizes: list[int], limit: int) -> list[Shape]:
    """At most ``limit`` shapes that hold every row of ``wanted`` at the least total cost.

    Layouts are sorted by token count and cut into consecutive classes; the best cuts are found exactly by dynamic
    programming (as for optimal one-dimensional clustering), each class costing its size times its common maximum.
    """
    wanted = wanted[np.argsort(wanted[:, 0], kind="stable")]
    parts = np.array_split(wanted, min(CANDIDATES, len(wanted)))
    needs = np.array([part.max(axis=0) for part in parts])
    ends = np.cumsum([len(part) for part in parts])
    count = len(parts)
    cost = np.full((count + 1, count + 1), np.inf)  # cost[i, j]: one shape for parts i..j-1
    for start in range(count):
        room = np.maximum.accumulate(needs[start:], axis=0)
        per_layout = room[:, 0] + ATTENTION_COST * (room[:, 1:] ** 2 @ np.array(sizes))
        cost[start, start + 1 :] = per_layout * (ends[start:] - (ends[start - 1] if start else 0))
    best = cost[0].copy()
    best[0] = 0.0
    cuts: list[NDArray[np.int64]] = []
    for _ in range(1, min(limit, count)):
        total = best[:, None] + cost
        cuts.append(np.argmin(total, axis=0))
        best = total.min(axis=0)
        best[0] = 0.0
    shapes: list[Shape] = []
    end = count
    for cut in [*reversed(cuts), np.zeros(count + 1, np.int64)]:
        start = int(cut[end])
        if start < end:
            room = needs[start:end].max(axis=0)
            groups = tuple((size, int(length)) for size, length in zip(sizes, room[1:], strict=True))
            shapes.append(Shape(int(room[0]), groups))
        end = start
        if end == 0:
            break
    return shapes
