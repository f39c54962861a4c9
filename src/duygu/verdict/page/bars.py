"""Two more kinds of figure: bars that compare amounts, and differences with the margin they are held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from duygu.verdict.page.charts import RIGHT, TOP, WIDTH, below, figure, look, mark, svg
from duygu.verdict.page.markup import Element, Node, number, tag
from duygu.verdict.page.scales import Axis, axis

NAMES = 84  # width of the names left of the bars
LONG_NAMES = 224  # and of such as are as long as a figure's may be
VALUES = 116  # and of the values right of the longest
THICK, BETWEEN, HEADING = 20, 6, 30
RANGE = 74  # height of a difference with its dots
NARROW = 52  # and without


@dataclass(frozen=True, slots=True)
class Bar:
    """An amount as it is written and as it is long."""

    name: str
    series: int | None
    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Amounts:
    """Bars of one unit; every such group has a scale of its own."""

    title: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """A difference of two shares: its 95 % interval, perhaps its 90 % one, and perhaps that of every seed."""

    name: str
    value: float
    interval: tuple[float, float]
    inner: tuple[float, float] | None = None
    dots: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class DifferenceChart:
    """Differences in points, against 0 and a margin on either side of it."""

    title: str
    about: str
    x_label: str
    rows: tuple[DifferenceRow, ...]
    margin: float | None


def draw_amounts(title: str, about: str, groups: Sequence[Amounts], names: float = NAMES) -> Element:
    """Groups of bars one beneath the other, each with its value in words; ``names`` is the room on their left."""
    content: list[Node] = []
    top = 4.0
    for group in groups:
        content.append(tag("text", group.title, x=0, y=top + 14, class_="row"))
        most = max(bar.value for bar in group.bars) or 1.0
        for place, bar in enumerate(group.bars):
            content += _bar(bar, bar.value / most, names, top + HEADING - 6 + place * (THICK + BETWEEN))
        top += HEADING + len(group.bars) * (THICK + BETWEEN) + 8
    return figure(title, about, svg(title, about, top, content))


def draw_differences(chart: DifferenceChart) -> Element:
    """Rows on one axis of points; within the shaded margin a difference does not matter."""
    heights = [RANGE if row.dots else NARROW for row in chart.rows]
    floor = TOP + sum(heights)
    x = _points_axis(chart)
    content: list[Node] = []
    if chart.margin is not None:
        left, right = _at(x, -chart.margin), _at(x, chart.margin)
        shape = f"M{number(left)} {TOP - 10}H{number(right)}V{floor}H{number(left)}Z"
        says = f"margin: {chart.margin * 100:.1f} points on either side of 0"
        content.append(tag("path", tag("title", says), d=shape, class_="margin"))
    content += below(x, floor, False, TOP - 10)
    content.append(tag("path", d=f"M{number(_at(x, 0.0))} {TOP - 10}V{floor}", class_="zero"))
    top = float(TOP)
    for row, height in zip(chart.rows, heights, strict=True):
        content += _difference(row, x, top)
        top += height
    content.append(tag("text", chart.x_label, x=WIDTH - RIGHT, y=floor + 42, text_anchor="end", class_="name"))
    return figure(chart.title, chart.about, svg(chart.title, chart.about, floor + 48, content))


def _bar(bar: Bar, part: float, names: float, top: float) -> list[Element]:
    length = part * (WIDTH - names - VALUES)
    shape = f"M{number(names)} {number(top)}h{number(max(length, 1.0))}v{THICK}h{number(-max(length, 1.0))}Z"
    says = f"{bar.name}: {bar.text}"
    return [
        tag("text", bar.name, x=names - 8, y=top + 15, text_anchor="end"),
        tag("path", tag("title", says), d=shape, class_=f"bar {look(bar.series)}"),
        tag("text", bar.text, x=names + length + 8, y=top + 15, class_="value"),
    ]


def _points_axis(chart: DifferenceChart) -> Axis:
    """An axis that holds every number and, so that it can be seen, a little more than the margin."""
    found = [0.0, *(value for row in chart.rows for value in (row.value, *row.interval, *(row.inner or ())))]
    found += [value for row in chart.rows for _, value in row.dots]
    found += [] if chart.margin is None else [-1.15 * chart.margin, 1.15 * chart.margin]
    return axis((value * 100 for value in found), 14, WIDTH - 30)


def _at(x: Axis, difference: float) -> float:
    """Where a difference of shares lies on an axis of points."""
    return x.at(difference * 100)


def _difference(row: DifferenceRow, x: Axis, top: float) -> list[Element]:
    """Name, interval with the narrower one thick on it, the value as a diamond, and beneath it a dot for every seed."""
    middle = top + 30
    low, high = (number(_at(x, bound)) for bound in row.interval)
    y = number(middle)
    ends = f"M{low} {number(middle - 5)}v10M{high} {number(middle - 5)}v10"
    found = [
        tag("text", row.name, x=x.start, y=top + 12, class_="row"),
        tag("path", d=f"M{low} {y}H{high}{ends}", class_="interval s2"),
    ]
    if row.inner is not None:
        inner_low, inner_high = (number(_at(x, bound)) for bound in row.inner)
        found.append(tag("path", d=f"M{inner_low} {y}H{inner_high}", class_="inner s2"))
    says = f"{row.name}: {row.value * 100:+.1f} points"
    found.append(mark(2, _at(x, row.value), middle, says))
    seen: dict[float, int] = {}
    for name, value in row.dots:
        again = seen[value] = seen.get(value, -1) + 1
        found.append(mark(0, _at(x, value), middle + 24 - 4 * again, f"{name}: {value * 100:+.1f} points"))
    return found
