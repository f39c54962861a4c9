"""What a page is made of: a comparison or a single run in one form, with the steps of its runs.

Everything comes from ``comparison.json`` or ``metrics.json`` and from ``history.jsonl``, so a page can be made again
from a folder at any time, and no number on it has another source.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from duygu.errors import FolderError, printable
from duygu.files import read_json, read_lines
from duygu.verdict.confidence import confidence
from duygu.verdict.crossed import models_of, of_model
from duygu.verdict.documents import documents, known_texts, without_texts
from duygu.verdict.metrics import Scores
from duygu.verdict.runs import ENGINE_TITLES, engine_title, read_run
from duygu.verdict.tables import Column, Json, columns_of, percent

NOTHING: Json = {}
Losses = tuple[tuple[int, float], ...]  # (step, training loss)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A comparison as ``comparison.json`` holds it, and the steps of every run by the run's name."""

    comparison: Json
    columns: tuple[Column, ...]  # engines, then baselines
    steps: Mapping[str, Losses]
    compares: bool = True  # false for the page of one run
    models: tuple[tuple[str, Evidence], ...] = ()  # of several models each by itself, under its short name

    @property
    def engines(self) -> tuple[Column, ...]:
        """The columns that have runs."""
        return tuple(column for column in self.columns if column.runs)

    def series(self, column: Column) -> int | None:
        """The look of a column, the same on every page for engines that are known; a baseline has none."""
        if not column.runs:
            return None
        known, engine = list(ENGINE_TITLES), column.runs[0]["engine"]
        return known.index(engine) if engine in known else len(known) + self.engines.index(column)

    def interval(self, column: Column) -> tuple[float, float] | None:
        """The 95 % interval of a column's accuracy, over documents and seeds or of its only run; None where unknown."""
        summary = self.comparison["engines"].get(column.key, {})
        if "accuracy_interval" in summary:
            low, high = summary["accuracy_interval"]
            return low, high
        return column.test[0].accuracy_interval if len(column.test) == 1 else None

    @property
    def several(self) -> bool:
        """Whether an engine ran more than once."""
        return any(len(column.runs) > 1 for column in self.engines)


def comparison_evidence(comparison: Json, histories: Mapping[str, Sequence[Json]]) -> Evidence:
    """Of a comparison; raises KeyError, TypeError or ValueError where it has not the form of one."""
    steps = {name: losses for name, history in histories.items() if (losses := _losses(history))}
    models = tuple((model, _of_model(comparison, model, steps)) for model in models_of(comparison))
    return Evidence(comparison, _columns(comparison), steps, models=models)


def run_evidence(metrics: Json, history: Sequence[Json], more: Json = NOTHING) -> Evidence:
    """Of a single run: a comparison with one engine and nothing to compare it with, and ``more`` parts of it."""
    name = f"{metrics['engine']}-{metrics['seed']}"
    comparison = {
        "model": metrics["model"],
        "verdict": _run_verdict(metrics),
        "engines": {metrics["engine"]: {"accuracy_mean": metrics["test"]["accuracy"]}},
        "baselines": [],
        "pairs": [],
        "runs": [{**metrics, "name": name}],
        **more,
    }
    steps = {name: losses} if (losses := _losses(history)) else {}
    return Evidence(comparison, _columns(comparison), steps, compares=False)


def read_evidence(folder: Path, texts: bool = True) -> Evidence:
    """Of a comparison folder or a finished run folder; raises `FolderError` for anything else.

    Without ``texts`` no document is quoted.
    """
    compared = folder / "comparison.json"
    source = compared if compared.is_file() else folder / "metrics.json"
    if not source.is_file():
        fix = "give a folder that duygu compare, demo or train wrote"
        raise FolderError("holds neither comparison.json nor metrics.json", str(folder), fix)
    found = read_json(source)
    try:
        if source == compared:
            runs = {run["name"]: folder / run["folder"] for run in found["runs"]}
            found = found if texts else _without_texts(found)
            return comparison_evidence(found, {name: read_history(path) for name, path in runs.items()})
        more = _of_run(folder) if texts else _without_texts(_of_run(folder))
        return run_evidence(found, read_history(folder), more)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        problem = f"not in the form that duygu writes ({type(error).__name__}: {error})"
        raise FolderError(problem, str(source), "restore it, or run the command again") from error


def read_history(folder: Path) -> list[Json]:
    """Every line of a run's ``history.jsonl``; none where the run was moved or the file is gone."""
    path = folder / "history.jsonl"
    return list(read_lines(path)) if path.is_file() else []


def _without_texts(found: Json) -> Json:
    """A comparison, or the parts of one, whose documents are known by their ids alone; so are those of each model."""
    listed, models = found.get("documents"), found.get("models", {})
    own = {"models": {name: _without_texts(one) for name, one in models.items()}} if models else {}
    return {**found, **own, **({"documents": without_texts(listed)} if listed else {})}


def _of_model(comparison: Json, model: str, steps: Mapping[str, Losses]) -> Evidence:
    own = of_model(comparison, model)
    names = {run["name"] for run in own["runs"]}
    return Evidence(own, _columns(own), {name: losses for name, losses in steps.items() if name in names})


def _of_run(folder: Path) -> Json:
    """What a comparison would say of the run in ``folder`` besides its scores; nothing where its files are gone."""
    if not all((folder / name).is_file() for name in ("predictions.csv", "data.json", "environment.json")):
        return NOTHING
    run = read_run(folder)
    data = {name: value for name, value in run.data.items() if name != "parts"}
    return {"data": data, "documents": documents([run], known_texts(run)), "calibration": confidence([run])}


def _columns(comparison: Json) -> tuple[Column, ...]:
    """Columns whose names are one line each: a table breaks its heads where the tool's own words do, and only there."""
    return tuple(replace(column, title=printable(column.title)) for column in columns_of(comparison))


def _losses(history: Sequence[Json]) -> Losses:
    attempt = max((line.get("attempt", 0) for line in history), default=0)  # a run that began again: what it ended as
    last = [line for line in history if line.get("attempt", 0) == attempt]
    lines = [(int(line["step"]), float(line["loss"])) for line in last if "step" in line and "loss" in line]
    return tuple((step, loss) for step, loss in lines if math.isfinite(loss))


def _run_verdict(metrics: Json) -> str:
    """What one run shows, in words."""
    test = Scores.from_json(metrics["test"])
    low, high = (f"{bound * 100:.1f}" for bound in test.accuracy_interval)
    who = f"{engine_title(metrics['engine'])}, seed {metrics['seed']}"
    found = f"{who}: {percent(test.accuracy)} of {test.documents} test documents right (95 % interval {low} to {high})"
    if metrics["collapsed"]:
        return f"{found}. It collapsed: almost every document got the same label."
    return f"{found}. This is one run; duygu compare shows what differs between engines and seeds."
