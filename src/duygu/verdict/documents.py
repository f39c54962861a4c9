"""The documents behind the numbers: where the engines disagree, and where they are wrong and sure of it.

A reader who sees these texts learns more of a model than from any score: a mistake may be the label's, not the model's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duygu.data.corpus import Corpus, read_corpus
from duygu.errors import UserError
from duygu.training.run_folder import recorded_format, safe_cell
from duygu.verdict.pooling import label_numbers
from duygu.verdict.runs import Run

SHOWN = 20  # documents of either list
LETTERS = 500  # of each text

Texts = Mapping[str, str]  # by the id that predictions.csv has


@dataclass(frozen=True, slots=True)
class _Document:
    """One test document with the probabilities (runs, L) of every engine, and on how many seeds engines part."""

    id: str
    label: int
    answers: Mapping[str, NDArray[np.float64]]
    apart: int

    def mean(self, engine: str) -> NDArray[np.float64]:
        """(L,) mean probability over the engine's runs."""
        return np.mean(self.answers[engine], axis=0)

    @property
    def gap(self) -> float:
        """The largest difference between two engines' mean probabilities."""
        return float(np.max(np.ptp([self.mean(engine) for engine in self.answers], axis=0)))

    @property
    def error(self) -> float:
        """The highest mean probability with which an engine gives a wrong label; 0 where none does."""
        means = [self.mean(engine) for engine in self.answers]
        return max(float(mean.max()) if int(np.argmax(mean)) != self.label else 0.0 for mean in means)


def documents(runs: Sequence[Run], texts: Texts | None = None) -> dict[str, object]:
    """``documents`` of comparison.json: disagreements, those on most seeds first, and mistakes, the surest first.

    Both lists are cut; ``counts`` says how many there are. Without ``texts`` their text is None.
    """
    labels = runs[0].test.labels
    found = _documents(runs)
    apart = sorted((one for one in found if one.apart), key=lambda one: (-one.apart, -one.gap, one.id))
    wrong = sorted((one for one in found if one.error), key=lambda one: (-one.error, one.id))
    return {
        "counts": {"documents": len(found), "disagreements": len(apart), "mistakes": len(wrong)},
        "disagreements": [_as_json(one, labels, texts) for one in apart[:SHOWN]],
        "mistakes": [_as_json(one, labels, texts) for one in wrong[:SHOWN]],
    }


def texts_of(corpus: Corpus) -> Texts:
    """Every text by the id that predictions.csv has for it."""
    return {safe_cell(id): text for id, text in zip(corpus.ids, corpus.texts, strict=True)}


def known_texts(run: Run) -> Texts | None:
    """The texts that a finished run learnt from, if they still are where it read them, unchanged; else None."""
    root = str(run.data.get("root", ""))
    if not root:
        return None
    try:
        corpus = read_corpus(root, **recorded_format(run.folder, root).as_dict())
    except UserError:
        return None
    return texts_of(corpus) if corpus.digest == run.data["corpus"] else None


def _documents(runs: Sequence[Run]) -> list[_Document]:
    """Every test document once, put together by id: folds test different ones."""
    answers: defaultdict[str, defaultdict[str, list[NDArray[np.float64]]]] = defaultdict(lambda: defaultdict(list))
    given: defaultdict[str, defaultdict[tuple[int, int | None], set[int]]] = defaultdict(lambda: defaultdict(set))
    labels: dict[str, int] = {}
    for run in runs:
        rows = zip(
            run.answers.ids, label_numbers(run, run.answers.labels).tolist(), run.answers.probabilities, strict=True
        )
        for id, label, probability in rows:
            labels[id] = label
            answers[id][run.engine].append(probability)
            given[id][run.seed, run.fold].add(int(np.argmax(probability)))
    return [
        _Document(id, label, {engine: np.array(rows) for engine, rows in answers[id].items()}, _apart(given[id]))
        for id, label in labels.items()
    ]


def _apart(given: Mapping[tuple[int, int | None], set[int]]) -> int:
    return sum(len(labels) > 1 for labels in given.values())


def _as_json(one: _Document, labels: Sequence[str], texts: Texts | None) -> dict[str, object]:
    return {
        "id": one.id,
        "text": None if texts is None or one.id not in texts else _cut(texts[one.id]),
        "label": labels[one.label],
        "runs_apart": one.apart,
        "answers": {engine: _answer(one, engine, labels) for engine in one.answers},
    }


def _answer(one: _Document, engine: str, labels: Sequence[str]) -> dict[str, object]:
    """The label with the highest mean probability, that probability, and how many runs gave which label."""
    mean = one.mean(engine)
    votes = Counter(np.argmax(one.answers[engine], axis=1).tolist())
    label = int(np.argmax(mean))
    return {
        "label": labels[label],
        "probability": float(mean[label]),
        "votes": {labels[number]: count for number, count in votes.most_common()},
    }


def _cut(text: str) -> str:
    """The head of a text, to the last whole word."""
    if len(text) <= LETTERS:
        return text
    head = text[:LETTERS].rpartition(" ")[0] or text[:LETTERS]
    return f"{head} …"
