"""The page of several models: the same parts as of one, with the models side by side in each.

In figures an engine keeps its colour and every model has a figure of its own, all on one scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from duygu.verdict.crossed import cross_table, engine_tables, model_tables, setup_table
from duygu.verdict.page.against import accuracy_chart, cost_amounts, steps_table
from duygu.verdict.page.bars import LONG_NAMES, DifferenceChart, draw_amounts, draw_differences
from duygu.verdict.page.charts import LineChart, draw
from duygu.verdict.page.data import length_chart, length_table
from duygu.verdict.page.evidence import Evidence
from duygu.verdict.page.figures import accuracy_course, accuracy_dots, label_dots, loss_apart, loss_course, loss_steps
from duygu.verdict.page.layout import beside, folded, grid, section, unfolding
from duygu.verdict.page.markup import Element, Node, tag
from duygu.verdict.page.sections import audit, confusion, lost_histories, origin
from duygu.verdict.page.texts import document_lists
from duygu.verdict.page.trust import bin_table, trust_charts, trust_table
from duygu.verdict.report import notes, title
from duygu.verdict.runs import engine_title
from duygu.verdict.tables import Table, confusion_tables, cost_table, epoch_table, run_table, tables, turned


def verdict(evidence: Evidence) -> Element:
    """The engines' finding first, then the models', then what must not be missed."""
    comparison = evidence.comparison
    headline, _, rest = comparison["verdict"].partition(". ")
    warnings = [tag("li", note) for note in notes(comparison)]
    return tag(
        "header",
        tag("p", title(comparison), class_="kicker"),
        tag("h1", f"{headline}."),
        tag("p", rest, class_="second"),
        tag("ul", *warnings, class_="notes") if warnings else None,
    )


def overview(evidence: Evidence) -> Element:
    """Every model in every engine, as a figure and as the one table."""
    table = cross_table(evidence.comparison, evidence.columns)
    runs = folded(run_table(evidence.comparison["runs"])) if evidence.several else None
    return section("On the test part", _named(table), draw(accuracy_dots(evidence)), runs)


def engines(evidence: Evidence) -> Element | None:
    """The engines against each other on every model."""
    pairs = evidence.comparison["engine_pairs"]
    charts: list[DifferenceChart] = []
    for a, b in dict.fromkeys((pair["a"], pair["b"]) for pair in pairs):
        own = [pair for pair in pairs if (pair["a"], pair["b"]) == (a, b)]
        title = f"{engine_title(a)} minus {engine_title(b)}: accuracy"
        charts.append(accuracy_chart(title, [pair["model"] for pair in own], own))
    said = [f"{pair['model']}: {pair['sentence']}" for pair in pairs]
    return _against("The engines against each other", charts, said, engine_tables(evidence.comparison))


def models(evidence: Evidence) -> Element | None:
    """The models against each other, in the mean of their engines."""
    pairs = evidence.comparison["model_pairs"]
    names = [f"{pair['a']} minus {pair['b']}" for pair in pairs]
    charts = [accuracy_chart("Model minus model: accuracy", names, pairs)] if pairs else []
    said = [pair["sentence"] for pair in pairs]
    return _against("The models against each other", charts, said, model_tables(evidence.comparison))


def confusions(evidence: Evidence) -> Element:
    """Confusion matrices, those of a model side by side."""
    seeds = max(len(column.test) for column in evidence.engines)
    summed = f" Summed over {seeds} seeds." if seeds > 1 else ""
    about = f"Rows are the true labels, columns the predicted ones; a share is of its row.{summed}"
    groups = [
        tag("div", tag("h3", name), tag("div", *map(confusion, own.engines), class_="matrices"))
        for name, own in evidence.models
    ]
    dots = [(name, label_dots(own)) for name, own in evidence.models]
    reach = tuple(value for _, chart in dots for row in chart.rows for _, value in row.dots)
    labels = [draw(replace(chart, title=_titled(name, chart.title), reach=reach)) for name, chart in dots]
    return section("What is taken for what", tag("p", about, class_="note"), beside(*groups), beside(*labels))


def texts(evidence: Evidence) -> Element | None:
    """Where models disagree and what they get wrong; of each model by itself where it unfolds."""
    found = evidence.comparison.get("documents")
    if not found:
        return None
    own = [
        unfolding(f"{name}: where its engines disagree, and its own mistakes", *document_lists(one, listed))
        for name, one in evidence.models
        if (listed := one.comparison.get("documents"))
    ]
    return section("The documents themselves", *document_lists(evidence, found), *own)


def trust(evidence: Evidence) -> Element | None:
    """Whether the probabilities can be believed, model by model."""
    shown = [(name, one, trust_charts(one), trust_table(one)) for name, one in evidence.models]
    parts: list[Node | None] = []
    for places in zip(*(charts for _, _, charts, _ in shown if charts), strict=True):
        names = [name for name, _, charts, _ in shown if charts]
        parts.append(beside(*map(draw, _on_one_scale(list(zip(names, places, strict=True))))))
    numbers = [
        unfolding(f"{name}: the numbers of the figures", grid(table), folded(bin_table(one)))
        for name, one, _, table in shown
        if table is not None
    ]
    return section("How sure they are", *parts, *numbers) if numbers else None


def courses(evidence: Evidence) -> Element:
    """How the runs of every model went."""
    makers: Sequence[Callable[[Evidence], LineChart | None]] = (accuracy_course, loss_course, loss_steps)
    rows: list[Node] = []
    for make in makers:
        charts = [(name, chart) for name, own in evidence.models if (chart := make(own)) is not None]
        rows += [beside(*map(draw, _on_one_scale(charts)))] if charts else []
    numbers = [unfolding(f"{name}: every step", *_course_numbers(name, own)) for name, own in evidence.models]
    return section("How they learned", *rows, lost_histories(evidence), *numbers)


def cost(evidence: Evidence) -> Element:
    """Time, rate and memory of every model in every engine."""
    amounts = cost_amounts(evidence)
    about = "Each group has a scale of its own."
    drawing = draw_amounts("Rate, time and memory", about, amounts, LONG_NAMES) if amounts else None
    return section("What it cost", drawing, grid(turned(cost_table(evidence.engines))))


def lengths(evidence: Evidence) -> Element | None:
    """How long the texts are in each model's tokens."""
    found = [(name, chart, length_table(own)) for name, own in evidence.models if (chart := length_chart(own))]
    if not found:
        return None
    charts = [draw(replace(chart, title=_titled(name, chart.title))) for name, chart, _ in found]
    return section("What was cut", beside(*charts))


