"""Three kinds of figure as inline SVG: lines over a course, dots with intervals in rows, and bars of a distribution.

Colours come from the page's style, by class, so that they follow light and dark; series also differ in dash and mark,
so that they can be told apart without colour. Every mark has a title with its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from duygu.verdict.page.markup import Element, Node, number, tag
from duygu.verdict.page.scales import Axis, axis, within

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 30, 48
ROW = 46  # height of a row of dots
SERIES = 4  # looks that the style knows; more series begin again

LEAST = 1e-8  # what a figure of powers of ten shows of 0

MARKED = ("main", "marks")  # kinds of lines that have a mark at every point

Kind = Literal["main", "bare", "marks", "single", "faint"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its points (x, y), perhaps a band (x, low, high) around it, and how it is drawn."""

    name: str
    series: int | None  # look of its engine; a line that is nobody's has none
    points: tuple[tuple[float, float], ...]
    band: tuple[tuple[float, float, float], ...] = ()
    kind: Kind = "main"  # with marks; "bare" without; "marks" alone; "single", one of several; "faint", beside others
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class LineChart:
    """Lines over epochs or steps; ``about`` says in a sentence or two what is to be seen."""

    title: str
    about: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    percent: bool = False  # shares, shown in percent
    x_percent: bool = False
    powers: bool = False  # y in powers of ten
    reach: tuple[float, ...] = ()  # what the y axis holds besides, so that figures of several models share it


@dataclass(frozen=True, slots=True)
class DotRow:
    """One row of dots: values with names, an interval or none, their mean or none. A baseline has no series."""

    name: str
    series: int | None
    dots: tuple[tuple[str, float], ...]
    interval: tuple[float, float] | None = None
    mean: float | None = None


@dataclass(frozen=True, slots=True)
class DotChart:
    """Shares in rows, in percent."""

    title: str
    about: str
    x_label: str
    rows: tuple[DotRow, ...]
    reach: tuple[float, ...] = ()  # what the axis holds besides


@dataclass(frozen=True, slots=True)
class BarChart:
    """Counts of what lies between ``edges``, which are one more; upright lines at the ``limits`` (name, place)."""

    title: str
    about: str
    x_label: str
    y_label: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    limits: tuple[tuple[str, float], ...] = ()


Chart = LineChart | DotChart | BarChart


def draw(chart: Chart) -> Element:
    """The figure with its heading, its legend and what it is about."""
    legend = _legend(chart) if isinstance(chart, LineChart) else None
    return figure(chart.title, chart.about, _drawing(chart), legend)


def figure(title: str, about: str, drawing: Element, legend: Element | None = None) -> Element:
    """A drawing with its heading, its legend and what it is about."""
    return tag("figure", tag("h3", title), legend, drawing, tag("figcaption", about), class_="chart")


def _drawing(chart: Chart) -> Element:
    if isinstance(chart, LineChart):
        return _lines(chart)
    return _dots(chart) if isinstance(chart, DotChart) else _bars(chart)


def _lines(chart: LineChart) -> Element:
    x, y = _axes(chart)
    content: list[Node] = [*_grid(y, chart.percent, chart.powers), *below(x, HEIGHT - BOTTOM, chart.x_percent)]
    content += [
        tag("text", chart.y_label, x=LEFT - 50, y=14, class_="name"),
        tag("text", chart.x_label, x=WIDTH - RIGHT, y=HEIGHT - 6, text_anchor="end", class_="name"),
    ]
    content += [_band(line, x, y) for line in chart.lines if line.band]
    for line in sorted(chart.lines, key=lambda line: line.kind == "main"):
        content += _line(line, chart, x, y)
    return svg(chart.title, chart.about, HEIGHT, content)


def _axes(chart: LineChart) -> tuple[Axis, Axis]:
    """The axes that hold every point and band."""
    numbers = [y for line in chart.lines for _, y in line.points]
    numbers += [bound for line in chart.lines for _, *bounds in line.band for bound in bounds]
    numbers += chart.reach
    courses = [x for line in chart.lines for x, _ in line.points]
    x = axis(courses, LEFT, WIDTH - RIGHT, whole=not chart.x_percent)
    y = axis((_height(chart, value) for value in numbers), HEIGHT - BOTTOM, TOP, whole=chart.powers)
    return within(x, min(courses), max(courses)), y


