"""What ``comparison.json`` holds, made from finished runs that were checked to be comparable.

Runs of several models have the form of one, with two parts more: ``models``, what belongs to each of them alone, and
``model_pairs``, the models against each other. `duygu.verdict.crossed.of_model` leads back to the form of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from duygu.verdict.audit import Audit
from duygu.verdict.baselines import Baseline
from duygu.verdict.between import cross_verdict, model_contrasts
from duygu.verdict.conclusion import NO_GROUPS, Contrast, conclude, corrected, sentence, summary
from duygu.verdict.confidence import confidence
from duygu.verdict.documents import Texts, documents, without_texts
from duygu.verdict.pooling import Pooled, by_engine, pool
from duygu.verdict.protocols import report_2024
from duygu.verdict.request import require_conclusion
from duygu.verdict.runs import Run, by_model, engine_pairs
from duygu.verdict.stats import MARGIN

SCHEMA = 2  # of comparison.json
ORDER = (
    "schema", "model", "verdict", "data", "engines", "engine_pairs", "models", "model_pairs", "baselines", "pairs",
    "protocols", "calibration", "documents", "audit", "jobs", "notes", "runs",
)  # fmt: skip
NOT_DATA = ("parts", "copies")  # of data.json: long lists that the run folders keep
OF_TOKENS = ("tokens", "truncated", "lengths", "real_share")  # of data.json: every model's tokenizer has its own
NOT_COMPARED = ("seed", "precision")  # recipe fields that are not the recipe's choice


@dataclass(frozen=True, slots=True)
class Conclude:
    """How to conclude from finished runs, and what a reader must know of how they came about."""

    margin: float = MARGIN  # of accuracy, within which engines count as equivalent
    ensemble: bool = False
    protocol: str | None = None
    jobs: int = 1  # runs that shared the machine at a time
    added_seeds: tuple[int, ...] = ()
    texts: bool = True  # whether documents may be quoted

    def __post_init__(self) -> None:
        require_conclusion(self.margin, self.protocol)


@dataclass(frozen=True, slots=True)
class Background:
    """What is known of the data besides the runs on it; little where only their folders are at hand."""

    baselines: tuple[Baseline, ...] = ()
    texts: Texts | None = None
    audit: Audit | None = None


def comparison(
    model: str,
    runs: Sequence[Run],
    known: Background = Background(),
    out: Path = Path(),
    how: Conclude = Conclude(),
) -> dict[str, Any]:
    """The content of ``comparison.json``; run folders within ``out`` are named relative to it."""
    several = len(by_model(runs)) > 1
    left_out = (*NOT_DATA, *OF_TOKENS) if several else NOT_DATA
    found = {
        "schema": SCHEMA,
        "model": model,
        "data": {name: value for name, value in runs[0].data.items() if name not in left_out},
        **(_several_models(runs, known, how) if several else _one_model(runs, known, how)),
        "baselines": [baseline.as_json() for baseline in known.baselines],
        "audit": known.audit.as_json() if known.audit else None,
        "jobs": how.jobs,
        "notes": _notes(runs, how),
        "runs": [_run(run, out) for run in runs],
    }
    return {name: found[name] for name in ORDER if name in found}


def verdict(sentences: Sequence[str], engines: int) -> str:
    """The first words a reader should see; they claim no more than the runs can show."""
    if sentences:
        return " ".join(sentences)
    if engines == 1:
        return "One engine only: there is nothing to compare it with."
    return "The engines have no seed in common: there is nothing to compare."


def _one_model(runs: Sequence[Run], known: Background, how: Conclude) -> dict[str, Any]:
    pooled = pool(runs)
    intervals, pairs = conclude(pooled, how.margin)
    pairs = corrected(pairs)
    return {
        "verdict": verdict([sentence(pair) for pair in pairs], len(intervals)),
        "engines": _engines(pooled, intervals, how),
        "engine_pairs": [pair.as_json() for pair in pairs],
        "pairs": [pair.as_json() for pair in engine_pairs(runs)],
        **_of_answers(runs, pooled, known, how),
    }


def _several_models(runs: Sequence[Run], known: Background, how: Conclude) -> dict[str, Any]:
    """Both questions have a family of their own for Holm's correction: all engine pairs, and all model pairs."""
    pooled, own = pool(runs), by_model(runs)
    one_by_one = {model: [one for one in pooled if one.model == model] for model in own}
    concluded = {model: conclude(mine, how.margin) for model, mine in one_by_one.items()}
    asked = [(model, pair) for model, (_, pairs) in concluded.items() for pair in pairs]
    found = corrected([pair for _, pair in asked])
    engine_contrasts = [(model, pair) for (model, _), pair in zip(asked, found, strict=True)]
    between = corrected(model_contrasts(pooled, how.margin))
    differing = _differing([mine[0] for mine in own.values()])
    return {
        "verdict": cross_verdict(engine_contrasts, between, how.margin),
        "engines": {
            f"{model}-{engine}": {"model": model, "engine": engine, **summed}
            for model, (intervals, _) in concluded.items()
            for engine, summed in _engines(one_by_one[model], intervals, how).items()
        },
        "engine_pairs": [{"model": model, **pair.as_json()} for model, pair in engine_contrasts],
        "model_pairs": [pair.as_json() for pair in between],
        "models": {
            model: {
                "source": mine[0].metrics["model"],
                "recipe": {name: mine[0].recipe.as_dict()[name] for name in differing},
                "data": {name: mine[0].data[name] for name in OF_TOKENS if name in mine[0].data},
                "verdict": _own_verdict(model, engine_contrasts, len(concluded[model][0])),
                **_of_answers(mine, one_by_one[model], known, how),
            }
            for model, mine in own.items()
        },
        "pairs": [{"model": model, **pair.as_json()} for model, mine in own.items() for pair in engine_pairs(mine)],
        "protocols": None,
        "calibration": None,
        "documents": _documents(runs, known, how, "model"),
    }


