"""report.html: nothing breaks out of its place, nothing is loaded, and every number has its source."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import count
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from duygu.errors import FolderError, printable
from duygu.training.run_folder import length_record
from duygu.verdict.baselines import Baseline
from duygu.verdict.compare import Background, compare_runs, comparison
from duygu.verdict.page import comparison_page, run_page, write_page
from duygu.verdict.page.against import cost_amounts, difference_charts, steps_table
from duygu.verdict.page.bars import DifferenceChart
from duygu.verdict.page.charts import BarChart, DotChart, LineChart
from duygu.verdict.page.data import length_chart
from duygu.verdict.page.evidence import comparison_evidence
from duygu.verdict.page.figures import (
    accuracy_course,
    accuracy_dots,
    label_dots,
    loss_apart,
    loss_course,
    loss_steps,
)
from duygu.verdict.page.texts import language
from duygu.verdict.page.trust import bin_table, trust_charts
from duygu.verdict.runs import Run, read_run
from duygu.verdict.tables import spread, tables
from tests.verdict.folders import Written, write_run

Json = dict[str, Any]
SCORES = ("accuracy", "macro_f1", "mcc")

ELEMENTS = frozenset(
    re.findall(
        r"\w+",
        "html head meta title style body main header section h1 h2 h3 p ul li span b br div dl dt dd table caption "
        "thead tbody tr th td figure figcaption svg desc path text details summary",
    )
)
ATTRIBUTES = frozenset(
    re.findall(
        r"\S+",
        "lang charset http-equiv name content class scope tabindex role aria-label aria-hidden viewbox d x y "
        "text-anchor dir",
    )
)
PIECES = (
    "<script>alert(1)</script>", "</script>", "<img src=x onerror=alert(1)>", "</title>", "</style>", "</td>", "<svg>",
    "<a href=https://evil.example>", "<!--", "-->", "<![CDATA[", "]]>", "&lt;", "&#x3c;", "&amp", '"', "'", "`", "=",
    ">", "<", "javascript:alert(1)", "https://evil.example/", "style=color:red", " onload=x ", "\x00", "\x1b[31m",
    "\x07", "\x7f", "\x85", "\u202e", "\u2066", "\u200f", "\u2028", "\ufeff", "\ufffe", "\ud800", "\U000e0041", "\t",
    "\n", "\r", "  ", "İ", "kâr", "\u0301", "𝕏", "{{x}}", "${x}", "%s", "\\", "/", "a", "Z", "0",
)  # fmt: skip


def steps(run: int) -> list[Json]:
    """Lines of a history: 40 steps of made losses, an evaluation between."""
    losses = [{"step": n, "epoch": 1 + n // 20, "loss": 1 / n + run / 1000} for n in range(1, 41)]
    return [*losses[:20], {"epoch": 1, "validation": {}}, *losses[20:]]


def made_runs(
    folder: Path, seeds: tuple[int, ...] = (13,), names: tuple[str, ...] = ("negative", "positive")
) -> list[Run]:
    return [
        read_run(write_run(folder / f"{engine}-{seed}", Written(engine, seed, names, noise=noise)))
        for seed in seeds
        for noise, engine in enumerate(("torch", "jax"))
    ]


def made(folder: Path, seeds: tuple[int, ...] = (13,)) -> tuple[Json, dict[str, list[Json]]]:
    """A comparison with a baseline, and the histories of its runs."""
    runs = made_runs(folder, seeds)
    texts = {id: f"text of {id}" for id in runs[0].answers.ids}
    found = comparison("tiny", runs, Background((Baseline("linear", runs[0].test),), texts), folder)
    found["engine_pairs"] = [engine_pair(len(seeds))]
    found["data"] = {
        "lengths": length_record(np.arange(1, 601, dtype=np.int32) % 300, 256),
        "documents": 600, "labels": {"negative": 300, "positive": 300}, "corpus": "c" * 64, "tokens": "d" * 64,
        "split": "e" * 64, "truncated": 3, "warnings": ["a warning"],
    }  # fmt: skip
    return found, {run.name: steps(number) for number, run in enumerate(runs)}


def engine_pair(seeds: int) -> Json:
    """Two engines over documents and seeds, in the form of ``engine_pairs``."""
    score = {"difference": 0.011, "interval": [-0.021, 0.043], "p": 0.5, "p_holm": 0.5, "minimum_detectable": 0.04}
    equivalence = {"margin": 0.015, "p": 0.4, "interval90": [-0.017, 0.039], "equivalent": False}
    return {
        "a": "torch", "b": "jax", "seeds": seeds, "documents": 120, "scores": dict.fromkeys(SCORES, score),
        "equivalence": equivalence, "needed": {"documents": 500, "seeds": None}, "verdict": "not distinguishable",
        "sentence": "PyTorch and JAX: not distinguishable with this data.",
    }  # fmt: skip


class Structure(HTMLParser):
    """Every element with its attributes as a browser would see them, and every text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.texts: list[str] = []
        self.comments = 0
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert dict(attrs).get("lang") in (None, "en", "tr")
        kept = [(name, value) for name, value in attrs if name != "lang"]  # a text's depends on its letters
        shown = tuple((name, "*" if name == "aria-label" else value) for name, value in kept)
        self.elements.append((tag, shown))

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}", ()))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.comments += 1

    def unknown_decl(self, data: str) -> None:
        self.comments += 1


