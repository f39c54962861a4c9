"""Train models in both engines, each run in a process of its own, and say what differs.

`compare` records the request, runs the campaign and concludes; it can be stopped at any moment and resumed.
`compare_runs` only reads runs that are finished. Either way the run folders are read back and checked to have been
twins before anything is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from duygu.data.corpus import read_corpus
from duygu.data.doubts import label_doubts
from duygu.data.duplicates import duplicate_groups
from duygu.files import locked, make_folder, sweep, write_json, write_text
from duygu.models.adapter_folder import refuse_adapters
from duygu.models.source import require_engines
from duygu.training.machine import cores
from duygu.verdict.audit import brief_audit
from duygu.verdict.baselines import pooled_baselines
from duygu.verdict.campaign import Say, common_folds, common_precision, runs_at_once, train_all, with_precision
from duygu.verdict.content import Background, Conclude, comparison
from duygu.verdict.documents import known_texts, texts_of
from duygu.verdict.page import PAGE, comparison_page, read_history
from duygu.verdict.report import markdown
from duygu.verdict.request import CompareRequest, added_seeds, claim, keep, keep_recipes, most_jobs, write_recipe
from duygu.verdict.runs import Run, by_model, check_twins, name_models, read_run

__all__ = ["Background", "CompareRequest", "Conclude", "common_precision", "compare", "compare_runs", "comparison"]


def compare(request: CompareRequest, say: Say) -> dict[str, Any]:
    """Train every model in every engine on every seed; write ``comparison.json``, which it returns, and the reports.

    Raises `UserError` for what the user can mend, `DuyguError` for a run that failed, `Interrupted` for a signal.
    """
    out = request.out
    for model in () if request.resume else request.models:  # one that goes on has been asked before
        require_engines(model.source, request.engines)
        refuse_adapters(Path(model.source))
    make_folder(out)
    with locked(out):
        sweep(out)
        claim(request)
        corpus = read_corpus(request.data, **request.format.as_dict())
        jobs = runs_at_once(request, say)
        request = keep(_with_threads(request, jobs), corpus, jobs)
        keep_recipes(request)
        groups = duplicate_groups(corpus.texts)
        folds = common_folds(request, corpus, groups)
        of_folds = [warning for fold in folds for warning in fold.split.warnings]
        for warning in dict.fromkeys([*corpus.warnings, *label_doubts(corpus, groups), *of_folds]):
            say(warning)
        models = with_precision(request, say)
        for model in models:
            write_recipe(out, model)
        runs = train_all(request, models, folds, jobs, say)
        check_twins(runs)
        say("baselines: majority, and a linear model on words")
        parts = [(fold.split.train, fold.split.test) for fold in folds]
        known = Background(
            baselines=pooled_baselines(corpus.texts, corpus.labels, corpus.names, parts),
            texts=texts_of(corpus),
            audit=brief_audit(request.data, corpus, groups, None if request.folds else folds[0].split),
        )
        result = _conclude(out, ", ".join(model.source for model in models), runs, known, _how(request))
        say(f"report: {out / PAGE}")
        return result


def compare_runs(folders: Sequence[str | Path], out: Path | None = None, how: Conclude | None = None) -> dict[str, Any]:
    """Compare finished run folders; with ``out``, write the same files there."""
    how = how or Conclude()
    runs = name_models([read_run(Path(folder)) for folder in folders])
    check_twins(runs)
    model = ", ".join(str(own[0].metrics["model"]) for own in by_model(runs).values())
    known = Background(texts=known_texts(runs[0]) if how.texts else None)
    if out is None:
        return comparison(model, runs, known, how=how)
    make_folder(out)
    with locked(out):
        return _conclude(out, model, runs, known, how)


def _conclude(out: Path, model: str, runs: Sequence[Run], known: Background, how: Conclude) -> dict[str, Any]:
    result = comparison(model, runs, known, out, how)
    write_json(out / "comparison.json", result)
    write_text(out / "report.md", markdown(result))
    write_text(out / PAGE, comparison_page(result, {run.name: read_history(run.folder) for run in runs}))
    return result


def _how(request: CompareRequest) -> Conclude:
    """How a comparison that was run is concluded from, with what its folder remembers of how it came about."""
    jobs, added = most_jobs(request.out), tuple(added_seeds(request.out))
    return Conclude(request.margin, request.ensemble, request.protocol, jobs, added, request.texts)


def _with_threads(request: CompareRequest, jobs: int) -> CompareRequest:
    """Runs that go on at a time share the cores."""
    if request.threads or jobs == 1:
        return request
    return replace(request, threads=max(1, cores() // jobs))