def _own_verdict(model: str, contrasts: Sequence[tuple[str, Contrast]], engines: int) -> str:
    return verdict([sentence(pair) for whose, pair in contrasts if whose == model], engines)


def _engines(pooled: Sequence[Pooled], intervals: Mapping[str, dict[str, object]], how: Conclude) -> dict[str, Any]:
    return {engine: {**summary(own, how.ensemble), **intervals[engine]} for engine, own in by_engine(pooled).items()}


def _of_answers(runs: Sequence[Run], pooled: Sequence[Pooled], known: Background, how: Conclude) -> dict[str, Any]:
    """What follows from one model's answers besides the verdict."""
    return {
        "protocols": report_2024(pooled) if how.protocol else None,
        "calibration": confidence(runs),
        "documents": _documents(runs, known, how, "engine"),
    }


def _documents(runs: Sequence[Run], known: Background, how: Conclude, by: Literal["engine", "model"]) -> dict[str, Any]:
    found = documents(runs, known.texts, by)
    return found if how.texts else without_texts(found)


def _differing(runs: Sequence[Run]) -> list[str]:
    """Fields in which the recipes of these runs are not all the same."""
    recipes = [run.recipe.as_dict() for run in runs]
    return [name for name in recipes[0] if name not in NOT_COMPARED and len({str(one[name]) for one in recipes}) > 1]


def _run(run: Run, out: Path) -> dict[str, Any]:
    """An entry of ``runs``; of several models each run has its own one's short name."""
    folder = run.folder.relative_to(out) if run.folder.is_relative_to(out) else run.folder
    found = {**run.metrics, "name": run.name, "folder": folder.as_posix()}
    return {**found, "model": run.model} if run.model else found


def _notes(runs: Sequence[Run], how: Conclude) -> list[str]:
    """What a reader must know of how the runs came about."""
    found: list[str] = []
    if any("copies" not in run.data for run in runs):
        found.append(NO_GROUPS)
    differing = _differing([own[0] for own in by_model(runs).values()])
    if differing:
        found.append(f"Each model was trained by the recipe that suits it; they differ in {', '.join(differing)}.")
    if how.jobs > 1:
        found.append(f"Up to {how.jobs} runs shared the machine at a time: their times are not those of a run alone.")
    if how.added_seeds:
        seeds = ", ".join(map(str, how.added_seeds))
        found.append(f"Added after a first look at the results, for which no p is corrected: seeds {seeds}.")
    return found
