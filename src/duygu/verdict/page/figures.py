"""Which figures a page has, as data: every number in them is one of the evidence's or a mean that a table shows."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from duygu.verdict.metrics import Scores
from duygu.verdict.page.charts import DotChart, DotRow, Line, LineChart
from duygu.verdict.page.evidence import Evidence, Losses
from duygu.verdict.tables import Column, Json

POINTS = 3000  # of all lines of a figure together; what has more shows every n-th


def accuracy_dots(evidence: Evidence) -> DotChart:
    """Test accuracy of every run and of the baselines."""
    rows = [_dot_row(column, evidence.series(column)) for column in evidence.columns]
    if evidence.several:
        about = "A mark is one run, the upright line their mean."
        about += " Baselines have their 95 % Wilson interval." if len(rows) > len(evidence.engines) else ""
    else:
        about = "Bars are 95 % Wilson intervals: what these documents leave open about others like them."
    return DotChart("Accuracy on the test part", about, "accuracy", tuple(rows))


def accuracy_course(evidence: Evidence) -> LineChart:
    """Validation accuracy before training and after every epoch."""
    lines: list[Line] = []
    for series, column in _engines(evidence):
        lines += _course(column, series, "accuracy")
    several = "Thin lines are single runs, thick ones their mean."
    about = several if evidence.several else "Bands are 95 % Wilson intervals."
    return LineChart("Validation accuracy", about, "epoch", "accuracy", tuple(lines), percent=True)


def loss_course(evidence: Evidence) -> LineChart:
    """Validation loss after every epoch, and the mean training loss of the epoch."""
    lines: list[Line] = []
    for series, column in _engines(evidence):
        lines += _course(column, series, "loss")
        lines += [_training_loss(column, run, series) for run in column.runs]
    about = "Mean cross-entropy in nats. Training losses are taken with dropout, while the epoch goes on."
    if evidence.several:
        about += " Thin lines are single runs, thick ones their mean."
    return LineChart("Loss, epoch by epoch", about, "epoch", "loss", tuple(lines))


def loss_steps(evidence: Evidence) -> LineChart | None:
    """Training loss of every step, or nothing where no history is at hand."""
    runs = [(series, column, run) for series, column in _engines(evidence) for run in column.runs]
    found = [(series, column.title, evidence.steps.get(run["name"], ())) for series, column, run in runs]
    total = sum(len(losses) for _, _, losses in found)
    if not total:
        return None
    every = -(-total // POINTS)
    lines = tuple(
        Line(title, series, tuple(_thinned(losses, every)), kind="faint", dashed=bool(series))
        for series, title, losses in found
        if losses
    )
    shown = "Every step" if every == 1 else f"One step in {every}"
    about = f"{shown} is shown."
    if evidence.compares:
        about += " Engines that do the same arithmetic on the same documents lie on one another."
    return LineChart("Training loss, step by step", about, "step", "loss", lines)


def _engines(evidence: Evidence) -> Iterator[tuple[int, Column]]:
    """Every engine with its look."""
    for column in evidence.engines:
        series = evidence.series(column)
        if series is not None:
            yield series, column


def _dot_row(column: Column, series: int | None) -> DotRow:
    values = [scores.accuracy for scores in column.test]
    names = list(dict.fromkeys(f"seed {run['seed']}" for run in column.runs)) or [column.title]
    dots = tuple(zip(names, values, strict=True))
    if len(values) > 1:
        return DotRow(column.title, series, dots, mean=statistics.mean(values))
    return DotRow(column.title, series, dots, column.test[0].accuracy_interval)


def _course(column: Column, series: int, score: str) -> Iterator[Line]:
    """One score over the epochs of an engine: each run and their mean, or the only run with its interval."""
    runs = [[(epoch["epoch"], Scores.from_json(epoch["validation"])) for epoch in run["epochs"]] for run in column.runs]
    name = f"{column.title}, validation" if score == "loss" else column.title
    if len(runs) == 1:
        points = tuple((epoch, getattr(found, score)) for epoch, found in runs[0])
        band = tuple((epoch, *found.accuracy_interval) for epoch, found in runs[0]) if score == "accuracy" else ()
        yield Line(name, series, points, band)
        return
    for run in runs:
        yield Line(name, series, tuple((epoch, getattr(found, score)) for epoch, found in run), kind="single")
    means = [
        (epochs[0][0], statistics.mean(getattr(found, score) for _, found in epochs))
        for epochs in zip(*runs, strict=True)
    ]
    yield Line(name, series, tuple(means))


def _training_loss(column: Column, run: Json, series: int) -> Line:
    points = ((epoch["epoch"], epoch["train_loss"]) for epoch in run["epochs"] if epoch["train_loss"] is not None)
    return Line(f"{column.title}, training", series, tuple(points), kind="faint", dashed=True)


def _thinned(losses: Losses, every: int) -> Sequence[tuple[int, float]]:
    return losses[::every]
