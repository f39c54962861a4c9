"""Train one model in both engines, each run in a process of its own, and say what differs.

`compare` records the request, runs the campaign and concludes; it can be stopped at any moment and resumed.
`compare_runs` only reads runs that are finished. Either way the run folders are read back and checked to have been
twins before anything is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from duygu.data.corpus import read_corpus
from duygu.data.doubts import label_doubts
from duygu.data.duplicates import duplicate_groups
from duygu.files import locked, make_folder, sweep, write_json, write_text
from duygu.models.source import require_engines
from duygu.training.machine import cores
from duygu.verdict.audit import Audit, brief_audit
from duygu.verdict.baselines import Baseline, pooled_baselines
from duygu.verdict.campaign import (
    Say,
    common_folds,
    common_precision,
    common_start,
    resolve_precision,
    runs_at_once,
    train_all,
)
from duygu.verdict.conclusion import NO_GROUPS, conclude, sentence, summary
from duygu.verdict.confidence import confidence
from duygu.verdict.documents import Texts, documents, known_texts, texts_of
from duygu.verdict.page import PAGE, comparison_page, read_history
from duygu.verdict.pooling import by_engine, pool
from duygu.verdict.protocols import report_2024
from duygu.verdict.report import markdown
from duygu.verdict.request import CompareRequest, added_seeds, claim, keep, keep_recipe, most_jobs, require_conclusion
from duygu.verdict.runs import Run, check_twins, engine_pairs, read_run
from duygu.verdict.stats import MARGIN

__all__ = ["Background", "CompareRequest", "Conclude", "common_precision", "compare", "compare_runs", "comparison"]

SCHEMA = 2  # of comparison.json


@dataclass(frozen=True, slots=True)
class Conclude:
    """How to conclude from finished runs, and what a reader must know of how they came about."""

    margin: float = MARGIN  # of accuracy, within which engines count as equivalent
    ensemble: bool = False
    protocol: str | None = None
    jobs: int = 1  # runs that shared the machine at a time
    added_seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_conclusion(self.margin, self.protocol)


@dataclass(frozen=True, slots=True)
class Background:
    """What is known of the data besides the runs on it; little where only their folders are at hand."""

    baselines: tuple[Baseline, ...] = ()
    texts: Texts | None = None
    audit: Audit | None = None


def compare(request: CompareRequest, say: Say) -> dict[str, Any]:
    """Train every engine on every seed; write ``comparison.json``, which it returns, ``report.md`` and ``report.html``.

    Raises `UserError` for what the user can mend, `DuyguError` for a run that failed, `Interrupted` for a signal.
    """
    out = request.out
    require_engines(request.model, request.engines)
    make_folder(out)
    with locked(out):
        sweep(out)
        claim(request)
        corpus = read_corpus(request.data, **request.format.as_dict())
        jobs = runs_at_once(request, say)
        request = keep(_with_threads(request, jobs), corpus, jobs)
        keep_recipe(request)
        groups = duplicate_groups(corpus.texts)
        folds = common_folds(request, corpus, groups)
        of_folds = [warning for fold in folds for warning in fold.split.warnings]
        for warning in dict.fromkeys([*corpus.warnings, *label_doubts(corpus, groups), *of_folds]):
            say(warning)
        recipe = request.recipe.changed({"precision": resolve_precision(request, say)})
        write_text(out / "recipe.toml", recipe.to_toml())
        folders = train_all(request, recipe, folds, common_start(request), jobs, say)
        runs = [read_run(folder) for folder in folders]
        check_twins(runs)
        say("baselines: majority, and a linear model on words")
        parts = [(fold.split.train, fold.split.test) for fold in folds]
        known = Background(
            baselines=pooled_baselines(corpus.texts, corpus.labels, corpus.names, parts),
            texts=texts_of(corpus),
            audit=brief_audit(request.data, corpus, groups, None if request.folds else folds[0].split),
        )
        how = Conclude(request.margin, request.ensemble, request.protocol, most_jobs(out), tuple(added_seeds(out)))
        result = _conclude(out, request.model, runs, known, how)
        say(f"report: {out / PAGE}")
        return result


def compare_runs(folders: Sequence[str | Path], out: Path | None = None, how: Conclude = Conclude()) -> dict[str, Any]:
    """Compare finished run folders; with ``out``, write the same files there."""
    runs = [read_run(Path(folder)) for folder in folders]
    check_twins(runs)
    model, known = str(runs[0].metrics["model"]), Background(texts=known_texts(runs[0]))
    if out is None:
        return comparison(model, runs, known, how=how)
    make_folder(out)
    with locked(out):
        return _conclude(out, model, runs, known, how)


def comparison(
    model: str,
    runs: Sequence[Run],
    known: Background = Background(),
    out: Path = Path(),
    how: Conclude = Conclude(),
) -> dict[str, Any]:
    """The content of ``comparison.json``; run folders within ``out`` are named relative to it."""
    pooled = pool(runs)
    intervals, found = conclude(pooled, how.margin)
    return {
        "schema": SCHEMA,
        "model": model,
        "verdict": verdict([sentence(pair) for pair in found], len(intervals)),
        "data": {name: value for name, value in runs[0].data.items() if name not in ("parts", "copies")},
        "engines": {
            engine: {**summary(own, how.ensemble), **intervals[engine]} for engine, own in by_engine(pooled).items()
        },
        "engine_pairs": [pair.as_json() for pair in found],
        "baselines": [baseline.as_json() for baseline in known.baselines],
        "pairs": [pair.as_json() for pair in engine_pairs(runs)],
        "protocols": report_2024(pooled) if how.protocol else None,
        "calibration": confidence(runs),
        "documents": documents(runs, known.texts),
        "audit": known.audit.as_json() if known.audit else None,
        "jobs": how.jobs,
        "notes": _notes(runs, how),
        "runs": [{**run.metrics, "name": run.name, "folder": _within(run.folder, out)} for run in runs],
    }


def verdict(sentences: Sequence[str], engines: int) -> str:
    """The first words a reader should see; they claim no more than the runs can show."""
    if sentences:
        return " ".join(sentences)
    if engines == 1:
        return "One engine only: there is nothing to compare it with."
    return "The engines have no seed in common: there is nothing to compare."


def _conclude(out: Path, model: str, runs: Sequence[Run], known: Background, how: Conclude) -> dict[str, Any]:
    result = comparison(model, runs, known, out, how)
    write_json(out / "comparison.json", result)
    write_text(out / "report.md", markdown(result))
    write_text(out / PAGE, comparison_page(result, {run.name: read_history(run.folder) for run in runs}))
    return result


def _notes(runs: Sequence[Run], how: Conclude) -> list[str]:
    """What a reader must know of how the runs came about."""
    found: list[str] = []
    if any("copies" not in run.data for run in runs):
        found.append(NO_GROUPS)
    if how.jobs > 1:
        found.append(f"Up to {how.jobs} runs shared the machine at a time: their times are not those of a run alone.")
    if how.added_seeds:
        seeds = ", ".join(map(str, how.added_seeds))
        found.append(f"Added after a first look at the results, for which no p is corrected: seeds {seeds}.")
    return found


def _with_threads(request: CompareRequest, jobs: int) -> CompareRequest:
    """Runs that go on at a time share the cores."""
    if request.threads or jobs == 1:
        return request
    return replace(request, threads=max(1, cores() // jobs))


def _within(folder: Path, out: Path) -> str:
    return (folder.relative_to(out) if folder.is_relative_to(out) else folder).as_posix()
