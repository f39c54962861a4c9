"""The runs of one model, engine and seed as one: what they answered for all test documents, each exactly once.

Without folds that is the run itself. With folds it is the out-of-fold answers of all of them, put together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duygu.errors import FolderError
from duygu.training.run_folder import safe_cell
from duygu.verdict.metrics import FloatArray, IntArray, Scores, scores
from duygu.verdict.runs import Answers, Run

LEAST = 1e-30  # probability that still has a logarithm in float32


@dataclass(frozen=True, slots=True)
class Pooled:
    """One model, engine and seed over all test documents."""

    engine: str
    seed: int
    answers: Answers
    test: Scores
    runs: tuple[Run, ...]  # one, or one a fold
    model: str = ""  # its short name, where there are several


def pool(runs: Sequence[Run]) -> list[Pooled]:
    """One entry for each model, engine and seed, in the order of ``runs``; `FolderError` where a fold is missing."""
    folds = sorted({run.fold for run in runs if run.fold is not None})
    found: list[Pooled] = []
    for model, engine, seed in dict.fromkeys((run.model, run.engine, run.seed) for run in runs):
        own = tuple(run for run in runs if (run.model, run.engine, run.seed) == (model, engine, seed))
        _require_folds(own, folds)
        answers = own[0].answers if len(own) == 1 else _joined(own)
        test = own[0].test if len(own) == 1 else _scored(answers.probabilities, own[0], answers)
        found.append(Pooled(engine, seed, answers, test, own, model))
    return found


def by_engine(pooled: Sequence[Pooled]) -> dict[str, list[Pooled]]:
    """The seeds of every engine."""
    return {
        engine: [one for one in pooled if one.engine == engine] for engine in dict.fromkeys(p.engine for p in pooled)
    }


def ensemble(seeds: Sequence[Pooled]) -> Scores:
    """Scores of answering with the mean of all seeds' probabilities."""
    first = seeds[0]
    mean = np.mean([one.answers.probabilities for one in seeds], axis=0)
    return _scored(mean, first.runs[0], first.answers)


def label_numbers(run: Run, names: NDArray[np.str_]) -> IntArray:
    """(N,) numbers of label names as predictions.csv holds them; KeyError for a name that is no label."""
    numbers = {safe_cell(name): number for number, name in enumerate(run.test.labels)}
    return np.array([numbers[str(name)] for name in names], np.int32)


def document_groups(ids: Sequence[str], data: Mapping[str, Any]) -> IntArray | None:
    """(N,) numbers of groups: copies, which ``data.json`` lists, share one. None where an older run did not list them.

    ``ids`` are as predictions.csv holds them.
    """
    copies: Sequence[Sequence[str]] | None = data.get("copies")
    if copies is None:
        return None
    first = {safe_cell(id): safe_cell(group[0]) for group in copies for id in group}
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(first.get(id, id), len(numbers)) for id in ids], np.int32)


def _require_folds(own: Sequence[Run], folds: Sequence[int]) -> None:
    have = [run.fold for run in own]
    missing = [fold for fold in folds if fold not in have]
    if missing or len(set(have)) < len(have) or (folds and None in have):
        first = own[0]
        problem = f"{first.arm} with seed {first.seed} has folds {have}, where others have {list(folds)}"
        raise FolderError(problem, str(first.folder.parent), "give every fold of every engine and seed once")


def _joined(runs: Sequence[Run]) -> Answers:
    """All folds' answers in the order of their ids."""
    ids = [id for run in runs for id in run.answers.ids]
    if len(set(ids)) < len(ids):
        problem = f"{len(ids) - len(set(ids))} documents are tested in two folds of {runs[0].arm}-{runs[0].seed}"
        raise FolderError(problem, str(runs[0].folder.parent), "give the folds of one split")
    order = np.argsort(ids, kind="stable")
    parts = [run.answers for run in runs]
    return Answers(
        ids=tuple(ids[place] for place in order),
        labels=np.concatenate([part.labels for part in parts])[order],
        predicted=np.concatenate([part.predicted for part in parts])[order],
        probabilities=np.concatenate([part.probabilities for part in parts])[order],
    )


def _scored(probabilities: NDArray[np.float64], run: Run, answers: Answers) -> Scores:
    logits: FloatArray = np.log(np.maximum(probabilities, LEAST)).astype(np.float32)
    return scores(logits, label_numbers(run, answers.labels), run.test.labels)
