"""The comparison as people read it: the verdict first, then the tables that it rests on.

Both forms, a terminal of 80 columns or more and Markdown, show the same tables. Label names come from the user's data,
so on their way out they lose control characters and any power as markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from duygu.errors import printable
from duygu.verdict.crossed import models_of, of_model, shown_tables
from duygu.verdict.metrics import Scores
from duygu.verdict.runs import engine_title
from duygu.verdict.tables import (
    RULE,
    Column,
    Json,
    Row,
    Table,
    columns_of,
    confusion_tables,
    cost_table,
    epoch_table,
    label_table,
    percent,
    share,
    spread,
    tables,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

MARKUP = re.compile(r"([\\`*_\[\]<>|~&@$]|(?<=:)/)")  # what Markdown could read as more than text


def markdown(comparison: Json) -> str:
    """The whole of ``report.md``."""
    parts = [f"# {_escape(title(comparison))}", f"**{_escape(comparison['verdict'])}**"]
    parts += [f"- {_escape(note)}" for note in notes(comparison)]
    parts += [part for table in shown_tables(comparison) for part in _markdown_part(table, "##")]
    for model in models_of(comparison):
        parts.append(f"## {_escape(model)}")
        parts += [part for table in tables(of_model(comparison, model)) for part in _markdown_part(table, "###")]
    return "\n\n".join(parts).replace("\n\n- ", "\n- ").replace("**\n- ", "**\n\n- ") + "\n"


def _markdown_part(table: Table, heading: str) -> list[str]:
    note = [_escape(table.note)] if table.note else []
    return [f"{heading} {_escape(table.title)}", markdown_table(table), *note]


def print_comparison(comparison: Json, console: Console) -> None:
    """Verdict, notes and tables on a terminal."""
    from rich.text import Text

    head = [] if models_of(comparison) else [_headline(comparison), ""]
    console.print(_panel(title(comparison), [*head, comparison["verdict"]]))
    for note in notes(comparison):
        console.print(Text(f"· {printable(note)}", style="yellow"))
    for table in shown_tables(comparison):
        print_table(table, console)


def print_run(metrics: Json, console: Console) -> None:
    """The result of one run: its test scores, its epochs and what it cost."""
    title = f"{engine_title(metrics['engine'])} · seed {metrics['seed']} · {metrics['precision']}"
    test = Scores.from_json(metrics["test"])
    column = Column("", (test,), (metrics,))
    lines = [*_result(test), f"before training {percent(metrics['start']['accuracy'])}"]
    if "guard" in metrics:
        lines += metrics["guard"]["summary"]
    elif metrics["collapsed"]:
        lines.append("It collapsed: almost every document got the same label.")
    console.print(_panel(title, lines))
    for table in (epoch_table([column]), label_table(test), cost_table([column])):
        print_table(table, console)


def print_scores(scores: Scores, title: str, console: Console) -> None:
    """The scores of a finished model on some documents."""
    console.print(_panel(title, _result(scores)))
    print_table(label_table(scores), console)
    for table in confusion_tables([Column("", (scores,))]):
        print_table(table, console)


def notes(comparison: Json) -> list[str]:
    """What a reader must not miss: how the runs came about, collapsed ones, engines that a linear model matches."""
    found: list[str] = [str(note) for note in comparison.get("notes", ())]
    for column in columns_of(comparison):
        collapsed = sum(bool(run["collapsed"]) for run in column.runs)
        if collapsed:
            found.append(f"{column.title}: {collapsed} of {len(column.runs)} runs collapsed to one label.")
        again = sum(run["restarts"] > 0 for run in column.runs)
        if again:
            found.append(f"{column.title}: {again} of {len(column.runs)} runs collapsed at first and began again.")
    for baseline in comparison["baselines"]:
        reached = baseline["test"]["accuracy"]
        beaten = [
            column.title
            for column in columns_of(comparison)
            if column.runs and comparison["engines"][column.key]["accuracy_mean"] <= reached
        ]
        if beaten:
            who = " and ".join(beaten) if len(beaten) < 3 else f"{', '.join(beaten[:-1])} and {beaten[-1]}"
            found.append(f"The {baseline['name']} baseline reaches {percent(reached)}; {who} did not exceed it.")
    return found


def title(comparison: Json) -> str:
    """Model, or how many of them, and number of seeds, in one line."""
    seeds = len({run["seed"] for run in comparison["runs"]})
    models = models_of(comparison)
    model = f"{len(models)} models" if models else "/".join(PurePath(comparison["model"]).parts[-2:])
    return f"duygu · {model} · {seeds} seed{'s' * (seeds > 1)}"


def _headline(comparison: Json) -> str:
    columns = columns_of(comparison)
    values = (f"{column.title} {spread([s.accuracy for s in column.test], percent)}" for column in columns)
    return "accuracy   " + "   ".join(values)


def _result(scores: Scores) -> list[str]:
    low, high = (f"{bound * 100:.1f}" for bound in scores.accuracy_interval)
    return [
        f"accuracy {percent(scores.accuracy)} ({low} to {high}) on {scores.documents} documents",
        f"macro-F1 {share(scores.macro_f1)}   MCC {share(scores.mcc)}   loss {share(scores.loss)}",
    ]


def _escape(text: str) -> str:
    """Text for a Markdown line or cell, without links, markup or HTML of its own."""
    return MARKUP.sub(r"\\\1", printable(text)).replace("www.", "www\\.")


def markdown_table(table: Table) -> str:
    """A table in Markdown, without its title and its note."""
    rule = ("---", *("---:" for _ in table.columns[1:]))
    body: Iterator[Row] = (tuple(map(_escape, row)) for row in table.rows if row)
    cells: Iterable[Row] = (tuple(_escape(name.replace("\n", " ")) for name in table.columns), rule, *body)
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _panel(title: str, lines: Sequence[str]) -> RenderableType:
    from rich import box
    from rich.panel import Panel
    from rich.text import Text

    body = Text("\n".join(map(printable, lines)))
    return Panel(body, title=Text(printable(title), style="bold"), title_align="left", box=box.ROUNDED, padding=(0, 2))


def print_table(table: Table, console: Console) -> None:
    """A table on a terminal, after a blank line: title, rows, note."""
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    console.print()
    console.print(Text(printable(table.title), style="bold"))
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    for number, name in enumerate(table.columns):
        grid.add_column(
            Text("\n".join(map(printable, name.split("\n")))), justify="right" if number else "left", overflow="fold"
        )
    for row, after in zip(table.rows, (*table.rows[1:], RULE), strict=True):
        if row:
            grid.add_row(*(Text(printable(cell)) for cell in row), end_section=not after)
    console.print(grid)
    if table.note:
        console.print(Text(table.note, style="dim"))
