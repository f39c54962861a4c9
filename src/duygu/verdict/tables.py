"""A comparison as tables of plain text, made once and shown on a terminal and as Markdown.

Engines are columns and scores are rows. Over several seeds a cell is mean ± standard deviation.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from duygu.verdict.metrics import Scores
from duygu.verdict.runs import engine_title

Json = Mapping[str, Any]
Row = tuple[str, ...]
RULE: Row = ()  # a row that draws a line
SCORE_NAMES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "mcc": "MCC"}
SIDE_BY_SIDE = 8  # confusion matrices share a table up to this many columns


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of plain text; the first column names its rows."""

    title: str
    columns: Row
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One engine with its runs (metrics.json each) and test scores by seed, or one baseline with its scores alone.

    Of several models every one has its own engines. ``key`` is the name in ``engines`` of comparison.json.
    """

    title: str
    test: tuple[Scores, ...]
    runs: tuple[Json, ...] = ()
    key: str = ""


def tables(comparison: Json) -> list[Table]:
    """Every table of a comparison, in reading order."""
    columns = columns_of(comparison)
    engines = [column for column in columns if column.runs]
    found = [test_table(columns)]
    found += difference_tables(comparison.get("engine_pairs", ()))
    found += seed_tables(comparison)
    if len(comparison["runs"]) > len(engines):
        found.append(run_table(comparison["runs"]))
    if comparison["pairs"]:
        found.append(pair_table(comparison["pairs"]))
    if comparison.get("protocols"):
        found.append(protocol_table(comparison["protocols"]))
    return [*found, epoch_table(engines), *confusion_tables(engines), cost_table(engines)]


def test_table(columns: Sequence[Column]) -> Table:
    """All scores of the test part: engines first, then baselines."""
    first = columns[0].test[0]

    def row(name: str, read: Callable[[Scores], float], form: Callable[[float], str]) -> Row:
        return name, *(spread([read(scores) for scores in column.test], form) for column in columns)

    rows = [row("accuracy", lambda scores: scores.accuracy, percent), _interval_row(columns)]
    rows += _before_rows(columns)
    rows += [
        row("macro-F1", lambda scores: scores.macro_f1, share),
        row("MCC", lambda scores: scores.mcc, share),
        row("loss", lambda scores: scores.loss, share),
        row("Brier score", lambda scores: scores.calibration.brier, share),
        row("calibration error", lambda scores: scores.calibration.ece, share),
        RULE,
    ]
    for name in ("precision", "recall", "f1"):
        rows.append(row(f"support-weighted {_term(name)}", lambda s, n=name: getattr(s.weighted, n), share))
    for i, label in enumerate(first.labels):
        rows.append(RULE)
        for name in ("precision", "recall", "f1"):
            rows.append(row(f"{label} {_term(name)}", lambda s, i=i, n=name: getattr(s.per_label[i], n), share))
    return Table(f"Test part: {first.documents} documents", ("", *(column.title for column in columns)), tuple(rows))


def difference_tables(pairs: Sequence[Json]) -> list[Table]:
    """Engine against engine over documents and seeds, score by score; a table each."""
    note = (
        "In points. Other documents of this kind and other seeds would give other differences; intervals and p reckon "
        "with both. Holm's p is corrected for the number of pairs of engines. A true difference of so many points "
        "would be detected with power .8. Accuracy decides the verdict."
    )
    one_seed = "One seed does not show how seeds vary: this compares two trained models."
    columns = ("", "difference", "95 % interval", "p", "Holm's p", "can detect")
    return [
        Table(
            f"{engine_title(pair['a'])} - {engine_title(pair['b'])}, over documents and seeds",
            columns,
            tuple(_difference_row(SCORE_NAMES[name], found) for name, found in pair["scores"].items()),
            f"{note} {one_seed}" if pair["seeds"] == 1 else note,
        )
        for pair in pairs
    ]


def _difference_row(name: str, found: Json) -> Row:
    low, high = found["interval"]
    least = found["minimum_detectable"]
    shown = f"{found['p']:.3f}", f"{found['p_holm']:.3f}", "none" if least is None else points(least)
    return name, signed(found["difference"]), f"{signed(low)} to {signed(high)}", *shown


def seed_tables(comparison: Json) -> list[Table]:
    """Each engine's mean scores with their intervals, its ensemble, and what seeds spanned; nothing without those."""
    engines = {engine_title(engine): found for engine, found in comparison["engines"].items()}
    if any("accuracy_interval" not in found for found in engines.values()):
        return []
    rows: list[Row] = []
    for name, found in engines.items():
        rows.append((name, *(f"{found[f'{score}_mean'] * 100:.1f} ({_range(found, score)})" for score in SCORE_NAMES)))
        if found["ensemble"] is not None:
            together = Scores.from_json(found["ensemble"])
            rows.append(("  ensemble", *(f"{getattr(together, score) * 100:.1f}" for score in SCORE_NAMES)))
    note = "Means over seeds in points, in brackets the 95 % interval over documents and seeds."
    if len(rows) > len(engines):
        note += " An ensemble answers with the mean of its seeds' probabilities; no interval is claimed for it."
    title = "Each engine over documents and seeds"
    return [Table(title, ("", *SCORE_NAMES.values()), tuple(rows), note), *_span_tables(engines)]


