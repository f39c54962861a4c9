"""A comparison of several models as tables: every model in every engine, and who differs from whom.

Each model by itself is read like a comparison of one, with all its tables, through `of_model`.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from duygu.verdict.runs import engine_title
from duygu.verdict.tables import (
    RULE,
    SCORE_NAMES,
    Column,
    Json,
    Row,
    Table,
    columns_of,
    cost_table,
    points,
    share,
    signed,
    spread,
    tables,
    turned,
)

SHOWN_COSTS = ("documents per second", "peak memory")
DIGEST = 12  # characters of a SHA-256 that are shown
NOTE = (
    "In points, over documents and seeds; intervals and p reckon with both. Holm's p is corrected for the number of "
    "rows. A true difference of so many points would be detected with power .8."
)


def models_of(comparison: Json) -> list[str]:
    """Short names of the models; none for a comparison of one."""
    return list(comparison.get("models", ()))


def of_model(comparison: Json, model: str) -> Json:
    """One model's part in the form of a comparison of one; its p stay corrected for the number of all models."""

    def own(name: str) -> list[Json]:
        return [one for one in comparison[name] if one["model"] == model]

    part: dict[str, Any] = dict(comparison["models"][model])
    names = ("model", "engine")
    engines = {
        found["engine"]: {name: value for name, value in found.items() if name not in names}
        for found in comparison["engines"].values()
        if found["model"] == model
    }
    return {
        **{name: value for name, value in comparison.items() if name not in ("models", "model_pairs")},
        **{name: part[name] for name in ("verdict", "protocols", "calibration", "documents")},
        "model": model,
        "data": {**comparison["data"], **part["data"]},
        "engines": engines,
        **{name: own(name) for name in ("engine_pairs", "pairs", "runs")},
        "audit": None,
        "notes": [],
    }


def shown_tables(comparison: Json) -> list[Table]:
    """The tables to print: of one model all, of several those that hold the models together."""
    if not models_of(comparison):
        return tables(comparison)
    columns = columns_of(comparison)
    arms = [column for column in columns if column.runs]
    between = [*engine_tables(comparison), *model_tables(comparison)]
    return [cross_table(comparison, columns), *between, setup_table(comparison), turned(cost_table(arms))]


def cross_table(comparison: Json, columns: Sequence[Column]) -> Table:
    """A row for every model in every engine, the baselines beneath."""
    rows: list[Row] = []
    whose = [column.runs[0]["model"] if column.runs else None for column in columns]
    for place, column in enumerate(columns):
        rows += [RULE] if place and whose[place] != whose[place - 1] else []
        rows.append(_cross_row(column, comparison["engines"].get(column.key)))
    several = any(len(column.test) > 1 for column in columns)
    note = "Means over seeds, and of accuracy their standard deviation; intervals" if several else "Intervals"
    note += " reckon with other documents" + (" and other seeds." if several else ".")
    note += " Documents per second are those of training, memory is the highest of a run."
    heads = ("", "accuracy, %", "95 %\ninterval", "macro-\nF1", "MCC", "col-\nlapsed", "docs\nper s", "peak\nmemory")
    return Table("Every model in every engine", heads, tuple(rows), note)


def engine_tables(comparison: Json) -> list[Table]:
    """The engines against each other, a row for every model, score by score."""
    pairs = comparison["engine_pairs"]
    engines = [f"{engine_title(pair['a'])} - {engine_title(pair['b'])}" for pair in pairs]
    if len(set(engines)) == 1:
        return _difference_tables(engines[0], [pair["model"] for pair in pairs], pairs)
    names = [f"{pair['model']}: {both}" for pair, both in zip(pairs, engines, strict=True)]
    return _difference_tables("The engines against each other", names, pairs)


def model_tables(comparison: Json) -> list[Table]:
    """The models against each other, a row for every two, score by score."""
    pairs = comparison["model_pairs"]
    return _difference_tables("The models against each other", [f"{pair['a']} - {pair['b']}" for pair in pairs], pairs)


def setup_table(comparison: Json) -> Table:
    """What was not the same for all models: what they began as, their tokens, and what their recipes differ in."""
    models = comparison["models"]
    rows: list[Row] = [("began as", *(str(one["source"]) for one in models.values()))]
    if all("truncated" in one["data"] for one in models.values()):
        rows.append(("documents cut", *(str(one["data"]["truncated"]) for one in models.values())))
    rows.append(("SHA-256 of the token ids", *(str(one["data"]["tokens"])[:DIGEST] for one in models.values())))
    for field in next(iter(models.values()))["recipe"]:
        rows.append((f"recipe: {field}", *(str(one["recipe"][field]) for one in models.values())))
    return turned(Table("What was each model's own", ("", *models), tuple(rows)))


def _cross_row(column: Column, found: Json | None) -> Row:
    low, high = column.test[0].accuracy_interval if found is None else found["accuracy_interval"]
    scores = (
        spread([one.accuracy for one in column.test], points),
        f"{points(low)}-{points(high)}",
        share(statistics.mean(one.macro_f1 for one in column.test)),
        share(statistics.mean(one.mcc for one in column.test)),
    )
    if found is None:
        return column.title, *scores, "", "", ""
    costs = {row[0]: row[1] for row in cost_table([column]).rows}
    shown = (costs.get(name, "") for name in SHOWN_COSTS)
    return column.title, *scores, f"{found['collapsed']} of {found['runs']}", *shown


def _difference_tables(title: str, names: Sequence[str], pairs: Sequence[Json]) -> list[Table]:
    if not pairs:
        return []
    columns = ("", "diff.", "95 % interval", "p", "Holm's\np", "can\ndetect", "verdict")
    return [
        Table(
            f"{title}: {shown}",
            columns if score == "accuracy" else columns[:-1],
            tuple(_difference_row(name, pair, score) for name, pair in zip(names, pairs, strict=True)),
            NOTE if score == "accuracy" else "",
        )
        for score, shown in SCORE_NAMES.items()
    ]


def _difference_row(name: str, pair: Json, score: str) -> Row:
    found = pair["scores"][score]
    low, high = found["interval"]
    least = found["minimum_detectable"]
    row = (
        name,
        signed(found["difference"]),
        f"{signed(low)} to {signed(high)}",
        f"{found['p']:.3f}",
        f"{found['p_holm']:.3f}",
        "none" if least is None else points(least),
    )
    return (*row, pair["verdict"]) if score == "accuracy" else row
