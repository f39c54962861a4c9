"""The comparison as people read it: the verdict first, then the tables that it rests on.

Every table is made once, of plain text, and shown twice: on a terminal (80 columns are enough for two engines) and as
Markdown. Engines are columns and scores are rows. Over several seeds a cell is mean ± standard deviation. Label names
come from the user's data, so on their way out they lose control characters and any power as markup.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from duygu.verdict.metrics import Scores
from duygu.verdict.runs import engine_title

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Json = Mapping[str, Any]
Row = tuple[str, ...]
RULE: Row = ()  # a row that draws a line
SIDE_BY_SIDE = 8  # confusion matrices share a table up to this many columns
MARKUP = re.compile(r"([\\`*_\[\]<>|~&@$]|(?<=:)/)")  # what Markdown could read as more than text


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of plain text; the first column names its rows."""

    title: str
    columns: Row
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One engine with its runs (metrics.json each), or one baseline with its test scores alone."""

    title: str
    test: tuple[Scores, ...]
    runs: tuple[Json, ...] = ()


def markdown(comparison: Json) -> str:
    """The whole of ``report.md``."""
    parts = [f"# {_escape(_title(comparison))}", f"**{_escape(comparison['verdict'])}**"]
    parts += [f"- {_escape(note)}" for note in notes(comparison)]
    for table in tables(comparison):
        parts += [f"## {_escape(table.title)}", _markdown_table(table)]
        parts += [_escape(table.note)] if table.note else []
    return "\n\n".join(parts).replace("\n\n- ", "\n- ").replace("**\n- ", "**\n\n- ") + "\n"


def print_comparison(comparison: Json, console: Console) -> None:
    """Verdict, notes and tables on a terminal."""
    from rich.text import Text

    console.print(_panel(_title(comparison), [_headline(comparison), "", comparison["verdict"]]))
    for note in notes(comparison):
        console.print(Text(f"· {_plain(note)}", style="yellow"))
    for table in tables(comparison):
        _print_table(table, console)


def print_run(metrics: Json, console: Console) -> None:
    """The result of one run: its test scores, its epochs and what it cost."""
    title = f"{engine_title(metrics['engine'])} · seed {metrics['seed']} · {metrics['precision']}"
    test = Scores.from_json(metrics["test"])
    column = Column("", (test,), (metrics,))
    lines = [*_result(test), f"before training {_percent(metrics['start']['accuracy'])}"]
    if metrics["collapsed"]:
        lines.append("It collapsed: almost every document got the same label.")
    console.print(_panel(title, lines))
    for table in (epoch_table([column]), label_table(test), cost_table([column])):
        _print_table(table, console)


def print_scores(scores: Scores, title: str, console: Console) -> None:
    """The scores of a finished model on some documents."""
    console.print(_panel(title, _result(scores)))
    _print_table(label_table(scores), console)
    for table in confusion_tables([Column("", (scores,))]):
        _print_table(table, console)


def tables(comparison: Json) -> list[Table]:
    """Every table of a comparison, in reading order."""
    columns = _columns(comparison)
    engines = [column for column in columns if column.runs]
    found = [test_table(columns)]
    if len(comparison["runs"]) > len(engines):
        found.append(run_table(comparison["runs"]))
    if comparison["pairs"]:
        found.append(pair_table(comparison["pairs"]))
    return [*found, epoch_table(engines), *confusion_tables(engines), cost_table(engines)]


def notes(comparison: Json) -> list[str]:
    """What a reader must not miss: collapsed runs, and engines that a linear model matches."""
    found: list[str] = []
    for column in _columns(comparison):
        collapsed = sum(bool(run["collapsed"]) for run in column.runs)
        if collapsed:
            found.append(f"{column.title}: {collapsed} of {len(column.runs)} runs collapsed to one label.")
    for baseline in comparison["baselines"]:
        reached = baseline["test"]["accuracy"]
        beaten = [
            engine_title(engine)
            for engine, summary in comparison["engines"].items()
            if summary["accuracy_mean"] <= reached
        ]
        if beaten:
            who = " and ".join(beaten)
            found.append(f"The {baseline['name']} baseline reaches {_percent(reached)}; {who} did not exceed it.")
    return found


def test_table(columns: Sequence[Column]) -> Table:
    """All scores of the test part: engines first, then baselines."""
    first = columns[0].test[0]

    def row(name: str, read: Callable[[Scores], float], form: Callable[[float], str]) -> Row:
        return name, *(_spread([read(scores) for scores in column.test], form) for column in columns)

    rows = [row("accuracy", lambda scores: scores.accuracy, _percent), _interval_row(columns)]
    rows += _before_rows(columns)
    rows += [
        row("macro-F1", lambda scores: scores.macro_f1, _share),
        row("MCC", lambda scores: scores.mcc, _share),
        row("loss", lambda scores: scores.loss, _share),
        row("Brier score", lambda scores: scores.calibration.brier, _share),
        row("calibration error", lambda scores: scores.calibration.ece, _share),
        RULE,
    ]
    for name in ("precision", "recall", "f1"):
        rows.append(row(f"support-weighted {_term(name)}", lambda s, n=name: getattr(s.weighted, n), _share))
    for i, label in enumerate(first.labels):
        rows.append(RULE)
        for name in ("precision", "recall", "f1"):
            rows.append(row(f"{label} {_term(name)}", lambda s, i=i, n=name: getattr(s.per_label[i], n), _share))
    return Table(f"Test part: {first.documents} documents", ("", *(column.title for column in columns)), tuple(rows))


def run_table(runs: Sequence[Json]) -> Table:
    """Every run by itself: the best is not shown without the worst."""
    rows: list[Row] = []
    for run in runs:
        test = Scores.from_json(run["test"])
        low, high = test.accuracy_interval
        shown = f"{low * 100:.1f}-{high * 100:.1f}", _share(test.macro_f1), _share(test.mcc), str(run["kept_epoch"])
        rows.append((run["name"], _percent(test.accuracy), *shown))
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
        (label, _share(one.precision), _share(one.recall), _share(one.f1), str(one.support))
        for label, one in zip(scores.labels, scores.per_label, strict=True)
    ]
    weighted = scores.weighted
    rows.append(RULE)
    rows.append(
        ("support-weighted", *map(_share, (weighted.precision, weighted.recall, weighted.f1)), str(scores.documents))
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
    """Engine against engine on the same test documents, one row per seed."""
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
            str(pair["seed"]),
            _percent(pair["agreement"]),
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
        "true difference of so many points with power .8. Prob.: the largest difference between the probabilities of "
        "a document, below this for 95 % of documents, and the largest of all."
    )
    return Table("The two engines on the same test documents", columns, rows, note)


def _columns(comparison: Json) -> list[Column]:
    columns: list[Column] = []
    for engine in comparison["engines"]:
        runs = tuple(run for run in comparison["runs"] if run["engine"] == engine)
        columns.append(Column(engine_title(engine), tuple(Scores.from_json(run["test"]) for run in runs), runs))
    for baseline in comparison["baselines"]:
        columns.append(Column(baseline["name"], (Scores.from_json(baseline["test"]),)))
    return columns


def _title(comparison: Json) -> str:
    seeds = len({run["seed"] for run in comparison["runs"]})
    model = "/".join(PurePath(comparison["model"]).parts[-2:])
    return f"duygu · {model} · {seeds} seed{'s' * (seeds > 1)}"


def _headline(comparison: Json) -> str:
    columns = _columns(comparison)
    values = (f"{column.title} {_spread([s.accuracy for s in column.test], _percent)}" for column in columns)
    return "accuracy   " + "   ".join(values)


def _result(scores: Scores) -> list[str]:
    low, high = (f"{bound * 100:.1f}" for bound in scores.accuracy_interval)
    return [
        f"accuracy {_percent(scores.accuracy)} ({low} to {high}) on {scores.documents} documents",
        f"macro-F1 {_share(scores.macro_f1)}   MCC {_share(scores.mcc)}   loss {_share(scores.loss)}",
    ]


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
    cells = [_spread([run["start"]["accuracy"] for run in column.runs], _percent) for column in columns]
    return [("  before training", *cells)]


def _epoch_cells(runs: Sequence[Json], number: int) -> Row:
    """Accuracy with its interval (one run) or spread (several), macro-F1 and loss of one engine after one epoch."""
    found = [Scores.from_json(run["epochs"][number]["validation"]) for run in runs]
    accuracy = _spread([scores.accuracy for scores in found], lambda value: f"{value * 100:.1f}")
    if len(found) == 1:
        low, high = found[0].accuracy_interval
        kept = "*" if runs[0]["kept_epoch"] == runs[0]["epochs"][number]["epoch"] else ""
        accuracy = f"{kept}{accuracy} ({low * 100:.0f}-{high * 100:.0f})"
    macro_f1, loss = statistics.mean(s.macro_f1 for s in found), statistics.mean(s.loss for s in found)
    return accuracy, _share(macro_f1), _share(loss)


def _spread(values: Sequence[float], form: Callable[[float], str]) -> str:
    """One value, or mean ± standard deviation; nothing for no values."""
    if not values:
        return ""
    text = form(statistics.mean(values))
    return f"{text} ± {form(statistics.stdev(values)).removesuffix(' %')}" if len(values) > 1 else text


def _percent(value: float) -> str:
    return f"{value * 100:.1f} %"


def _share(value: float) -> str:
    return f"{value:.3f}"


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


def _plain(text: str) -> str:
    """Text that moves no cursor and starts no line: what does not print becomes a replacement character."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _escape(text: str) -> str:
    """Text for a Markdown line or cell, without links, markup or HTML of its own."""
    return MARKUP.sub(r"\\\1", _plain(text)).replace("www.", "www\\.")


def _markdown_table(table: Table) -> str:
    rule = ("---", *("---:" for _ in table.columns[1:]))
    body: Iterator[Row] = (tuple(map(_escape, row)) for row in table.rows if row)
    cells: Iterable[Row] = (tuple(_escape(name.replace("\n", " ")) for name in table.columns), rule, *body)
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _panel(title: str, lines: Sequence[str]) -> RenderableType:
    from rich import box
    from rich.panel import Panel
    from rich.text import Text

    body = Text("\n".join(map(_plain, lines)))
    return Panel(body, title=Text(_plain(title), style="bold"), title_align="left", box=box.ROUNDED, padding=(0, 2))


def _print_table(table: Table, console: Console) -> None:
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    console.print()
    console.print(Text(_plain(table.title), style="bold"))
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    for number, name in enumerate(table.columns):
        grid.add_column(
            Text("\n".join(map(_plain, name.split("\n")))), justify="right" if number else "left", overflow="fold"
        )
    for row, after in zip(table.rows, (*table.rows[1:], RULE), strict=True):
        if row:
            grid.add_row(*(Text(_plain(cell)) for cell in row), end_section=not after)
    console.print(grid)
    if table.note:
        console.print(Text(table.note, style="dim"))
