"""The bench as people read it: a table per workload, then the bars, on a terminal of 80 columns or as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from duygu.errors import printable
from duygu.verdict.report import markdown_table, print_table
from duygu.verdict.tables import Table

if TYPE_CHECKING:
    from rich.console import Console

Json = Mapping[str, Any]
Cell = Callable[[Json], str]  # a contender's summary to text


def tables(result: Json) -> list[Table]:
    """Every table, in reading order; none of a part in which nobody took part."""
    measured = (part for part in result["parts"] if part["contenders"])
    return [*map(_part_table, measured), *_bar_tables(result["bars"])]


def markdown(result: Json) -> str:
    """The whole of ``bench.md``."""
    parts = ["# duygu bench", *_heading(result)]
    for table in tables(result):
        parts += [f"## {table.title}", markdown_table(table), table.note]
    parts += [f"- {line}" for line in _missing(result)]
    return "\n\n".join(part for part in parts if part).replace("\n\n- ", "\n- ") + "\n"


def print_result(result: Json, console: Console) -> None:
    """Heading, tables, and what could not be measured."""
    from rich.text import Text

    for line in _heading(result):
        console.print(Text(printable(line), style="dim"))
    for table in tables(result):
        print_table(table, console)
    for line in _missing(result):
        console.print(Text(printable(line)))


def _heading(result: Json) -> list[str]:
    machine = result["machine"]
    memory = "" if machine["memory_bytes"] is None else f", {machine['memory_bytes'] / 2**30:.0f} GiB"
    rounds = f"{result['rounds']} round{'s' * (result['rounds'] > 1)}"
    return [
        f"{machine['processor']}, {result['threads']} of {machine['cores']} cores{memory}; {rounds}; medians",
        f"`{result['command']}`",
    ]


def _missing(result: Json) -> list[str]:
    return [f"not measured: {one['part']}, {one['title']}: {one['why']}" for one in result["not_measured"]]


def _part_table(part: Json) -> Table:
    columns = _COLUMNS[part["task"]]
    rows = [(one["title"], *(cell(one["summary"]) for _, cell in columns)) for one in part["contenders"]]
    heads = ("", *(name for name, _ in columns))
    notes = [f"{part['about']}.", *_notes(part)]
    title = {"train": "training", "score": "scoring", "tokens": "tokenizing"}[part["task"]]
    return Table(f"{part['name'].split()[0]}: {title}", heads, tuple(rows), " ".join(notes))


def _notes(part: Json) -> list[str]:
    leads = "torch and JAX: how many times as fast duygu's engines are."
    if part["task"] == "train":
        return [leads, "Compile: all shapes, cache cold / warm. Real: share of the tokens computed that are real."]
    if part["task"] == "score":
        against = "" if part["reference"] is None else f" from {part['reference']}'s"
        return [leads, f"Raw texts to probabilities; off by: largest difference of a probability{against}."]
    return ["Times: how many times as fast duygu is."]


def _bar_tables(bars: Sequence[Json]) -> list[Table]:
    if not bars:
        return []
    rows = [
        (
            f"{bar['part']} {bar['title']}",
            _bar_value(bar),
            f"{bar['rule']} {bar['limit']:g} {bar['unit']}".strip(),
            {None: "not measured", True: "met", False: "missed"}[bar["met"]],
        )
        for bar in bars
    ]
    note = "Ratios are taken round by round: median (least - most)."
    return [Table("Bars", ("", "measured", "wanted", ""), tuple(rows), note)]


def _bar_value(bar: Json) -> str:
    if bar["value"] is None:
        return ""
    text = f"{bar['value']:.2f} {bar['unit']}".strip()
    values = bar["values"]
    return f"{text} ({min(values):.2f} - {max(values):.2f})" if len(values) > 1 else text


def _rate(summary: Json) -> str:
    value = summary["documents_per_s"]["median"]
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def _lead(ours: str) -> Cell:
    return lambda summary: f"{summary['leads'][ours]['median']:.2f} x" if ours in summary["leads"] else ""


def _compile(summary: Json) -> str:
    if "compile_cold_s" not in summary:
        return ""
    warm = summary["compile_warm_s"]
    return f"{summary['compile_cold_s']:.1f} / {'-' if warm is None else f'{warm:.1f}'}"


def _memory(summary: Json) -> str:
    return "" if summary["peak_bytes"] is None else f"{summary['peak_bytes'] / 2**30:.2f}"


def _real(summary: Json) -> str:
    return f"{summary['real_share'] * 100:.0f} %"


def _single(summary: Json) -> str:
    return f"{summary['p50_s'] * 1000:.0f} / {summary['p99_s'] * 1000:.0f}"


def _difference(summary: Json) -> str:
    if "largest_difference" not in summary:
        return ""
    value = summary["largest_difference"]
    return f"{value:.3f}" if value >= 1e-3 or value == 0 else f"{value:.0e}"


_COLUMNS: dict[str, tuple[tuple[str, Cell], ...]] = {
    "train": (
        ("docs/s", _rate),
        ("torch", _lead("duygu-torch")),
        ("JAX", _lead("duygu-jax")),
        ("compile\ns", _compile),
        ("peak\nGiB", _memory),
        ("real", _real),
    ),
    "score": (
        ("docs/s", _rate),
        ("torch", _lead("duygu-torch")),
        ("JAX", _lead("duygu-jax")),
        ("one text, ms\np50 / p99", _single),
        ("peak\nGiB", _memory),
        ("off by", _difference),
    ),
    "tokens": (("texts/s", _rate), ("times", _lead("duygu")), ("peak\nGiB", _memory)),
}
