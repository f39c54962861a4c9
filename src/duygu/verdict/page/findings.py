"""An audit as a part of a page, and as a page of its own; everything is taken from ``audit.json``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from duygu.errors import printable
from duygu.verdict.page.charts import BarChart, draw
from duygu.verdict.page.layout import grid
from duygu.verdict.page.markup import Element, document, tag
from duygu.verdict.tables import Json, Row, Table, percent, share

SHOWN = 20  # rows of a table; audit.json has more
WORDS, FEW = 15, 6  # of each label, in a column or a row
COLUMNS = 6


def audit_section(audit: Json) -> Element:
    """Every finding, then the figures and tables that they rest on, from the content of ``audit.json``."""
    charts = [draw(chart) for chart in audit_charts(audit)]
    tables = [grid(table) for table in audit_tables(audit)]
    return tag(
        "section",
        tag("h2", "What the data is like"),
        tag("p", f"{audit['documents']:,} documents; findings: {audit['verdict']}.", class_="note"),
        tag("ul", *(_item(finding) for finding in audit["findings"]), class_="findings"),
        tag("div", *charts, class_="beside") if charts else None,
        tag("div", *tables, class_="beside") if tables else None,
        _excerpts(audit),
    )


def audit_page(audit: Json) -> str:
    """The whole of ``audit.html``."""
    notes = [tag("li", warning) for warning in audit["warnings"]]
    head = tag(
        "header",
        tag("p", "duygu · audit", class_="kicker"),
        tag("h1", f"{audit['data']}: {audit['verdict']}"),
        tag("ul", *notes, class_="notes") if notes else None,
    )
    style = files("duygu.verdict.page").joinpath("style.css").read_text(encoding="utf-8")
    body = tag("body", tag("main", head, audit_section(audit)))
    return document(f"duygu · audit of {audit['data']}", style, body)


def audit_charts(audit: Json) -> list[BarChart]:
    """How long the texts are, in words and, where a tokenizer counted, in tokens with the limits."""
    found = _numbers(audit)
    charts: list[BarChart] = []
    for unit in ("words", "tokens"):
        numbers = found.get(f"length in {unit}")
        if numbers:
            limits = tuple((limit, float(limit)) for limit in numbers.get("limits", ()))
            charts.append(_lengths(unit, numbers["histogram"], limits))
    return charts


def audit_tables(audit: Json) -> list[Table]:
    """Every table that the findings rest on."""
    found = _numbers(audit)
    makers = {
        "balance": _labels, "length in tokens": _limits, "conflicting labels": _conflicts, "baselines": _baselines,
        "source and length": _sources, "sources left out": _left_out, "word list": _words, "doubtful labels": _doubtful,
    }  # fmt: skip
    tables = [make(found[name]) for name, make in makers.items() if name in found]
    return [table for table in tables if table.rows]


def _numbers(audit: Json) -> dict[str, Json]:
    return {finding["name"]: finding["numbers"] for finding in audit["findings"]}


def _item(finding: Json) -> Element:
    level = finding["level"] if finding["level"] in ("stop", "look", "fine") else "look"
    return tag(
        "li",
        tag("span", finding["level"], class_=f"level {level}"),
        tag("b", finding["name"]),
        tag("span", finding["sentence"]),
    )


def _lengths(unit: str, histogram: Json, limits: tuple[tuple[str, float], ...]) -> BarChart:
    about = (
        f"Documents by their length in {unit}; the longest has {histogram['longest']:,}. The last bar holds all above."
    )
    about += " The lines are limits: what lies to the right of one is cut." if limits else ""
    edges, counts = tuple(histogram["edges"]), tuple(histogram["counts"])
    return BarChart(f"Length in {unit}", about, unit, "documents", edges, counts, limits)


def _labels(numbers: Json) -> Table:
    total = sum(numbers["labels"].values())
    rows = [
        (name, f"{count:,}", percent(count / total), f"{numbers['distinct'][name]:,}")
        for name, count in sorted(numbers["labels"].items(), key=lambda item: -item[1])
    ]
    return Table("Labels", ("", "documents", "share", "without copies"), tuple(rows))


def _limits(numbers: Json) -> Table:
    rows = [
        (f"{limit} tokens", f"{one['documents']:,}", percent(one["share"]), percent(one["tokens"]))
        for limit, one in numbers["limits"].items()
    ]
    return Table("What a limit cuts", ("", "documents", "of all", "tokens lost"), tuple(rows))


def _conflicts(numbers: Json) -> Table:
    rows: list[Row] = []
    for name, groups in (("equal", numbers["groups"]), ("near", numbers["near_groups"])):
        for group in groups:
            rows += [(one["id"], one["label"], name) for one in group]
    shown = f"{SHOWN} of {len(rows)} are shown; audit.json has more." if len(rows) > SHOWN else ""
    return Table("Copies under two labels", ("document", "label", "copies are"), tuple(rows[:SHOWN]), shown)


def _baselines(numbers: Json) -> Table:
    columns = [("cross-validated", numbers["cross_validated"]), ("given test part", numbers["test"])]
    rows = [
        (f"{name}, {where}", percent(one["accuracy"]), _interval(one), share(one["macro_f1"]), share(one["mcc"]))
        for where, found in columns
        for name, one in found.items()
    ]
    return Table("Baselines", ("", "accuracy", "95 % interval", "macro-F1", "MCC"), tuple(rows))


def _interval(scores: Json) -> str:
    low, high = scores["accuracy_interval"]
    return f"{low * 100:.1f} to {high * 100:.1f}"


def _sources(numbers: Json) -> Table:
    rows: list[Row] = []
    for name, counts in list(numbers["sources"].items())[:SHOWN]:
        total = sum(counts.values())
        largest = max(counts, key=lambda label: counts[label])
        rows.append((name or "unknown", f"{total:,}", largest, percent(counts[largest] / total)))
    return Table("Sources", ("", "documents", "commonest label", "share"), tuple(rows))


def _left_out(numbers: Json) -> Table:
    rows = [
        (row["source"], f"{row['documents']:,}", percent(row["seen"]), percent(row["unseen"]))
        for row in numbers["sources"]
    ]
    note = "A linear model on the texts of each source: having learnt from all sources, and from the others only."
    return Table("Sources left out", ("", "documents", "all learnt", "others learnt"), tuple(rows), note)


def _words(numbers: Json) -> Table:
    """A column for each label, or a row where there are many."""
    lists: dict[str, Sequence[str]] = numbers["words"]
    note = f"The weightiest of {numbers['size']} words; each has one vote, for its label."
    if len(lists) > COLUMNS:
        rows = [(label, ", ".join(words[:FEW])) for label, words in lists.items()]
        return Table("The word list", ("votes for", "words"), tuple(rows), note)
    length = min(WORDS, max(map(len, lists.values()), default=0))
    ranks = [(str(n + 1), *(words[n] if n < len(words) else "" for words in lists.values())) for n in range(length)]
    heads = map(printable, lists)  # a table breaks its heads at line ends
    return Table("The word list", ("", *heads), tuple(ranks), note)


def _doubtful(numbers: Json) -> Table:
    rows = [
        (row["id"], row["label"], row["likelier"], percent(row["probability"])) for row in numbers["ranked"][:SHOWN]
    ]
    more = f" {SHOWN} of {numbers['flagged']} are shown; audit.json has more." if numbers["flagged"] > SHOWN else ""
    note = f"Probability of the given label by a linear model that has not seen the document.{more}"
    return Table("Doubtful labels", ("document", "label", "likelier", "probability"), tuple(rows), note)


def _excerpts(audit: Json) -> Element | None:
    """The beginnings of the texts with the most doubtful labels."""
    ranked = _numbers(audit).get("doubtful labels", {}).get("ranked", ())[:SHOWN]
    items = [tag("li", tag("b", f"{row['id']} ({row['label']}) "), row["begins"]) for row in ranked]
    return tag("div", tag("h3", "How they begin"), tag("ul", *items), class_="table") if items else None
