"""Finished run folders, read back as evidence, and what two of them say about each other.

Only files are read, so runs of any engine, machine or day can be compared. Before anything is compared, `check_twins`
makes sure that the runs differ in nothing but model, engine, seed and fold: within a fold the same split and test
documents, and within a model the same recipe, tokens and start.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duygu.errors import FolderError
from duygu.files import read_json, read_text
from duygu.recipe import Recipe
from duygu.verdict.metrics import Scores
from duygu.verdict.names import START, identity, short_names
from duygu.verdict.stats import ALPHA, agreement, mcnemar_exact, minimum_detectable, paired_difference

ENGINE_TITLES = {"torch": "PyTorch", "jax": "JAX"}
ONE_SEED = "With one seed each, this compares two trained models, not two frameworks."
ONE_SEED_OF_MODELS = "With one seed each, this compares trained models, not what they began as."


@dataclass(frozen=True, slots=True)
class Answers:
    """What a run answered for its N test documents, in the order of their ids."""

    ids: tuple[str, ...]
    labels: NDArray[np.str_]  # (N,) true label names
    predicted: NDArray[np.str_]  # (N,)
    probabilities: NDArray[np.float64]  # (N, L)


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run folder; ``metrics``, ``environment`` and ``data`` are its JSON files."""

    folder: Path
    engine: str
    seed: int
    fold: int | None
    recipe: Recipe
    metrics: Mapping[str, Any]
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    test: Scores
    answers: Answers
    model: str = ""  # its short name, where runs of several models are compared

    @property
    def arm(self) -> str:
        """``[MODEL-]ENGINE``: what seeds and folds are repeated for."""
        return f"{self.model}-{self.engine}" if self.model else self.engine

    @property
    def name(self) -> str:
        """``[MODEL-]ENGINE-SEED[-foldK]``."""
        return f"{self.arm}-{self.seed}" + ("" if self.fold is None else f"-fold{self.fold}")

    @property
    def start_digest(self) -> str:
        """SHA-256 of the weights before the first step."""
        return str(self.environment["start_weights"])

    @property
    def split_digest(self) -> str:
        """SHA-256 of the ids of the three parts."""
        return str(self.data["split"])


@dataclass(frozen=True, slots=True)
class Pair:
    """Run a against run b on the same test documents; ``difference`` is accuracy a minus b, as a share."""

    a: str
    b: str
    seed: int
    fold: int | None
    engines: tuple[str, str]
    documents: int
    agreement: float  # share of documents given the same label
    only_a: int  # documents that only a gets right
    only_b: int
    difference: float
    interval: tuple[float, float]
    mcnemar_p: float
    minimum_detectable: float | None  # smallest true difference found with power .8; None where none would be
    probability_difference_p95: float  # over documents, of the largest difference over labels
    probability_difference_max: float

    @property
    def different(self) -> bool:
        """Whether exact McNemar rejects "neither is better" at 5 %."""
        return self.mcnemar_p < ALPHA

    @property
    def verdict(self) -> str:
        """The finding in words, which claim no more than one pair of runs can show."""
        if self.different:
            better, other = self.engines if self.difference > 0 else self.engines[::-1]
            low, high = sorted(abs(bound) * 100 for bound in self.interval)
            finding = f"different: {better} is {abs(self.difference) * 100:.1f} points more accurate than {other}"
            return f"{finding} (95 % interval {low:.1f} to {high:.1f}). {ONE_SEED}"
        same = f"not distinguishable with this data (same label for {self.agreement * 100:.1f} % of documents)"
        if self.minimum_detectable is None:
            return f"{same}: {self.documents} documents cannot show any difference."
        unseen = f"a true difference under {self.minimum_detectable * 100:.1f} points could have gone unseen"
        return f"{same}: {unseen}. {ONE_SEED}"

    def as_json(self) -> dict[str, object]:
        """One entry of ``pairs`` in comparison.json."""
        return {
            "a": self.a,
            "b": self.b,
            "seed": self.seed,
            "fold": self.fold,
            "engines": list(self.engines),
            "documents": self.documents,
            "agreement": self.agreement,
            "only_a": self.only_a,
            "only_b": self.only_b,
            "difference": self.difference,
            "interval": list(self.interval),
            "mcnemar_p": self.mcnemar_p,
            "minimum_detectable": self.minimum_detectable,
            "probability_difference": {
                "p95": self.probability_difference_p95,
                "max": self.probability_difference_max,
            },
            "different": self.different,
            "verdict": self.verdict,
        }


