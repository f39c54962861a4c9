"""The part of the page on the data: how long the texts are, and what an audit found."""

from __future__ import annotations

from duygu.verdict.page.charts import BarChart
from duygu.verdict.page.evidence import Evidence
from duygu.verdict.tables import Json, Table, percent


def length_chart(evidence: Evidence) -> BarChart | None:
    """Documents by their number of tokens, with the limit as a line; nothing for runs that did not record it."""
    found = _lengths(evidence)
    if found is None:
        return None
    counts, width = found["counts"], found["width"]
    edges = tuple(float(width * place) for place in range(len(counts) + 1))
    about = f"All documents by their tokens; {_cut(evidence)} are longer than the limit and were cut to head and tail."
    if found["longest"] >= edges[-1]:
        about += " The last bar holds all that are longer still."
    limits = ((f"limit {found['limit']}", float(found["limit"])),)
    return BarChart("Length in tokens", about, "tokens", "documents", edges, tuple(counts), limits)


def length_table(evidence: Evidence) -> Table | None:
    """Quantiles of the lengths, and how many documents the limit cut."""
    found = _lengths(evidence)
    if found is None:
        return None
    names = {"p25": "a quarter has at most", "p50": "half", "p75": "three quarters", "p95": "95 of 100"}
    rows = [(name, str(found[key])) for key, name in names.items()]
    rows += [("the longest", str(found["longest"])), ("limit", str(found["limit"])), ("cut", _cut(evidence))]
    return Table("Tokens per document", ("", "tokens"), tuple(rows))


def _lengths(evidence: Evidence) -> Json | None:
    return evidence.comparison.get("data", {}).get("lengths")


def _cut(evidence: Evidence) -> str:
    data = evidence.comparison["data"]
    return f"{data['truncated']} of {data['documents']} ({percent(data['truncated'] / data['documents'])})"
