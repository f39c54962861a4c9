"""How a page is laid out: sections, tables, and what stands side by side, unfolds or scrolls."""

from __future__ import annotations

from duygu.verdict.page.markup import Element, Node, tag
from duygu.verdict.tables import Row, Table

INDENTED = ("  95 % interval", "  min-max of seeds", "  before training")  # rows that belong to the one above


def section(heading: str, *content: Node | None) -> Element:
    """A part of the page under its heading."""
    return tag("section", tag("h2", heading), *content)


def beside(*content: Node) -> Element:
    """Side by side where there is room."""
    return tag("div", *content, class_="beside")


def grid(table: Table) -> Element:
    """A table of `duygu.verdict.tables` as an element, wide ones within a frame of their own."""
    head = tag("tr", *(tag("th", *_broken(name), scope="col") for name in table.columns))
    bodies: list[list[Element]] = [[]]
    for row in table.rows:
        if row:
            bodies[-1].append(_row(row))
        else:
            bodies.append([])
    parts = [tag("tbody", *rows) for rows in bodies if rows]
    framed = frame(tag("table", tag("thead", head), *parts), table.title)
    note = tag("p", table.note, class_="note") if table.note else None
    return tag("div", tag("h3", table.title), framed, note, class_="table")


def folded(table: Table | None) -> Element | None:
    """A table of many rows, which unfolds."""
    if table is None:
        return None
    return unfolding(f"{table.title}: the numbers of the figures", grid(table))


def unfolding(summary: str, *content: Node | None) -> Element:
    """What is seen once it is asked for; not printed unless it is open."""
    return tag("details", tag("summary", summary), *content, class_="numbers")


def frame(content: Element, name: str) -> Element:
    """Scrolls sideways where the content is wider than the page; the keyboard reaches it."""
    return tag("div", content, class_="wide", tabindex="0", role="region", aria_label=name)


def _row(row: Row) -> Element:
    name, *cells = row
    indent = "sub" if name in INDENTED else None
    return tag("tr", tag("th", name.strip(), scope="row", class_=indent), *(tag("td", cell) for cell in cells))


def _broken(name: str) -> list[Node]:
    """A column's name, with line ends as elements."""
    first, *others = name.split("\n")
    return [first, *(part for other in others for part in (tag("br"), other))]
