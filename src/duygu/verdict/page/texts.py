"""The part of the page that shows documents: what the engines disagree on, and the mistakes they are surest of."""

from __future__ import annotations

import re
from collections.abc import Sequence

from duygu.verdict.page.charts import look
from duygu.verdict.page.evidence import Evidence
from duygu.verdict.page.markup import Element, Node, tag
from duygu.verdict.tables import Column, Json, percent

OPEN = 6  # documents of a list that are seen at once; the others unfold
NO_TEXTS = "The texts were not at hand when this was written; their names are shown."

_turkish = re.compile("[ğĞıİşŞ]")  # which no other language that is likely here has


def documents_section(evidence: Evidence) -> Element | None:
    """Both lists, or nothing where the comparison holds none."""
    found = evidence.comparison.get("documents")
    if not found:
        return None
    lists = [_disagreements(evidence, found)] if evidence.compares and len(evidence.engines) > 1 else []
    lists.append(_mistakes(evidence, found))
    shown = [*found["disagreements"], *found["mistakes"]]
    lost = tag("p", NO_TEXTS, class_="note") if shown and all(one["text"] is None for one in shown) else None
    return tag("section", tag("h2", "The documents themselves"), lost, *lists)


def language(text: str) -> str | None:
    """``tr`` for a text with letters of Turkish alone, so that browsers hyphenate and read it aloud as such."""
    return "tr" if _turkish.search(text) else None


def _disagreements(evidence: Evidence, found: Json) -> Element:
    counts, shown = found["counts"], found["disagreements"]
    head = f"{counts['disagreements']} of {counts['documents']} test documents got different labels from the engines"
    head += " on one seed at least" if evidence.several else ""
    head += f". These are the {len(shown)} on which they part most." if len(shown) < counts["disagreements"] else "."
    if not shown:
        head = f"The engines gave all {counts['documents']} test documents the same labels"
        head += ", on every seed." if evidence.several else "."
    return _list("Where the engines disagree", head, shown, evidence)


def _mistakes(evidence: Evidence, found: Json) -> Element:
    counts, shown = found["counts"], found["mistakes"]
    who = "An engine" if len(evidence.engines) > 1 else "The model"
    head = f"{who} gives {counts['mistakes']} of {counts['documents']} test documents a wrong label."
    head += f" These are the {len(shown)} it is surest of." if len(shown) < counts["mistakes"] else ""
    head += " A mistake can also be one of the label." if shown else ""
    return _list("Wrong and sure of it", head, shown, evidence)


def _list(title: str, about: str, documents: Sequence[Json], evidence: Evidence) -> Element:
    cards = [_card(one, evidence) for one in documents]
    rest = cards[OPEN:]
    more = tag("details", tag("summary", f"{len(rest)} more"), tag("ul", *rest, class_="documents")) if rest else None
    first = tag("ul", *cards[:OPEN], class_="documents") if cards else None
    return tag("div", tag("h3", title), tag("p", about, class_="note"), first, more, class_="table")


def _card(one: Json, evidence: Evidence) -> Element:
    """Truth and answers in a line, the text beneath."""
    answers = [_answer(one, column, evidence.series(column)) for column in evidence.engines]
    text: Node | None = None if one["text"] is None else tag("p", one["text"], lang=language(one["text"]), dir="auto")
    head = tag("div", tag("span", "truly ", tag("b", one["label"])), *answers, class_="answers")
    return tag("li", head, text, tag("p", one["id"], class_="id"))


def _answer(one: Json, column: Column, series: int | None) -> Element | None:
    """An engine's label with its mean probability and, over several runs, how many gave which."""
    answer = one["answers"].get(column.runs[0]["engine"])
    if answer is None:
        return None
    right = "right" if answer["label"] == one["label"] else "wrong"
    runs = sum(answer["votes"].values())
    votes = ", ".join(f"{count} {label}" for label, count in answer["votes"].items())
    said = f" {percent(answer['probability'])}" + (f" ({votes})" if runs > 1 and len(answer["votes"]) > 1 else "")
    return tag("span", f"{column.title}: ", tag("b", answer["label"]), said, class_=f"answer {right} {look(series)}")
