"""The part of the page that holds the engines against each other: the difference, its margin, and every seed of it."""

from __future__ import annotations

from collections.abc import Sequence

from duygu.errors import printable
from duygu.verdict.page.bars import Amounts, Bar, DifferenceChart, DifferenceRow
from duygu.verdict.page.evidence import Evidence
from duygu.verdict.page.figures import shortened, step_gaps, step_means, twins, window
from duygu.verdict.runs import engine_title
from duygu.verdict.tables import COSTS, Json, Row, Table

NAMES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "mcc": "MCC"}
WHISKERS = "Whiskers are 95 % intervals over documents and seeds"
SHOWN_COSTS = ("training time", "documents per second", "compile time", "peak memory")


def difference_charts(evidence: Evidence) -> list[DifferenceChart]:
    """One figure for every two engines, where the comparison has tested them over documents and seeds."""
    return [_differences(evidence, pair) for pair in evidence.comparison.get("engine_pairs") or ()]


def accuracy_chart(title: str, names: Sequence[str], pairs: Sequence[Json]) -> DifferenceChart:
    """Differences in accuracy alone, a row for each of ``pairs`` under its name."""
    rows: list[DifferenceRow] = []
    for name, pair in zip(names, pairs, strict=True):
        found, seeds = pair["scores"]["accuracy"], pair.get("by_seed", ())
        low, high = found["interval"]
        dots = tuple((f"seed {one['seed']}", one["difference"]) for one in seeds) if len(seeds) > 1 else ()
        inner = _bounds(pair["equivalence"]["interval90"])
        rows.append(DifferenceRow(name, found["difference"], (low, high), inner, dots))
    margin = pairs[0]["equivalence"]["margin"]
    circles = "; circles are single seeds" if any(row.dots for row in rows) else ""
    return DifferenceChart(title, f"{WHISKERS}{circles}. {_about_margin(margin)}", "points", tuple(rows), margin)


def cost_amounts(evidence: Evidence) -> list[Amounts]:
    """Rate, time and memory of every engine as the cost table has them; what a run did not measure is left out."""
    groups: list[Amounts] = []
    for name, part, key, form in COSTS:
        found = [[run.get(part, {}).get(key) for run in column.runs] for column in evidence.engines]
        if name not in SHOWN_COSTS or any(value is None for values in found for value in values):
            continue
        amounts = [max(values) if part == "memory" else sum(values) / len(values) for values in found]
        bars = tuple(
            Bar(shortened(column.title), evidence.series(column), amount, form(amount))
            for column, amount in zip(evidence.engines, amounts, strict=True)
        )
        if any(amounts):
            groups.append(Amounts(name, bars))
    return groups


def steps_table(evidence: Evidence) -> Table | None:
    """The numbers of the figures over steps: every run's loss, and for every seed how far the engines are apart."""
    runs = [run["name"] for run in evidence.comparison["runs"] if run["name"] in evidence.steps]
    if not runs:
        return None
    size, pairs = window(evidence), twins(evidence)
    losses = [dict(step_means(evidence.steps[name], size)) for name in runs]
    gaps = [dict(step_gaps(*both, size)) for _, both in pairs]
    steps = sorted({step for course in losses for step in course})
    rows: list[Row] = [
        (
            str(step),
            *(f"{course[step]:.4f}" if step in course else "" for course in losses),
            *(f"{gap[step]:.1e}" if step in gap else "" for gap in gaps),
        )
        for step in steps
    ]
    columns = ("step", *map(printable, runs), *(f"difference,\n{name}" for name, _ in pairs))
    note = "" if size == 1 else f"Losses are means over {size} steps, differences the largest of them."
    return Table("Losses by step", columns, tuple(rows), note)


def _differences(evidence: Evidence, pair: Json) -> DifferenceChart:
    a, b = engine_title(pair["a"]), engine_title(pair["b"])
    equivalence = pair.get("equivalence") or {}
    margin = equivalence.get("margin")
    rows = [
        DifferenceRow(
            NAMES.get(name) or str(name),
            found["difference"],
            (found["interval"][0], found["interval"][1]),
            _bounds(equivalence.get("interval90")) if name == "accuracy" else None,
            _seeds(evidence, pair) if name == "accuracy" else (),
        )
        for name, found in pair["scores"].items()
    ]
    about = WHISKERS
    about += "; circles are single seeds." if any(row.dots for row in rows) else "."
    if margin is not None:
        about += f" {_about_margin(margin)}"
    return DifferenceChart(f"{a} minus {b}", about, "points", tuple(rows), margin)


def _about_margin(margin: float) -> str:
    return (
        f"The thick part is the 90 % interval: where it lies within the shaded {margin * 100:.1f} points, the two "
        "are equivalent."
    )


def _seeds(evidence: Evidence, pair: Json) -> tuple[tuple[str, float], ...]:
    """The difference on every seed, from the pairs of runs."""
    engines = [engine_title(pair["a"]), engine_title(pair["b"])]
    found = [one for one in evidence.comparison["pairs"] if one["engines"] == engines]
    return tuple((f"seed {one['seed']}", one["difference"]) for one in found) if len(found) > 1 else ()


def _bounds(interval: list[float] | None) -> tuple[float, float] | None:
    return None if interval is None else (interval[0], interval[1])