def _height(chart: LineChart, value: float) -> float:
    return math.log10(max(value, LEAST)) if chart.powers else value


def _dots(chart: DotChart) -> Element:
    height = TOP + ROW * len(chart.rows) + BOTTOM
    found = [value for row in chart.rows for _, value in row.dots]
    found += [bound for row in chart.rows for bound in row.interval or ()]
    found += chart.reach
    x = axis(found, 14, WIDTH - 30)
    content: list[Node] = [*below(x, height - BOTTOM, True, TOP - 20)]
    for index, row in enumerate(chart.rows):
        content += _dot_row(row, x, TOP + ROW * index)
    content.append(tag("text", chart.x_label, x=WIDTH - RIGHT, y=height - 6, text_anchor="end", class_="name"))
    return svg(chart.title, chart.about, height, content)


def _bars(chart: BarChart) -> Element:
    x = within(axis(chart.edges, LEFT, WIDTH - RIGHT, whole=True), chart.edges[0], chart.edges[-1])
    y = axis([0, max(chart.counts)], HEIGHT - BOTTOM, TOP, whole=True)
    content: list[Node] = [*_grid(y, False), *below(x, HEIGHT - BOTTOM, False)]
    for count, low, high in zip(chart.counts, chart.edges, chart.edges[1:], strict=False):
        says = f"{number(low)} to {number(high)} {chart.x_label}: {count} {chart.y_label}"
        left, right, top = (number(place) for place in (x.at(low), x.at(high), y.at(count)))
        shape = f"M{left} {HEIGHT - BOTTOM}V{top}H{right}V{HEIGHT - BOTTOM}Z"
        content.append(tag("path", tag("title", says), d=shape, class_="bar s0"))
    for name, place in chart.limits:
        if chart.edges[0] <= place <= chart.edges[-1]:
            content.append(tag("path", d=f"M{number(x.at(place))} {TOP - 10}V{HEIGHT - BOTTOM}", class_="mean s1"))
            left = x.at(place) > WIDTH / 2  # where a name has room
            beside, end = (x.at(place) - 5, "end") if left else (x.at(place) + 5, None)
            content.append(tag("text", name, x=beside, y=TOP, text_anchor=end))
    content += [
        tag("text", chart.y_label, x=LEFT - 50, y=14, class_="name"),
        tag("text", chart.x_label, x=WIDTH - RIGHT, y=HEIGHT - 6, text_anchor="end", class_="name"),
    ]
    return svg(chart.title, chart.about, HEIGHT, content)


def svg(title: str, about: str, height: float, content: Sequence[Node]) -> Element:
    """A drawing of the figures' width; ``about`` is for those who cannot see it."""
    head = (tag("title", title), tag("desc", about))
    return tag("svg", *head, *content, viewBox=f"0 0 {WIDTH} {number(height)}", role="img", aria_label=title)


def _grid(y: Axis, percent: bool, powers: bool = False) -> list[Element]:
    """Horizontal lines with their numbers."""
    lines: list[Element] = []
    for tick in y.ticks:
        at = y.at(tick)
        lines.append(tag("path", d=f"M{LEFT} {number(at)}H{WIDTH - RIGHT}", class_="grid"))
        name = f"1e{tick:.0f}" if powers else named(tick, y, percent)
        lines.append(tag("text", name, x=LEFT - 8, y=at + 5, text_anchor="end"))
    return lines


def below(x: Axis, floor: float, percent: bool, top: float | None = None) -> list[Element]:
    """Numbers under the figure, each under a short line or, from ``top``, a long one."""
    marks: list[Element] = []
    for tick in x.ticks:
        at = x.at(tick)
        line = f"M{number(at)} {number(floor)}v5" if top is None else f"M{number(at)} {number(top)}V{number(floor)}"
        marks.append(tag("path", d=line, class_="grid"))
        marks.append(tag("text", named(tick, x, percent), x=at, y=floor + 21, text_anchor="middle"))
    return marks


