"""The part of the page on confidence: can the probabilities be believed, and what is gained by answering less often."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from duygu.verdict.page.charts import Line, LineChart
from duygu.verdict.page.evidence import Evidence
from duygu.verdict.tables import RULE, Json, Row, Table, percent, share

Measured = tuple[str, int | None, str, Json]  # title and look of an engine, kind of answers, what was measured
LONG = {"plain": "as answered", "scaled": "calibrated"}


def trust_charts(evidence: Evidence) -> list[LineChart]:
    """Reliability and risk-coverage; nothing where the comparison holds no calibration."""
    measured = list(_measured(evidence))
    return [_reliability(measured), _coverage(measured)] if measured else []


def trust_table(evidence: Evidence) -> Table | None:
    """Scores of confidence for every engine, as answered and calibrated."""
    found = _calibration(evidence)
    if not found:
        return None
    kinds = [(title, one, kind) for title, _, one in found for kind in LONG if one[kind] is not None]
    rows: list[Row] = [
        (name, *(share(one[kind][key]) for _, one, kind in kinds))
        for name, key in (("log loss", "nll"), ("Brier score", "brier"), ("calibration error", "ece"))
    ]
    rows += [RULE, ("temperature", *(_temperature(one) if kind == "scaled" else "" for _, one, kind in kinds))]
    rows += [RULE, ("AURC", *(share(one[kind]["aurc"]) for _, one, kind in kinds))]
    for part in found[0][2]["plain"]["accuracy_at"]:
        name = f"accuracy, {float(part) * 100:.0f} % answered"
        rows.append((name, *(percent(one[kind]["accuracy_at"][part]) for _, one, kind in kinds)))
    note = (
        "The temperature is fitted on the validation part; it changes no label, only how sure an answer is. "
        "Calibration error is over bins of equal mass. AURC is the mean share of errors over all shares answered; "
        "lower is better."
    )
    columns = ("", *(f"{title}\n{LONG[kind]}" for title, _, kind in kinds))
    return Table("How far the probabilities can be believed", columns, tuple(rows), note)


def bin_table(evidence: Evidence) -> Table | None:
    """Every bin of the reliability figure."""
    measured = list(_measured(evidence))
    if not measured:
        return None
    rows: list[Row] = []
    for title, _, kind, one in measured:
        rows += [RULE] if rows else []
        rows += [
            (f"{title}, {kind}", str(part["documents"]), percent(part["confidence"]), percent(part["accuracy"]))
            for part in one["bins"]
        ]
    return Table("Bins of equal mass", ("", "documents", "confidence", "accuracy"), tuple(rows))


def _reliability(measured: Sequence[Measured]) -> LineChart:
    lines: list[Line] = []
    for title, series, kind, one in measured:
        points = tuple((part["confidence"], part["accuracy"]) for part in one["bins"])
        plain = kind == LONG["plain"]
        lines.append(Line(f"{title}, {kind}", series, points, kind="marks" if plain else "main", dashed=plain))
    ends = [x for line in lines for x, _ in line.points]
    diagonal = Line("as sure as right", None, ((min(ends), min(ends)), (max(ends), max(ends))), kind="faint")
    about = (
        "Each mark is a bin; all have as many documents. Above the grey line answers are right more often than they "
        "promise, below it less often."
    )
    return LineChart("Reliability", about, "confidence", "accuracy", (diagonal, *lines), percent=True, x_percent=True)


def _coverage(measured: Sequence[Measured]) -> LineChart:
    best = {title: (series, one) for title, series, _, one in measured}
    lines = tuple(
        Line(title, series, tuple((x, y) for x, y in one["curve"]), kind="bare", dashed=bool(series))
        for title, (series, one) in best.items()
    )
    about = "Accuracy if only the surest documents are answered and the others are left to people."
    title = "Accuracy by share answered"
    return LineChart(title, about, "share answered", "accuracy", lines, percent=True, x_percent=True)


def _calibration(evidence: Evidence) -> list[tuple[str, int | None, Json]]:
    """Title, look and calibration of every engine that has one."""
    found = evidence.comparison.get("calibration") or {}
    columns = ((column, found.get(column.runs[0]["engine"])) for column in evidence.engines)
    return [(column.title, evidence.series(column), one) for column, one in columns if one]


def _measured(evidence: Evidence) -> Iterator[Measured]:
    for title, series, one in _calibration(evidence):
        yield from ((title, series, name, one[kind]) for kind, name in LONG.items() if one[kind] is not None)


def _temperature(one: Json) -> str:
    values = [float(value) for value in one["temperatures"].values()]
    low, high = min(values), max(values)
    return f"{values[0]:.2f}" if low == high else f"{statistics.mean(values):.2f} ({low:.2f} to {high:.2f})"
