"""The parts of a page in reading order; each is a function of the evidence that may have nothing to show.

A new part is a function here and its name in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from duygu.verdict.page.against import cost_amounts, difference_charts, steps_table
from duygu.verdict.page.bars import draw_amounts, draw_differences
from duygu.verdict.page.charts import draw, look
from duygu.verdict.page.data import length_chart, length_table
from duygu.verdict.page.evidence import Evidence
from duygu.verdict.page.figures import (
    accuracy_course,
    accuracy_dots,
    label_dots,
    loss_apart,
    loss_course,
    loss_steps,
)
from duygu.verdict.page.findings import audit_section
from duygu.verdict.page.layout import beside, folded, frame, grid, section
from duygu.verdict.page.markup import Element, tag
from duygu.verdict.page.texts import documents_section
from duygu.verdict.page.trust import bin_table, trust_charts, trust_table
from duygu.verdict.report import notes, title
from duygu.verdict.tables import (
    Column,
    Table,
    confusion_tables,
    cost_table,
    epoch_table,
    percent,
    run_table,
    share,
    spread,
    tables,
    test_table,
)

HEATS = 10  # shades of a confusion matrix
OTHERS = (("macro_f1", "macro-F1"), ("mcc", "MCC"))  # scores of a tile besides accuracy
DIGEST = 12  # characters of a SHA-256 that are shown


def verdict(evidence: Evidence) -> Element:
    """The finding first, what must not be missed, then each accuracy in large."""
    headline, _, rest = evidence.comparison["verdict"].partition(". ")
    warnings = [tag("li", note) for note in notes(evidence.comparison)]
    return tag(
        "header",
        tag("p", title(evidence.comparison), class_="kicker"),
        tag("h1", f"{headline}." if rest else headline),
        tag("p", rest, class_="rest"),
        tag("ul", *warnings, class_="notes") if warnings else None,
        tag("ul", *(_tile(evidence, column) for column in evidence.columns), class_="tiles"),
    )


def test_part(evidence: Evidence) -> Element:
    """Every score of the test part, over all and label by label."""
    runs = grid(run_table(evidence.comparison["runs"])) if evidence.several else None
    figures = tag("div", draw(accuracy_dots(evidence)), draw(label_dots(evidence)))
    return section("On the test part", beside(figures, tag("div", grid(test_table(evidence.columns)), runs)))


def engines(evidence: Evidence) -> Element | None:
    """The engines against each other, and every table of the comparison that no other part shows."""
    comparison = evidence.comparison
    placed = {table.title for table in _placed(evidence)}
    others = [grid(table) for table in tables(comparison) if table.title not in placed]
    figures = [draw_differences(chart) for chart in difference_charts(evidence)]
    if not (figures or others):
        return None
    top = beside(*figures, *others[:1]) if figures else tag("div", *others[:1])
    return section("The engines against each other", top, *others[1:])


def courses(evidence: Evidence) -> Element:
    """How the runs went, as figures and as a table."""
    charts = [accuracy_course(evidence), loss_course(evidence), loss_steps(evidence), loss_apart(evidence)]
    drawn = [draw(chart) for chart in charts if chart is not None]
    heading = "How they learned" if evidence.compares else "How it learned"
    steps = folded(steps_table(evidence))
    return section(heading, beside(*drawn), lost_histories(evidence), grid(epoch_table(evidence.engines)), steps)


def lost_histories(evidence: Evidence) -> Element | None:
    """Which runs' steps cannot be shown."""
    missing = [run["name"] for run in evidence.comparison["runs"] if run["name"] not in evidence.steps]
    if not missing:
        return None
    lost = f"No history.jsonl was found for {', '.join(missing)}, so their steps are not shown."
    return tag("p", lost, class_="note")


def confusions(evidence: Evidence) -> Element:
    """Confusion matrices side by side, shaded by their share of the true label."""
    seeds = len(evidence.engines[0].test)
    summed = f" Summed over {seeds} seeds." if seeds > 1 else ""
    about = f"Rows are the true labels, columns the predicted ones; a share is of its row.{summed}"
    matrices = [confusion(column) for column in evidence.engines]
    return section("What is taken for what", tag("p", about, class_="note"), tag("div", *matrices, class_="matrices"))


def trust(evidence: Evidence) -> Element | None:
    """Whether the probabilities can be believed."""
    table = trust_table(evidence)
    if table is None:
        return None
    drawn = [draw(chart) for chart in trust_charts(evidence)]
    return section("How sure it is", beside(*drawn), grid(table), folded(bin_table(evidence)))


def cost(evidence: Evidence) -> Element:
    """Time, rate and memory."""
    amounts = cost_amounts(evidence)
    about = "Each group has a scale of its own."
    drawing = draw_amounts("Rate, time and memory", about, amounts) if amounts else None
    table = grid(cost_table(evidence.engines))
    return section("What it cost", table if drawing is None else beside(drawing, table))