def read_run(folder: Path) -> Run:
    """Read a finished run; raises `FolderError` for one that is unfinished or not in the form of a run folder."""
    if not (folder / "metrics.json").is_file():
        raise FolderError("not a finished run", str(folder), "finish it with duygu train ... --resume")
    metrics, environment, data = (read_json(folder / f"{name}.json") for name in ("metrics", "environment", "data"))
    try:
        test = Scores.from_json(metrics["test"])
        return Run(
            folder=folder,
            engine=metrics["engine"],
            seed=metrics["seed"],
            fold=metrics.get("fold"),
            recipe=Recipe.from_toml(read_text(folder / "recipe.toml"), str(folder / "recipe.toml")),
            metrics=metrics,
            environment=environment,
            data=data,
            test=test,
            answers=_read_answers(folder / "predictions.csv", len(test.labels)),
        )
    except (KeyError, TypeError, ValueError) as error:
        problem = f"not in the form of a run folder ({type(error).__name__}: {error})"
        raise FolderError(problem, str(folder), "give a folder that duygu train wrote") from error


def name_models(runs: Sequence[Run]) -> list[Run]:
    """The runs under short names of their models, in their order; as they are where the model is one."""
    numbers, firsts = _model_numbers(runs)
    if len(firsts) < 2:
        return list(runs)
    names = short_names([_known_as(first) for first in firsts])
    return [replace(run, model=names[number]) for run, number in zip(runs, numbers, strict=True)]