def renamed(value: Any, names: dict[str, str]) -> Any:
    """A JSON value in which every text and key of ``names`` is another."""
    if isinstance(value, dict):
        return {names.get(key, key): renamed(one, names) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [renamed(one, names) for one in value]
    return names.get(value, value) if isinstance(value, str) else value


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from numbers(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


@pytest.mark.parametrize("seeds", [(13,), (1, 2)])
def test_a_thousand_hostile_texts_add_no_element_attribute_or_address(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    """Labels, model, verdict, runs, engines, baseline, warning: each page is built as the harmless one is."""
    found, histories = made(tmp_path, seeds)
    found = renamed(json.loads(json.dumps(found)), {"torch": "one", "jax": "other"})  # engines that have no fixed look
    plain = Structure(comparison_page(found, histories))
    assert plain.comments == 0
    assert {name.strip("/") for name, _ in plain.elements} <= ELEMENTS
    assert {name for _, attributes in plain.elements for name, _ in attributes} <= ATTRIBUTES
    generator = random.Random(sum(seeds))
    serial = count()

    def hostile() -> str:
        return "".join(generator.choices(PIECES, k=generator.randint(1, 6))) + f"~{next(serial)}"

    replaced = ["negative", "positive", "tiny", found["verdict"], "a warning", "linear", "one", "other"]
    replaced += [run["name"] for run in found["runs"]]
    listed = [one for name in ("disagreements", "mistakes") for one in found["documents"][name]]
    assert len(listed) > 5
    replaced += {value for one in listed for value in (one["id"], one["text"])}
    while next(serial) < 550:  # two parameters: more than a thousand
        names = {name: hostile().replace(". ", ".") for name in replaced}
        page = comparison_page(renamed(found, names), renamed(histories, names))
        seen = Structure(page)
        assert (seen.elements, seen.comments) == (plain.elements, 0)
        page.encode()
        text = "".join(seen.texts)
        for name in ("negative", "linear", "one", "a warning", listed[0]["text"], listed[-1]["id"]):
            assert printable(names[name]) in text
        ElementTree.fromstring(page.partition("\n")[2])
        assert all(c.isprintable() or c == "\n" for c in page)


def test_a_browser_may_load_and_run_nothing(tmp_path: Path) -> None:
    for page in pages(tmp_path):
        style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
        policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
        assert style is not None
        assert policy is not None
        digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        rules = policy[1].replace("&#x27;", "'").split("; ")
        assert rules == ["default-src 'none'", f"style-src 'sha256-{digest}'", "base-uri 'none'", "form-action 'none'"]
        assert not re.search(r"://|url\(|@import|javascript:|<script|\son\w+=|\sstyle=|href|src=", page)
        assert "<" not in style[1]


def test_pages_are_well_formed_and_every_figure_says_what_it_is(tmp_path: Path) -> None:
    for page in pages(tmp_path):
        root = ElementTree.fromstring(page.partition("\n")[2])
        figures = [element for element in root.iter("svg") if element.get("role") == "img"]
        assert len(figures) >= 6
        for figure in figures:
            title, about = figure.find("title"), figure.find("desc")
            assert title is not None
            assert about is not None
            assert figure.get("aria-label") == title.text
            assert about.text
        assert len(list(root.iter("h1"))) == 1


def pages(folder: Path) -> Iterator[str]:
    found, histories = made(folder / "one")
    yield comparison_page(found, histories)
    yield comparison_page(*made(folder / "several", (1, 2, 3)))
    yield run_page(found["runs"][0], steps(0))


@pytest.mark.parametrize("seeds", [(13,), (1, 2, 3)])
def test_every_number_of_a_figure_is_in_the_json_or_in_a_table(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    found, histories = made(tmp_path, seeds)
    evidence = comparison_evidence(found, histories)
    known = set(numbers(json.loads(json.dumps([found, histories]))))
    shown_tables = [*tables(found), steps_table(evidence), bin_table(evidence)]
    cells = " ".join(cell for table in shown_tables if table for row in table.rows for cell in row)
    charts = [
        accuracy_dots(evidence), label_dots(evidence), accuracy_course(evidence), loss_course(evidence),
        loss_steps(evidence), loss_apart(evidence), length_chart(evidence),
        *trust_charts(evidence), *difference_charts(evidence),
    ]  # fmt: skip
    assert len(charts) == 10
    for chart in charts:
        assert chart is not None
        shown = list(chart_numbers(chart))
        assert shown
        for value in shown:
            texts = f"{value * 100:.1f}", f"{value:.3f}", f"{value:.1e}"
            assert value in known or any(text in cells for text in texts), f"{chart.title}: {value}"


def chart_numbers(chart: DotChart | LineChart | BarChart | DifferenceChart) -> Iterator[float]:
    if isinstance(chart, BarChart):
        yield from (*map(float, chart.counts), *(place for _, place in chart.limits))
        return
    if isinstance(chart, DifferenceChart):
        for row in chart.rows:
            yield from (row.value, *row.interval, *(row.inner or ()), *(value for _, value in row.dots))
        return
    if isinstance(chart, DotChart):
        for row in chart.rows:
            yield from (value for _, value in row.dots)
            yield from row.interval or ()
            yield from () if row.mean is None else (row.mean,)
        return
    for line in chart.lines:
        yield from (number for point in line.points for number in point)
        yield from (number for part in line.band for number in part)


def test_marks_stand_where_their_numbers_say(tmp_path: Path) -> None:
    """Read back from the drawing alone: the axis from its tick texts, then each mark's height as a number."""
    found, histories = made(tmp_path)
    root = ElementTree.fromstring(comparison_page(found, histories).partition("\n")[2])
    figure = next(svg for svg in root.iter("svg") if svg.get("aria-label") == "Validation accuracy")
    ticks = [
        (float(text.get("y", "")) - 5, float((text.text or "").removesuffix(" %")))
        for text in figure.iter("text")
        if text.get("text-anchor") == "end" and (text.text or "").endswith(" %")
    ]
    (y0, v0), (y1, v1) = ticks[0], ticks[-1]
    tops = [path for path in figure.iter("path") if (path.get("class") or "").startswith("mark")]
    assert len(tops) == 6
    for path in tops:
        says = path.findtext("title") or ""
        engine, epoch, value = re.fullmatch(r"(\w+), epoch (\d): ([\d.]+) %", says).groups()  # type: ignore[union-attr]
        _, y, kind = re.match(r"M([\d.]+) ([\d.]+)(.)", path.get("d", "")).groups()  # type: ignore[union-attr]
        middle = float(y) + (0 if kind == "a" else 3.7)  # a circle begins at its side, a square at its corner
        run = next(run for run in found["runs"] if run["engine"] == {"PyTorch": "torch", "JAX": "jax"}[engine])
        accuracy = run["epochs"][int(epoch)]["validation"]["accuracy"] * 100
        assert float(value) == pytest.approx(accuracy, abs=0.051)
        assert v0 + (middle - y0) / (y1 - y0) * (v1 - v0) == pytest.approx(accuracy, abs=0.15)


def test_the_verdict_comes_first_and_a_run_says_that_it_is_one(tmp_path: Path) -> None:
    found, histories = made(tmp_path)
    text = " ".join(Structure(comparison_page(found, histories).partition("</head>")[2]).texts)
    assert text.index(found["verdict"].partition(". ")[0]) < text.index("On the test part")
    collapsed = {**found["runs"][0], "collapsed": True}
    assert "It collapsed" in run_page(collapsed, [])
    assert "This is one run" in run_page(found["runs"][0], [])


def test_long_histories_are_thinned_to_steps_that_were_taken(tmp_path: Path) -> None:
    found, _ = made(tmp_path, (1, 2, 3))
    long = {run["name"]: [{"step": n, "loss": 1 / n} for n in range(1, 20_001)] for run in found["runs"]}
    page = comparison_page(found, long)
    assert len(page.encode()) < 200_000
    assert "Means over 200 steps" in page
    assert "The largest of every 200 steps" in page


def test_differences_of_losses_are_those_of_the_histories(tmp_path: Path) -> None:
    found, histories = made(tmp_path, (1, 2))
    chart = loss_apart(comparison_evidence(found, histories))
    assert chart is not None
    for line, (a, b) in zip(chart.lines, (("torch-1", "jax-1"), ("torch-2", "jax-2")), strict=True):
        by_hand = {
            one["step"]: abs(one["loss"] - other["loss"])
            for one, other in zip(histories[a], histories[b], strict=True)
            if "step" in one
        }
        assert dict(line.points) == by_hand


def test_bars_of_cost_are_the_tables(tmp_path: Path) -> None:
    found, histories = made(tmp_path, (1, 2))
    cost = next(table for table in tables(found) if table.title == "Cost")
    cells = {row[0]: row[1:] for row in cost.rows}
    groups = cost_amounts(comparison_evidence(found, histories))
    assert [group.title for group in groups] == ["training time", "compile time", "documents per second", "peak memory"]
    for group in groups:
        assert tuple(bar.text for bar in group.bars) == cells[group.title]


def test_documents_are_shown_with_their_text_or_that_it_is_lost(tmp_path: Path) -> None:
    found, histories = made(tmp_path)
    page = comparison_page(found, histories)
    shown = found["documents"]["disagreements"][0]
    assert shown["text"] in page
    for one in [*found["documents"]["disagreements"], *found["documents"]["mistakes"]]:
        one["text"] = None
    lost = comparison_page(found, histories)
    assert "The texts were not at hand" in lost
    assert shown["id"] in lost


def test_turkish_texts_are_marked_as_such() -> None:
    assert language("Şirketin kârı arttı") == "tr"
    assert language("Profits rose") is None
    assert language("Größe, façade") is None


def test_a_comparison_of_an_older_version_has_a_page(tmp_path: Path) -> None:
    found, histories = made(tmp_path)
    for name in ("calibration", "documents", "engine_pairs"):
        del found[name]
    del found["data"]["lengths"]
    for run in found["runs"]:
        run.pop("temperature")
    page = comparison_page(found, histories)
    assert "Accuracy on the test part" in page
    for part in ("The documents themselves", "How sure it is", "What was cut"):
        assert part not in page


def test_the_page_of_one_run_shows_its_mistakes_and_its_confidence(tmp_path: Path) -> None:
    text = write_page(write_run(tmp_path / "run")).read_text(encoding="utf-8")
    for part in ("Wrong and sure of it", "Reliability", "calibrated", "The texts were not at hand"):
        assert part in text
    assert "Where the engines disagree" not in text


def test_pages_are_made_again_from_a_folder_to_the_byte(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "runs" / f"{name}-13", Written(name)) for name in ("torch", "jax")]
    for number, run in enumerate(runs):
        lines = "".join(json.dumps(line) + "\n" for line in steps(number))
        (run / "history.jsonl").write_text(lines, encoding="utf-8")
    compare_runs(runs, tmp_path)
    first = (tmp_path / "report.html").read_bytes()
    (tmp_path / "report.html").unlink()
    assert write_page(tmp_path).read_bytes() == first
    assert b"Training loss, step by step" in write_page(runs[0]).read_bytes()


def test_lost_histories_are_said_and_the_rest_is_shown(tmp_path: Path) -> None:
    found, histories = made(tmp_path)
    page = comparison_page(found, {"torch-13": histories["torch-13"]})
    assert "No history.jsonl was found for jax-13" in page
    assert "Training loss, step by step" in page


@pytest.mark.parametrize(
    "content",
    [None, "{}", '{"runs": 3}', '{"runs": [{"name": "a"}]}', "[]", "{", '{"schema": 99}'],
)
def test_folders_of_another_form_are_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "comparison.json").write_text(content, encoding="utf-8")
    with pytest.raises(FolderError, match=re.escape(str(tmp_path))):
        write_page(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_means_of_the_tiles_are_those_of_the_table(tmp_path: Path) -> None:
    found, histories = made(tmp_path, (1, 2, 3))
    summary = found["engines"]["torch"]
    page = comparison_page(found, histories)
    values = [run["test"]["accuracy"] for run in found["runs"] if run["engine"] == "torch"]
    assert f"<b>{spread(values, lambda value: f'{value * 100:.1f} %')}</b>" in page
    assert f"3 seeds, {summary['accuracy_min'] * 100:.1f} to {summary['accuracy_max'] * 100:.1f}" in page
