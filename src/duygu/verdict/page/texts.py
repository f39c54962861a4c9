"""The part of the page that shows documents: what engines or models disagree on, and their surest mistakes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from duygu.verdict.page.charts import look
from duygu.verdict.page.evidence import Evidence
from duygu.verdict.page.markup import Element, Node, tag
from duygu.verdict.tables import Json, percent

OPEN = 6  # documents of a list that are seen at once; the others unfold
NO_TEXTS = "The texts were not at hand when this was written; their names are shown."
LEFT_OUT = "The texts are left out of this page; documents are listed by their names."

_turkish = re.compile("[ğĞıİşŞ]")  # which no other language that is likely here has


@dataclass(frozen=True, slots=True)
class Sides:
    """Who answered: title, key in a document's answers and look of each; ``plural`` and ``one`` call them in words."""

    members: tuple[tuple[str, str, int | None], ...]
    plural: str
    one: str
    repeated: str  # where they part somewhere and not everywhere; "" where each answered once
    always: str


def documents_section(evidence: Evidence) -> Element | None:
    """Both lists, or nothing where the comparison holds none."""
    found = evidence.comparison.get("documents")
    if not found:
        return None
    return tag("section", tag("h2", "The documents themselves"), *document_lists(evidence, found))


def document_lists(evidence: Evidence, found: Json) -> list[Node]:
    """Where engines or, of several, models disagree, and what they get wrong."""
    sides = _models(evidence) if evidence.models else _engines(evidence)
    lists = [_disagreements(sides, found)] if evidence.compares and len(sides.members) > 1 else []
    lists.append(_mistakes(sides, found))
    shown = [*found["disagreements"], *found["mistakes"]]
    why = LEFT_OUT if found.get("left_out") else NO_TEXTS
    lost = [tag("p", why, class_="note")] if shown and all(one["text"] is None for one in shown) else []
    return [*lost, *lists]


def language(text: str) -> str | None:
    """``tr`` for a text with letters of Turkish alone, so that browsers hyphenate and read it aloud as such."""
    return "tr" if _turkish.search(text) else None


def _engines(evidence: Evidence) -> Sides:
    members = tuple((one.title, one.runs[0]["engine"], evidence.series(one)) for one in evidence.engines)
    several = (" on one seed at least", ", on every seed") if evidence.several else ("", "")
    return Sides(members, "the engines", "An engine" if len(members) > 1 else "The model", *several)


def _models(evidence: Evidence) -> Sides:
    members = tuple((model, model, None) for model, _ in evidence.models)  # colours are the engines'
    return Sides(members, "the models", "A model", " in one run at least", ", in every run")


def _disagreements(sides: Sides, found: Json) -> Element:
    counts, shown = found["counts"], found["disagreements"]
    head = f"{counts['disagreements']} of {counts['documents']} test documents got different labels from {sides.plural}"
    head += sides.repeated
    head += f". These are the {len(shown)} on which they part most." if len(shown) < counts["disagreements"] else "."
    if not shown:
        head = f"{sides.plural.capitalize()} gave all {counts['documents']} test documents the same labels"
        head += f"{sides.always}."
    return _list(f"Where {sides.plural} disagree", head, shown, sides)


def _mistakes(sides: Sides, found: Json) -> Element:
    counts, shown = found["counts"], found["mistakes"]
    head = f"{sides.one} gives {counts['mistakes']} of {counts['documents']} test documents a wrong label."
    head += f" These are the {len(shown)} it is surest of." if len(shown) < counts["mistakes"] else ""
    head += " A mistake can also be one of the label." if shown else ""
    return _list("Wrong and sure of it", head, shown, sides)


def _list(title: str, about: str, documents: Sequence[Json], sides: Sides) -> Element:
    cards = [_card(one, sides) for one in documents]
    rest = cards[OPEN:]
    more = tag("details", tag("summary", f"{len(rest)} more"), tag("ul", *rest, class_="documents")) if rest else None
    first = tag("ul", *cards[:OPEN], class_="documents") if cards else None
    return tag("div", tag("h3", title), tag("p", about, class_="note"), first, more, class_="table")


def _card(one: Json, sides: Sides) -> Element:
    """Truth and answers in a line, the text beneath."""
    answers = [_answer(one, *side) for side in sides.members]
    text: Node | None = None if one["text"] is None else tag("p", one["text"], lang=language(one["text"]), dir="auto")
    head = tag("div", tag("span", "truly ", tag("b", one["label"])), *answers, class_="answers")
    return tag("li", head, text, tag("p", one["id"], class_="id"))


def _answer(one: Json, title: str, key: str, series: int | None) -> Element | None:
    """A side's label with its mean probability and, over several runs, how many gave which."""
    answer = one["answers"].get(key)
    if answer is None:
        return None
    right = "right" if answer["label"] == one["label"] else "wrong"
    runs = sum(answer["votes"].values())
    votes = ", ".join(f"{count} {label}" for label, count in answer["votes"].items())
    said = f" {percent(answer['probability'])}" + (f" ({votes})" if runs > 1 and len(answer["votes"]) > 1 else "")
    return tag("span", f"{title}: ", tag("b", answer["label"]), said, class_=f"answer {right} {look(series)}")