def by_model(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of every model, in the order of ``runs``."""
    return {model: [run for run in runs if run.model == model] for model in dict.fromkeys(run.model for run in runs)}


def check_twins(runs: Sequence[Run]) -> None:
    """Raise `FolderError`, naming the first difference, unless the runs differ in model, engine, seed and fold only."""
    firsts: dict[tuple[str | None, int | None], Run] = {}
    for run in runs:
        places = ((None, run.fold), (run.model, None), (run.model, run.fold))
        for other in (runs[0], *(firsts.setdefault(place, run) for place in places)):
            for what, one, another in _traits(other, run):
                if one != another:
                    raise _not_twins(what, other, run, f"{one} against {another}")
    for a, b in combinations(runs, 2):
        if a.name == b.name:
            raise _not_twins("engine and seed are the same", a, b, a.name)
        if (a.model, a.seed, a.fold) == (b.model, b.seed, b.fold) and a.start_digest != b.start_digest:
            raise _not_twins("starting weights", a, b, f"{a.start_digest:.12} against {b.start_digest:.12}")


def compare_pair(a: Run, b: Run) -> Pair:
    """What the test documents say about two runs that `check_twins` let pass."""
    right_a, right_b = (run.answers.predicted == run.answers.labels for run in (a, b))
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    documents = len(a.answers.ids)
    difference = paired_difference(only_a, only_b, documents)
    apart = np.max(np.abs(a.answers.probabilities - b.answers.probabilities), axis=1)
    return Pair(
        a=a.name,
        b=b.name,
        seed=a.seed,
        fold=a.fold,
        engines=(engine_title(a.engine), engine_title(b.engine)),
        documents=documents,
        agreement=agreement(a.answers.predicted, b.answers.predicted),
        only_a=only_a,
        only_b=only_b,
        difference=difference.value,
        interval=(difference.low, difference.high),
        mcnemar_p=mcnemar_exact(only_a, only_b),
        minimum_detectable=minimum_detectable(documents, (only_a + only_b) / documents),
        probability_difference_p95=float(np.quantile(apart, 0.95)),
        probability_difference_max=float(np.max(apart)),
    )


def engine_pairs(runs: Sequence[Run]) -> list[Pair]:
    """Every two engines on every model, seed and fold, in the order of ``runs``."""
    return [
        compare_pair(a, b)
        for a, b in combinations(runs, 2)
        if a.engine != b.engine and (a.model, a.seed, a.fold) == (b.model, b.seed, b.fold)
    ]


def engine_title(engine: str) -> str:
    """The engine's name as people write it."""
    return ENGINE_TITLES.get(engine, engine)


def _traits(a: Run, b: Run) -> Iterator[tuple[str, object, object]]:
    """What these two must share, in the order in which a difference is worth naming."""
    yield "labels", a.test.labels, b.test.labels
    yield "texts", f"{a.data['corpus']:.12}", f"{b.data['corpus']:.12}"
    if a.fold == b.fold:
        yield "split", f"{a.split_digest:.12}", f"{b.split_digest:.12}"
        yield "number of test documents", len(a.answers.ids), len(b.answers.ids)
        for one, other in zip(a.answers.ids, b.answers.ids, strict=False):
            yield "test documents", one, other
    if a.model != b.model:
        return
    if a.fold == b.fold:
        yield "token ids", f"{a.data['tokens']:.12}", f"{b.data['tokens']:.12}"
    yield "precision", a.metrics["precision"], b.metrics["precision"]
    recipe_a, recipe_b = a.recipe.as_dict(), b.recipe.as_dict()
    for name in recipe_a:
        if name not in ("seed", "precision"):
            yield f"recipe field {name}", recipe_a[name], recipe_b[name]


def _model_numbers(runs: Sequence[Run]) -> tuple[list[int], list[Run]]:
    """For every run the number of its model, and the first run of each model."""
    groups: list[list[Run]] = []
    numbers: list[int] = []
    for run in runs:
        number = next((n for n, group in enumerate(groups) if _same_model(group, run)), len(groups))
        if number == len(groups):
            groups.append([])
        groups[number].append(run)
        numbers.append(number)
    return numbers, [group[0] for group in groups]


def _same_model(group: Sequence[Run], run: Run) -> bool:
    """Whether a run began as ``group`` did: by the model's name or, where a copy has another, by weights and tokens."""
    if any(identity(other.metrics["model"]) == identity(run.metrics["model"]) for other in group):
        return True
    twins = [other for other in group if (other.seed, other.fold) == (run.seed, run.fold)]
    if twins:
        return any(other.start_digest == run.start_digest for other in twins)
    alike = [other for other in group if other.fold == run.fold and other.data["tokens"] == run.data["tokens"]]
    return any(Path(other.metrics["model"]).name == Path(run.metrics["model"]).name for other in alike)


def _known_as(run: Run) -> str:
    """The name of a run's model; of a copy that a comparison of one model made, the hub's where it is the hub's."""
    model, revision = str(run.metrics["model"]), run.environment.get("model_revision")
    return str(revision) if revision and Path(model).name == START else model


def _not_twins(what: str, a: Run, b: Run, difference: str) -> FolderError:
    fix = "compare runs that differ in model, engine and seed only"
    return FolderError(f"these runs cannot be compared: {what}: {difference}", f"{a.folder} and {b.folder}", fix)


def _read_answers(path: Path, labels: int) -> Answers:
    """The test part of predictions.csv: id, split, label, predicted, then one probability column per label."""
    _, *rows = csv.reader(io.StringIO(read_text(path), newline=""))
    test = sorted(row for row in rows if row[1] == "test")
    ids = tuple(row[0] for row in test)
    if not ids or len(set(ids)) != len(ids):
        raise ValueError(f"{path.name} holds {len(ids)} test rows for {len(set(ids))} documents")
    return Answers(
        ids=ids,
        labels=np.array([row[2] for row in test]),
        predicted=np.array([row[3] for row in test]),
        probabilities=np.array([row[4:] for row in test], dtype=np.float64).reshape(len(test), labels),
    )