def _span_tables(engines: Mapping[str, Json]) -> list[Table]:
    """Accuracy over several seeds: the best is not shown without the worst."""
    if any(found["accuracy_sd"] is None for found in engines.values()):
        return []
    rows = tuple(
        (
            name,
            *(f"{found[f'accuracy_{what}'] * 100:.1f}" for what in ("mean", "sd", "min", "max")),
            f"{found['collapsed']} of {found['runs']}",
            str(found["restarts"]),
        )
        for name, found in engines.items()
    )
    columns = ("", "mean", "sd", "lowest", "highest", "collapsed", "restarts")
    return [Table("Accuracy of the seeds, in points", columns, rows)]


def protocol_table(protocol: Json) -> Table:
    """A published evaluation's conventions beside the honest ones."""
    rows = tuple(tuple(row) for row in protocol["rows"])
    return Table(protocol["title"], tuple(protocol["columns"]), rows, protocol["note"])


def run_table(runs: Sequence[Json]) -> Table:
    """Every run by itself: the best is not shown without the worst."""
    rows: list[Row] = []
    for run in runs:
        test = Scores.from_json(run["test"])
        low, high = test.accuracy_interval
        shown = f"{low * 100:.1f}-{high * 100:.1f}", share(test.macro_f1), share(test.mcc), str(run["kept_epoch"])
        rows.append((run["name"], percent(test.accuracy), *shown))
    columns = ("run", "accuracy", "95 % interval", "macro-F1", "MCC", "kept epoch")
    return Table("Each run on the test part", columns, tuple(rows))


def epoch_table(columns: Sequence[Column]) -> Table:
    """Validation before training and after every epoch; the epoch that a run kept is marked."""
    heads = [f"{column.title}\n{score}".strip() for column in columns for score in ("accuracy %", "F1", "loss")]
    rows: list[Row] = []
    for number in range(len(columns[0].runs[0]["epochs"])):
        cells = [_epoch_cells(column.runs, number) for column in columns]
        epoch = columns[0].runs[0]["epochs"][number]["epoch"]
        name = "before" if epoch == 0 else str(epoch)
        rows.append((name, *(cell for group in cells for cell in group)))
    note = "F1 is macro-F1. In brackets Wilson intervals, 95 %. * is the epoch whose weights the run kept."
    several = "F1 is macro-F1. Means over seeds; accuracy with its standard deviation."
    return Table(
        "Validation part, epoch by epoch", ("epoch", *heads), tuple(rows), several if len(columns[0].runs) > 1 else note
    )


