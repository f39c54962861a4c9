"""The documents behind the numbers: where engines or models disagree, and where they are wrong and sure of it.

A reader who sees these texts learns more of a model than from any score: a mistake may be the label's, not the model's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
Repetition = tuple[int, int | None, str]  # seed, fold, and the engine where models are what differs


@dataclass(frozen=True, slots=True)
class _Document:
    """One test document with the probabilities (runs, L) of every side, an engine or a model, and how often they part.

    Of engines that is counted over seeds and folds, of models over engines, too.
    """

    id: str
    label: int
    answers: Mapping[str, NDArray[np.float64]]
    apart: int

    def mean(self, side: str) -> NDArray[np.float64]:
        """(L,) mean probability over the side's runs."""
        return np.mean(self.answers[side], axis=0)

    @property
    def gap(self) -> float:
        """The largest difference between two sides' mean probabilities."""
        return float(np.max(np.ptp([self.mean(side) for side in self.answers], axis=0)))

    @property
    def error(self) -> float:
        """The highest mean probability with which a side gives a wrong label; 0 where none does."""
        means = [self.mean(side) for side in self.answers]
        return max(float(mean.max()) if int(np.argmax(mean)) != self.label else 0.0 for mean in means)


def documents(
    runs: Sequence[Run], texts: Texts | None = None, by: Literal["engine", "model"] = "engine"
) -> dict[str, object]:
    """``documents`` of comparison.json: disagreements, those of most runs first, and mistakes, the surest first.

    Both lists are cut; ``counts`` says how many there are. Without ``texts`` their text is None. ``by`` says who
    answers: the engines, of runs of one model, or the models.
    """
    labels = runs[0].test.labels
    found = _documents(runs, by)
    apart = sorted((one for one in found if one.apart), key=lambda one: (-one.apart, -one.gap, one.id))
    wrong = sorted((one for one in found if one.error), key=lambda one: (-one.error, one.id))
    return {
        "counts": {"documents": len(found), "disagreements": len(apart), "mistakes": len(wrong)},
        "disagreements": [_as_json(one, labels, texts) for one in apart[:SHOWN]],
        "mistakes": [_as_json(one, labels, texts) for one in wrong[:SHOWN]],
    }


def without_texts(found: Mapping[str, Any]) -> dict[str, Any]:
    """``documents`` as a page may show them that must not hold the data: by their ids, and that they are left out."""
    lists = {name: [{**one, "text": None} for one in found[name]] for name in ("disagreements", "mistakes")}
    return {**found, **lists, "left_out": True}


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


def _documents(runs: Sequence[Run], by: Literal["engine", "model"]) -> list[_Document]:
    """Every test document once, put together by id: folds test different ones."""
    answers: defaultdict[str, defaultdict[str, list[NDArray[np.float64]]]] = defaultdict(lambda: defaultdict(list))
    given: defaultdict[str, defaultdict[Repetition, set[int]]] = defaultdict(lambda: defaultdict(set))
    labels: dict[str, int] = {}
    for run in runs:
        rows = zip(
            run.answers.ids, label_numbers(run, run.answers.labels).tolist(), run.answers.probabilities, strict=True
        )
        for id, label, probability in rows:
            labels[id] = label
            answers[id][run.engine if by == "engine" else run.model].append(probability)
            given[id][run.seed, run.fold, "" if by == "engine" else run.engine].add(int(np.argmax(probability)))
    return [
        _Document(id, label, {side: np.array(rows) for side, rows in answers[id].items()}, _apart(given[id]))
        for id, label in labels.items()
    ]


def _apart(given: Mapping[Repetition, set[int]]) -> int:
    return sum(len(labels) > 1 for labels in given.values())


def _as_json(one: _Document, labels: Sequence[str], texts: Texts | None) -> dict[str, object]:
    return {
        "id": one.id,
        "text": None if texts is None or one.id not in texts else _cut(texts[one.id]),
        "label": labels[one.label],
        "runs_apart": one.apart,
        "answers": {side: _answer(one, side, labels) for side in one.answers},
    }


def _answer(one: _Document, side: str, labels: Sequence[str]) -> dict[str, object]:
    """The label with the highest mean probability, that probability, and how many runs gave which label."""
    mean = one.mean(side)
    votes = Counter(np.argmax(one.answers[side], axis=1).tolist())
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