def one_by_one(evidence: Evidence) -> Element:
    """What was not the same for all models, and the tables of each by itself."""
    every = [unfolding(f"{name}: its own tables", *map(grid, _tables(own))) for name, own in evidence.models]
    return section("Model by model", grid(setup_table(evidence.comparison)), *every)


CROSSED: Sequence[Callable[[Evidence], Element | None]] = (
    verdict,
    overview,
    engines,
    models,
    confusions,
    texts,
    trust,
    courses,
    cost,
    lengths,
    one_by_one,
    audit,
    origin,
)


def _against(
    heading: str, charts: Sequence[DifferenceChart], said: Sequence[str], found: Sequence[Table]
) -> Element | None:
    """Every pair's accuracy in a figure and a table; in words, and in other scores, where it unfolds."""
    if not found:
        return None
    words = tag("ul", *(tag("li", one) for one in said), class_="said")
    accuracy, *others = map(_named, found)
    more = unfolding("Macro-F1 and MCC", *others)
    return section(heading, beside(*map(draw_differences, charts), accuracy), unfolding("In words", words), more)


def _named(table: Table) -> Element:
    """A table whose rows have long names."""
    return tag("div", grid(table), class_="named")


def _tables(evidence: Evidence) -> list[Table]:
    """All tables of a comparison of this model alone, but for the matrices, which have a better form above."""
    shown = {table.title for table in confusion_tables(evidence.engines)}
    return [table for table in tables(evidence.comparison) if table.title not in shown]


def _course_numbers(name: str, evidence: Evidence) -> list[Element]:
    """Epochs, steps, and how far the engines' losses are apart."""
    apart, steps = loss_apart(evidence), steps_table(evidence)
    found = [grid(epoch_table(evidence.engines))]
    found += [draw(replace(apart, title=_titled(name, apart.title)))] if apart else []
    return [*found, grid(steps)] if steps else found


def _on_one_scale(charts: Sequence[tuple[str, LineChart]]) -> list[LineChart]:
    """The same figure of several models under their names, with one y axis for all."""
    reach = [y for _, chart in charts for line in chart.lines for _, y in line.points]
    reach += [bound for _, chart in charts for line in chart.lines for _, *bounds in line.band for bound in bounds]
    ends = (min(reach), max(reach))
    return [replace(chart, title=_titled(name, chart.title), reach=ends) for name, chart in charts]


def _titled(name: str, title: str) -> str:
    return f"{name}: {title[:1].lower()}{title[1:]}"