def label_table(scores: Scores) -> Table:
    """Precision, recall and F1 of every label, then their averages."""
    rows: list[Row] = [
        (label, share(one.precision), share(one.recall), share(one.f1), str(one.support))
        for label, one in zip(scores.labels, scores.per_label, strict=True)
    ]
    weighted = scores.weighted
    rows.append(RULE)
    rows.append(
        ("support-weighted", *map(share, (weighted.precision, weighted.recall, weighted.f1)), str(scores.documents))
    )
    return Table("By label", ("", "precision", "recall", "F1", "documents"), tuple(rows))


def confusion_tables(columns: Sequence[Column]) -> list[Table]:
    """Confusion matrices of the test part, summed over seeds; side by side where they fit."""
    seeds = len(columns[0].test)
    title = "Confusion: rows true, columns predicted" + (f", summed over {seeds} seeds" if seeds > 1 else "")
    labels = columns[0].test[0].labels
    groups = [columns] if len(labels) * len(columns) <= SIDE_BY_SIDE else [[column] for column in columns]
    return [
        Table(
            title,
            ("", *(f"{column.title}\n{label}".strip() for column in group for label in labels)),
            tuple(
                (
                    label,
                    *(str(sum(s.confusion[i][j] for s in column.test)) for column in group for j in range(len(labels))),
                )
                for i, label in enumerate(labels)
            ),
        )
        for group in groups
    ]


def cost_table(columns: Sequence[Column]) -> Table:
    """Time, throughput and memory; what a run did not measure is left out."""
    rows: list[Row] = []
    for name, part, key, form in COSTS:
        found = [[run.get(part, {}).get(key) for run in column.runs] for column in columns]
        if all(value is not None for values in found for value in values):
            middle = max if part == "memory" else statistics.mean
            rows.append((name, *(form(middle(values)) for values in found)))
    for name in ("precision", "threads"):
        title = "arithmetic" if name == "precision" else name
        rows.append((title, *(", ".join(dict.fromkeys(str(run[name]) for run in column.runs)) for column in columns)))
    note = "Means over seeds; memory is the highest." if len(columns[0].runs) > 1 else ""
    return Table("Cost", ("", *(column.title for column in columns)), tuple(rows), note)


def pair_table(pairs: Sequence[Json]) -> Table:
    """Model against model on the same test documents, one row per seed and fold."""
    a, b = pairs[0]["engines"]
    columns = (
        "seed",
        "same\nlabel",
        f"{a} - {b},\npoints",
        "McNemar\np",
        "can\ndetect",
        "prob.\n95 %",
        "prob.\nlargest",
    )
    rows = tuple(
        (
            str(pair["seed"]) + ("" if pair.get("fold") is None else f", fold {pair['fold']}"),
            percent(pair["agreement"]),
            f"{pair['difference'] * 100:+.1f} ({pair['interval'][0] * 100:+.1f} to {pair['interval'][1] * 100:+.1f})",
            f"{pair['mcnemar_p']:.3f}",
            "none" if pair["minimum_detectable"] is None else f"{pair['minimum_detectable'] * 100:.1f}",
            _small(pair["probability_difference"]["p95"]),
            _small(pair["probability_difference"]["max"]),
        )
        for pair in pairs
    )
    note = (
        "The difference in accuracy has its 95 % interval (Bonett-Price). McNemar is the exact test; it can detect a "
        "true difference of so many points with power .8. Each row compares two trained models. Prob.: the largest "
        "difference between the probabilities of a document, below this for 95 % of documents, and the largest of all."
    )
    return Table("The two engines on the same test documents", columns, rows, note)


def columns_of(comparison: Json) -> list[Column]:
    """Engines in the order of their runs, then baselines."""
    columns: list[Column] = []
    for key, found in comparison["engines"].items():
        engine, model = found.get("engine", key), found.get("model")
        runs = tuple(run for run in comparison["runs"] if run["engine"] == engine and model in (None, run["model"]))
        tests = found.get("pooled", runs)  # over folds, one a seed
        title = engine_title(engine) if model is None else f"{model} · {engine_title(engine)}"
        columns.append(Column(title, tuple(Scores.from_json(one["test"]) for one in tests), runs, key))
    for baseline in comparison["baselines"]:
        columns.append(Column(baseline["name"], (Scores.from_json(baseline["test"]),)))
    return columns


