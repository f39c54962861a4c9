"""Which figures a page has, as data: every number in them is one of the evidence's or a mean that a table shows."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from duygu.verdict.metrics import Scores
from duygu.verdict.page.charts import DotChart, DotRow, Line, LineChart
from duygu.verdict.page.evidence import Evidence, Losses
from duygu.verdict.tables import Column

WINDOWS = 100  # of a figure over steps; what has more steps is shown in windows of several
LETTERS = 32  # of a name
LABELS = 12  # of a figure; of more, those with the most documents


def accuracy_dots(evidence: Evidence) -> DotChart:
    """Test accuracy of every run and of the baselines."""
    rows = [_dot_row(column, evidence.series(column), evidence.interval(column)) for column in evidence.columns]
    if evidence.several:
        about = "A mark is one run, the upright line their mean."
        about += " Engines have their 95 % interval over documents and seeds." if rows[0].interval else ""
        about += " Baselines have their 95 % Wilson interval." if len(rows) > len(evidence.engines) else ""
    else:
        about = "Bars are 95 % Wilson intervals: what these documents leave open about others like them."
    return DotChart("Accuracy on the test part", about, "accuracy", tuple(rows))


def accuracy_course(evidence: Evidence) -> LineChart:
    """Validation accuracy before training and after every epoch."""
    lines: list[Line] = []
    for series, column in _engines(evidence):
        lines += _course(column, series, "accuracy")
    several = "Means over seeds; bands from the lowest seed to the highest."
    about = several if evidence.several else "Bands are 95 % Wilson intervals."
    return LineChart("Validation accuracy", about, "epoch", "accuracy", tuple(lines), percent=True)


def loss_course(evidence: Evidence) -> LineChart:
    """Validation loss after every epoch, and the mean training loss of the epoch."""
    lines: list[Line] = []
    for series, column in _engines(evidence):
        lines += _course(column, series, "loss")
        lines.append(_training_loss(column, series))
    about = "Mean cross-entropy in nats. Training losses are taken with dropout, while the epoch goes on."
    if evidence.several:
        about += " Means over seeds; bands from the lowest seed to the highest."
    return LineChart("Loss, epoch by epoch", about, "epoch", "loss", tuple(lines))


def loss_steps(evidence: Evidence) -> LineChart | None:
    """Training loss of every step, or nothing where no history is at hand."""
    size = window(evidence)
    lines = tuple(
        Line(column.title, series, step_means(evidence.steps[run["name"]], size), kind="faint", dashed=bool(series))
        for series, column in _engines(evidence)
        for run in column.runs
        if run["name"] in evidence.steps
    )
    if not lines:
        return None
    about = "Every step is shown." if size == 1 else f"Means over {size} steps."
    if evidence.compares:
        about += " Engines that do the same arithmetic on the same documents lie on one another."
    return LineChart("Training loss, step by step", about, "step", "loss", lines)


def loss_apart(evidence: Evidence) -> LineChart | None:
    """How far the training losses of two engines with one seed are apart, or nothing where there are no two."""
    size, pairs = window(evidence), twins(evidence)
    lines = tuple(Line("difference", 2, step_gaps(*both, size), kind="faint") for _, both in pairs)
    if not lines:
        return None
    about = "Of every step" if size == 1 else f"The largest of every {size} steps"
    about += (
        ", in powers of ten; one line for each seed, equal losses at the bottom. Rounding starts near 1e-7 and grows."
    )
    title = "Difference of the engines' losses, step by step"
    return LineChart(title, about, "step", "difference of the losses", lines, powers=True)


def twins(evidence: Evidence) -> list[tuple[str, tuple[Losses, Losses]]]:
    """The losses of the first two engines for every seed and fold that both ran: its name, and both courses."""
    if len(evidence.engines) < 2:
        return []
    first, second = (
        {(run["seed"], run.get("fold")): evidence.steps.get(run["name"], ()) for run in column.runs}
        for column in evidence.engines[:2]
    )
    both = [place for place in first if first[place] and second.get(place)]
    return [
        (f"seed {seed}" + ("" if fold is None else f", fold {fold}"), (first[seed, fold], second[seed, fold]))
        for seed, fold in both
    ]


def window(evidence: Evidence) -> int:
    """Steps that make one point of a figure over steps."""
    longest = max((len(losses) for losses in evidence.steps.values()), default=0)
    return max(1, -(-longest // WINDOWS))


def step_means(losses: Losses, size: int) -> Losses:
    """Mean loss of every ``size`` steps, at the last of them."""
    parts = [losses[start : start + size] for start in range(0, len(losses), size)]
    return tuple((part[-1][0], statistics.mean(loss for _, loss in part)) for part in parts)


def step_gaps(one: Losses, other: Losses, size: int) -> Losses:
    """The largest distance of two courses within every ``size`` steps, at the last of them."""
    known = dict(other)
    gaps = [(step, abs(loss - known[step])) for step, loss in one if step in known]
    parts = [gaps[start : start + size] for start in range(0, len(gaps), size)]
    return tuple((part[-1][0], max(gap for _, gap in part)) for part in parts)


def label_dots(evidence: Evidence) -> DotChart:
    """F1 of every label on the test part, by engine and run."""
    supports = [one.support for one in evidence.engines[0].test[0].per_label]
    places = sorted(range(len(supports)), key=lambda place: -supports[place])[:LABELS]
    rows = [
        _label_row(column, evidence.series(column), place)
        for place in sorted(places)
        for column in evidence.engines
    ]  # fmt: skip
    about = "F1 of each label." if len(supports) <= LABELS else f"F1 of the {LABELS} labels with the most documents."
    if evidence.several:
        about += " A mark is one run, the upright line their mean."
    return DotChart("Label by label", about, "F1", tuple(rows))


def _engines(evidence: Evidence) -> Iterator[tuple[int, Column]]:
    """Every engine with its look."""
    for column in evidence.engines:
        series = evidence.series(column)
        if series is not None:
            yield series, column


def _dot_row(column: Column, series: int | None, interval: tuple[float, float] | None) -> DotRow:
    values = [scores.accuracy for scores in column.test]
    names = list(dict.fromkeys(f"seed {run['seed']}" for run in column.runs)) or [column.title]
    dots = tuple(zip(names, values, strict=True))
    if len(values) > 1:
        return DotRow(column.title, series, dots, interval, statistics.mean(values))
    return DotRow(column.title, series, dots, interval)


def _course(column: Column, series: int, score: str) -> Iterator[Line]:
    """One score over the epochs of an engine: each run and their mean, or the only run with its interval."""
    runs = [[(epoch["epoch"], Scores.from_json(epoch["validation"])) for epoch in run["epochs"]] for run in column.runs]
    name = f"{column.title}, validation" if score == "loss" else column.title
    if len(runs) == 1:
        points = tuple((epoch, getattr(found, score)) for epoch, found in runs[0])
        band = tuple((epoch, *found.accuracy_interval) for epoch, found in runs[0]) if score == "accuracy" else ()
        yield Line(name, series, points, band)
        return
    by_epoch = [(epochs[0][0], [getattr(found, score) for _, found in epochs]) for epochs in zip(*runs, strict=False)]
    band = tuple((epoch, min(values), max(values)) for epoch, values in by_epoch)
    yield Line(name, series, tuple((epoch, statistics.mean(values)) for epoch, values in by_epoch), band)


def _training_loss(column: Column, series: int) -> Line:
    """The mean training loss of every epoch, over the engine's runs."""
    courses = [
        [(epoch["epoch"], epoch["train_loss"]) for epoch in run["epochs"] if epoch["train_loss"] is not None]
        for run in column.runs
    ]
    points = tuple((both[0][0], statistics.mean(loss for _, loss in both)) for both in zip(*courses, strict=False))
    return Line(f"{column.title}, training", series, points, kind="faint", dashed=True)


def _label_row(column: Column, series: int | None, place: int) -> DotRow:
    values = [scores.per_label[place].f1 for scores in column.test]
    names = [f"seed {run['seed']}" for run in column.runs]
    name = f"{shortened(column.test[0].labels[place])} · {column.title}"
    mean = statistics.mean(values) if len(values) > 1 else None
    return DotRow(name, series, tuple(zip(names, values, strict=False)), mean=mean)


def shortened(name: str) -> str:
    """A name that a figure has room for."""
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
