"""Tables: every number is there, nothing breaks out, 80 columns are enough."""

from __future__ import annotations

import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from duygu.errors import printable
from duygu.verdict.baselines import Baseline
from duygu.verdict.compare import Background, comparison
from duygu.verdict.metrics import Scores
from duygu.verdict.report import markdown, notes, print_comparison, print_run, print_scores
from duygu.verdict.runs import read_run
from duygu.verdict.tables import tables
from tests.verdict.folders import Written, write_run

HOSTILE = ("<script>alert(1)</script>", "a|b\n# [x](https://evil.example) *w* \x1b[31m `c` www.evil.example &amp; $y$")


def make(tmp_path: Path, seeds: tuple[int, ...] = (13,), **fields: object) -> dict[str, object]:
    """A comparison of two engines, with its first run in the place of a baseline."""
    runs = [
        read_run(write_run(tmp_path / f"{engine}-{seed}", replace(Written(engine, seed, noise=noise), **fields)))
        for seed in seeds
        for noise, engine in enumerate(("torch", "jax"))
    ]
    return comparison("tiny", runs, Background((Baseline("linear", runs[0].test),)), tmp_path)


def shown(tmp_path: Path, width: int, **fields: object) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    print_comparison(make(tmp_path, **fields), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_asked_score_is_in_the_tables(tmp_path: Path) -> None:
    result = make(tmp_path)
    cells = {(table.title, row[0]): row[1:] for table in tables(result) for row in table.rows if row}
    test = "Test part: 120 documents"
    for column, run in enumerate(result["runs"]):
        scores = Scores.from_json(run["test"])
        low, high = scores.accuracy_interval
        assert cells[test, "accuracy"][column] == f"{scores.accuracy * 100:.1f} %"
        assert cells[test, "  95 % interval"][column] == f"{low * 100:.1f}-{high * 100:.1f}"
        assert cells[test, "MCC"][column] == f"{scores.mcc:.3f}"
        assert cells[test, "support-weighted F1"][column] == f"{scores.weighted.f1:.3f}"
        assert cells[test, "positive recall"][column] == f"{scores.per_label[1].recall:.3f}"
        matrix = [cells["Confusion: rows true, columns predicted", name] for name in scores.labels]
        assert [list(map(int, row[2 * column : 2 * column + 2])) for row in matrix] == run["test"]["confusion"]
    assert [name for title, name in cells if title.startswith("Validation")] == ["before", "1", "2"]
    assert cells["Validation part, epoch by epoch", "2"][0].startswith("*")
    assert cells["Cost", "peak memory"] == ("512 MiB", "512 MiB")
    assert cells["Cost", "training time"][0] == "1 min 15 s"
    pair = result["pairs"][0]
    assert cells["The two engines on the same test documents", "13"][0] == f"{pair['agreement'] * 100:.1f} %"


def test_over_seeds_cells_are_means_with_deviation_and_every_run_is_listed(tmp_path: Path) -> None:
    result = make(tmp_path, (1, 2, 3))
    found = {table.title: table for table in tables(result)}
    accuracy = next(row for row in found["Test part: 120 documents"].rows if row and row[0] == "accuracy")
    summary = result["engines"]["torch"]
    assert accuracy[1] == f"{summary['accuracy_mean'] * 100:.1f} % ± {summary['accuracy_sd'] * 100:.1f}"
    assert [row[0] for row in found["Each run on the test part"].rows] == [run["name"] for run in result["runs"]]
    spans = next(row for row in found["Accuracy of the seeds, in points"].rows if row[0] == "PyTorch")
    assert spans[3:] == (f"{summary['accuracy_min'] * 100:.1f}", f"{summary['accuracy_max'] * 100:.1f}", "0 of 3", "0")
    assert result["verdict"].startswith("PyTorch and JAX: not distinguishable with this data. ")


@pytest.mark.parametrize("fields", [{}, {"seeds": (1, 2)}, {"names": ("negatif", "nötr", "pozitif"), "seeds": (1, 2)}])
def test_eighty_columns_hold_every_table_row_on_one_line(tmp_path: Path, fields: dict[str, object]) -> None:
    text = shown(tmp_path, 80, **fields)
    assert max(map(len, text.splitlines())) <= 80
    wide = shown(tmp_path / "wide", 200, **fields)
    numeric = [line.split() for line in wide.splitlines() if line[:1].isalnum() and line.rstrip()[-1:].isdigit()]
    assert numeric
    assert all(row in [line.split() for line in text.splitlines()] for row in numeric)


def test_the_verdict_comes_first(tmp_path: Path) -> None:
    result = make(tmp_path)
    assert markdown(result).splitlines()[2] == f"**{result['verdict']}**"


class Seen(HTMLParser):
    """Which elements a page has, and which texts its table cells show."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


@pytest.mark.parametrize("names", [HOSTILE, ("a", "b" * 300)])
def test_hostile_labels_stay_text_as_markdown_it_reads_them(tmp_path: Path, names: tuple[str, ...]) -> None:
    text = markdown(make(tmp_path, names=names))
    seen = Seen(MarkdownIt("commonmark").enable("table").render(text))
    assert seen.tags == {"h1", "h2", "p", "strong", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
    for name in names:
        assert printable(name) + " F1" in [cell.strip() for cell in seen.cells]
    for address in ("https://", "www.", "\x1b"):  # what extensions make links of without any markup
        assert address not in text
    assert "\x1b[31m" not in shown(tmp_path / "terminal", 80, names=names)


def test_notes_name_collapsed_runs_and_baselines_that_were_not_beaten(tmp_path: Path) -> None:
    found = notes(make(tmp_path, collapsed=True))
    assert found[0] == "PyTorch: 1 of 1 runs collapsed to one label."
    assert found[-1].startswith("The linear baseline reaches ")
    assert "PyTorch" in found[-1]


def test_one_run_and_one_evaluation_are_shown(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    console = Console(width=80, file=io.StringIO())
    print_run(run.metrics, console)
    print_scores(run.test, "evaluation", console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.count(f"accuracy {run.test.accuracy * 100:.1f} %") == 2
    assert "PyTorch · seed 13 · fp32" in text
    assert max(map(len, text.splitlines())) <= 80