def _interval_row(columns: Sequence[Column]) -> Row:
    """Wilson interval of a single run; over seeds the range that they spanned, which is another thing and says so."""

    def cell(column: Column) -> str:
        values = [scores.accuracy for scores in column.test]
        low, high = column.test[0].accuracy_interval if len(values) == 1 else (min(values), max(values))
        return f"{low * 100:.1f}-{high * 100:.1f}"

    several = any(len(column.test) > 1 for column in columns)
    name = "  min-max of seeds" if several else "  95 % interval"
    return name, *(cell(column) if len(column.test) > 1 or not several else "" for column in columns)


def _before_rows(columns: Sequence[Column]) -> list[Row]:
    """Accuracy of the test part before the first step; baselines have none."""
    cells = [spread([run["start"]["accuracy"] for run in column.runs], percent) for column in columns]
    return [("  before training", *cells)]


def _epoch_cells(runs: Sequence[Json], number: int) -> Row:
    """Accuracy with its interval (one run) or spread (several), macro-F1 and loss of one engine after one epoch."""
    found = [Scores.from_json(run["epochs"][number]["validation"]) for run in runs]
    accuracy = spread([scores.accuracy for scores in found], lambda value: f"{value * 100:.1f}")
    if len(found) == 1:
        low, high = found[0].accuracy_interval
        kept = "*" if runs[0]["kept_epoch"] == runs[0]["epochs"][number]["epoch"] else ""
        accuracy = f"{kept}{accuracy} ({low * 100:.0f}-{high * 100:.0f})"
    macro_f1, loss = statistics.mean(s.macro_f1 for s in found), statistics.mean(s.loss for s in found)
    return accuracy, share(macro_f1), share(loss)


def spread(values: Sequence[float], form: Callable[[float], str]) -> str:
    """One value, or mean ± standard deviation; nothing for no values."""
    if not values:
        return ""
    text = form(statistics.mean(values))
    return f"{text} ± {form(statistics.stdev(values)).removesuffix(' %')}" if len(values) > 1 else text


def percent(value: float) -> str:
    """A share in percent, one decimal."""
    return f"{value * 100:.1f} %"


def share(value: float) -> str:
    """Three decimals."""
    return f"{value:.3f}"


def _range(found: Json, score: str) -> str:
    low, high = found[f"{score}_interval"]
    return f"{low * 100:.1f} to {high * 100:.1f}"


def points(value: float) -> str:
    """A share in points."""
    return f"{value * 100:.1f}"


def signed(value: float) -> str:
    """A difference of shares in points, with its sign; 0 has none."""
    text = f"{value * 100:+.1f}"
    return "0.0" if float(text) == 0 else text


def _small(value: float) -> str:
    return f"{value:.4f}" if value == 0 or value >= 1e-4 else f"{value:.0e}"


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds} s"


def _rate(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _bytes(value: float) -> str:
    return f"{value / 2**20:,.0f} MiB"


def turned(table: Table) -> Table:
    """Rows as columns: for many engines and few numbers of each."""
    rows = tuple(row for row in table.rows if row)
    cells = zip(*(row[1:] for row in rows), strict=True)
    body = tuple((name, *own) for name, own in zip(table.columns[1:], cells, strict=True))
    return Table(table.title, ("", *(row[0] for row in rows)), body, table.note)


COSTS: tuple[tuple[str, str, str, Callable[[float], str]], ...] = (
    ("training time", "time", "train_s", _seconds),
    ("set-up", "time", "setup_s", _seconds),
    ("compile time", "time", "compile_s", _seconds),
    ("first step", "time", "first_step_s", _seconds),
    ("documents per second", "time", "documents_per_s", _rate),
    ("tokens per second", "time", "tokens_per_s", _rate),
    ("peak memory", "memory", "peak_bytes", _bytes),
)


def _term(name: str) -> str:
    return "F1" if name == "f1" else name