def _line(line: Line, chart: LineChart, x: Axis, y: Axis) -> list[Element]:
    path = "M" + "L".join(f"{number(x.at(a))} {number(y.at(_height(chart, b)))}" for a, b in line.points)
    dashed = " dashed" if line.dashed else ""
    drawn = (
        [tag("path", d=path, class_=f"line {line.kind} {look(line.series)}{dashed}")] if line.kind != "marks" else []
    )
    if line.kind in MARKED:
        for a, b in line.points:
            value = f"{b * 100:.1f} %" if chart.percent else f"{b:.4f}"
            place = f"{a * 100:.1f} %" if chart.x_percent else number(a)
            says = f"{line.name}, {chart.x_label} {place}: {value}"
            drawn.append(mark(line.series, x.at(a), y.at(b), says, hollow=line.dashed))
    return drawn


def _band(line: Line, x: Axis, y: Axis) -> Element:
    above = [f"{number(x.at(a))} {number(y.at(high))}" for a, _, high in line.band]
    below = [f"{number(x.at(a))} {number(y.at(low))}" for a, low, _ in reversed(line.band)]
    return tag("path", d="M" + "L".join(above + below) + "Z", class_=f"band {look(line.series)}")


def _dot_row(row: DotRow, x: Axis, top: float) -> list[Element]:
    """The row's name, and beneath it the interval, the mean and every value; equal ones stand on one another."""
    middle = top + ROW * 0.66
    found = [tag("text", row.name, x=x.start, y=top + 11, class_="row")]
    if row.interval is not None:
        low, high = (number(x.at(bound)) for bound in row.interval)
        ends = f"M{low} {number(middle - 5)}v10M{high} {number(middle - 5)}v10"
        found.append(tag("path", d=f"M{low} {number(middle)}H{high}{ends}", class_=f"interval {look(row.series)}"))
    if row.mean is not None:
        line = f"M{number(x.at(row.mean))} {number(middle - 11)}v22"
        says = f"{row.name}: mean {row.mean * 100:.1f} %"
        found.append(tag("path", tag("title", says), d=line, class_=f"mean {look(row.series)}"))
    seen: dict[float, int] = {}
    for name, value in row.dots:
        again = seen[value] = seen.get(value, -1) + 1
        found.append(mark(row.series, x.at(value), middle - 4 * again, f"{name}: {value * 100:.1f} %"))
    return found


def _legend(chart: LineChart) -> Element:
    """Which look is whose, each name once."""
    items: list[Node] = []
    for line in {line.name: line for line in chart.lines if line.kind != "single"}.values():
        dashed = " dashed" if line.dashed else ""
        stroke = tag("path", d="M1 8H33", class_=f"line {line.kind} {look(line.series)}{dashed}")
        sample: list[Node] = [] if line.kind == "marks" else [stroke]
        if line.kind in MARKED:
            sample.append(mark(line.series, 17, 8, None, hollow=line.dashed))
        items.append(
            tag("li", tag("svg", *sample, viewBox="0 0 34 16", class_="sample", aria_hidden="true"), line.name)
        )
    return tag("ul", *items, class_="legend")


def mark(series: int | None, x: float, y: float, says: str | None, hollow: bool = False) -> Element:
    """The mark of a series: circle, square, diamond or triangle; a baseline's is a small cross."""
    shapes = (
        f"M{number(x - 5.5)} {number(y)}a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0 -11 0Z",
        f"M{number(x - 3.7)} {number(y - 3.7)}h7.4v7.4h-7.4Z",
        f"M{number(x)} {number(y - 5.4)}l5.4 5.4l-5.4 5.4l-5.4 -5.4Z",
        f"M{number(x)} {number(y - 5.2)}l5 9h-10Z",
    )
    cross = f"M{number(x - 4)} {number(y - 4)}l8 8m0 -8l-8 8"
    shape = cross if series is None else shapes[series % SERIES]
    title = None if says is None else tag("title", says)
    return tag("path", title, d=shape, class_=f"mark {look(series)}{' hollow' if hollow else ''}")


def look(series: int | None) -> str:
    """The class that gives a series its colour."""
    return "s-none" if series is None else f"s{series % SERIES}"


def named(value: float, shown: Axis, percent: bool) -> str:
    """A tick's number, with as many decimals as the ticks need."""
    if percent:
        return f"{value * 100:.{max(0, shown.decimals - 2)}f} %"
    return f"{value:.{shown.decimals}f}"