def lengths(evidence: Evidence) -> Element | None:
    """How long the texts are and what of them the model saw."""
    chart, table = length_chart(evidence), length_table(evidence)
    if chart is None or table is None:
        return None
    return section("What was cut", beside(draw(chart), grid(table)))


def audit(evidence: Evidence) -> Element | None:
    """What an audit found, where one was made."""
    found = evidence.comparison.get("audit")
    return audit_section(found) if found else None


def origin(evidence: Evidence) -> Element:
    """What the numbers rest on, so that they can be found again."""
    return section("What this rests on", tag("dl", *(tag("div", *pair) for pair in _facts(evidence)), class_="facts"))


SECTIONS: Sequence[Callable[[Evidence], Element | None]] = (
    verdict,
    test_part,
    engines,
    confusions,
    documents_section,
    trust,
    courses,
    cost,
    lengths,
    audit,
    origin,
)


def confusion(column: Column) -> Element:
    """One engine's confusion matrix over all its runs: counts with their share of the row."""
    labels = column.test[0].labels
    places = range(len(labels))
    counts = [[sum(scores.confusion[i][j] for scores in column.test) for j in places] for i in places]
    rows = [
        tag(
            "tr",
            tag("th", labels[i], scope="row"),
            *(_count(counts[i][j], sum(counts[i]), i == j) for j in places),
        )
        for i in places
    ]
    head = tag("tr", tag("th", scope="col"), *(tag("th", label, scope="col") for label in labels))
    whole = tag("table", tag("caption", column.title), tag("thead", head), tag("tbody", *rows), class_="matrix")
    return frame(whole, f"confusion matrix of {column.title}")


def _placed(evidence: Evidence) -> Iterator[Table]:
    """Tables of a comparison that have a part of the page to themselves, or a better form there."""
    columns = evidence.engines
    yield from (test_table(evidence.columns), run_table(evidence.comparison["runs"]), epoch_table(columns))
    yield from (*confusion_tables(columns), cost_table(columns))


def _count(count: int, total: int, right: bool) -> Element:
    part = count / total if total else 0.0
    heat = f"{'right' if right else 'wrong'} h{round(part * HEATS)}"
    return tag("td", tag("b", str(count)), tag("span", f" {part * 100:.0f} %"), class_=heat)


def _tile(evidence: Evidence, column: Column) -> Element:
    """One engine's or baseline's accuracy, with what is known of its uncertainty."""
    values = [scores.accuracy for scores in column.test]
    name = column.title if column.runs else f"{column.title} baseline"
    others = (f"{title} {spread([getattr(scores, key) for scores in column.test], share)}" for key, title in OTHERS)
    return tag(
        "li",
        tag("span", name, class_="who"),
        tag("b", spread(values, percent)),
        *(tag("span", line) for line in _known(evidence, column)),
        *(tag("span", other, class_="others") for other in others),
        class_=look(evidence.series(column)),
    )


def _known(evidence: Evidence, column: Column) -> Iterator[str]:
    """The interval over documents and seeds where there is one, and what the seeds spanned."""
    values = [scores.accuracy for scores in column.test]
    interval = evidence.interval(column)
    if interval is not None:
        yield f"95 % interval {interval[0] * 100:.1f} to {interval[1] * 100:.1f}"
    if len(values) > 1:
        yield f"{len(values)} seeds, {min(values) * 100:.1f} to {max(values) * 100:.1f}"


def _facts(evidence: Evidence) -> list[tuple[Element, Element]]:
    comparison = evidence.comparison
    data = comparison.get("data", {})
    test = evidence.columns[0].test[0]
    runs = comparison["runs"]
    facts: list[tuple[str, str]] = [
        ("runs", ", ".join(run["name"] for run in runs)),
        ("arithmetic", ", ".join(dict.fromkeys(str(run["precision"]) for run in runs))),
        ("labels", ", ".join(test.labels)),
        ("test documents", str(test.documents)),
    ]
    if "documents" in data:
        counts = ", ".join(f"{label} {count}" for label, count in data.get("labels", {}).items())
        cut = "" if evidence.models else f"; {data.get('truncated', 0)} cut to the limit"
        facts.append(("documents", f"{data['documents']} ({counts}){cut}"))
    facts += [("note on the data", str(warning)) for warning in data.get("warnings", ())]
    for name, key in (("texts", "corpus"), ("token ids", "tokens"), ("split", "split")):
        if key in data:
            facts.append((f"SHA-256 of the {name}", str(data[key])[:DIGEST]))
    return [(tag("dt", name), tag("dd", value)) for name, value in facts]
