"""The whole audit as its users meet it: on the demo corpus, on real texts, on tables, on paper."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from duygu import cli
from duygu.data.corpus import read_corpus
from duygu.data.demo import demo_corpus
from duygu.data.duplicates import duplicate_groups, exact_groups
from duygu.data.split import read_split
from duygu.recipe import Recipe
from duygu.training.preparation import Job, read_data
from duygu.verdict.audit import Audit, audit
from duygu.verdict.audit.copies import exact_copies, leakage
from duygu.verdict.audit.findings import Subject
from duygu.verdict.audit.folds import drawn, fold_numbers
from duygu.verdict.audit.labels import balance
from duygu.verdict.audit.lengths import encodings
from duygu.verdict.audit.output import print_audit
from duygu.verdict.audit.words import word_list
from duygu.verdict.page.findings import audit_page, audit_section
from duygu.verdict.page.markup import render
from tests.audit.made import texts as made_texts
from tests.audit.made import words
from tests.verdict.test_page import ATTRIBUTES, ELEMENTS, PIECES, Structure, renamed

Json = dict[str, Any]
Answer = tuple[int, str, str]
ORDER = [
    "encodings", "length in words", "length in tokens", "tokenizer", "exact copies", "near copies", "balance",
    "conflicting labels", "leakage", "baselines", "source and length", "sources left out", "word list",
    "doubtful labels",
]  # fmt: skip


@pytest.fixture(scope="session")
def demo() -> Audit:
    return audit(demo_corpus(), model="tiny")


@pytest.fixture(scope="session")
def real(bist: Path) -> Subject:
    corpus = read_corpus(bist)
    return Subject(corpus, exact_groups(corpus.texts), duplicate_groups(corpus.texts))


@pytest.fixture
def ask(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """The command line in this process: exit code, standard output, standard error."""

    def run(*arguments: str | Path) -> Answer:
        code = cli.main(["audit", *map(str, arguments)])
        return code, *capfd.readouterr()

    return run


def test_faults_of_the_demo_are_found(demo: Audit) -> None:
    """They were put there, and its README says how many."""
    assert [one.name for one in demo.findings] == [name for name in ORDER if name != "leakage"]
    assert demo["exact copies"].numbers["verbatim"] == 7
    assert demo["near copies"].numbers["surplus"] == pytest.approx(15, abs=2)
    groups = demo["conflicting labels"].numbers["groups"]
    ids = ("aksamkapanisi_2022-12-14", "gunlukpiyasa_2024-06-28", "haberkulesi_2021-09-08")
    assert {row["id"] for group in groups for row in group} >= {f"negative/{id}.txt" for id in ids}
    assert demo["conflicting labels"].numbers["documents"] == 6
    assert demo["encodings"].numbers["documents"]["cp1254"] == 1
    assert demo["source and length"].level == "fine"
    assert demo["tokenizer"].level == "fine"
    assert not demo.stops


def test_copies_and_leaks_of_real_texts_are_those_that_are_known(real: Subject, bist_split: Path) -> None:
    assert encodings(real).numbers["documents"] == {"cp1254": 1697, "UTF-8": 9}  # nine are plain ASCII
    assert exact_copies(real).numbers["verbatim"] == 136
    split = read_split(bist_split, real.corpus.ids, real.corpus.labels, real.near)
    found = leakage(real, split, np.zeros((341, 2), np.float32))
    assert (found.level, found.numbers["verbatim"]) == ("stop", 30)
    assert found.numbers["near"] >= found.numbers["normalised"] >= 30
    assert balance(real).numbers["majority"] == pytest.approx(942 / 1706)


def test_labels_of_real_texts_were_counted_by_words(real: Subject) -> None:
    """A list of 104 words made them; beside a linear model that knows nothing, that shows by the list alone."""
    documents = drawn(real)
    found = word_list(real, documents, fold_numbers(real, documents), np.zeros((1706, 2), np.float32))
    assert found.level == "look"
    assert found.numbers["unseen"] > 0.88
    assert found.numbers["shuffled"]["unseen"] < 0.6
    words = {label: set(one) for label, one in found.numbers["words"].items()}
    assert "yükseliş" in words["positive"]
    assert any(word.startswith("kayıp") for word in words["negative"])


@pytest.mark.slow
def test_whole_audit_of_real_texts(bist: Path, bist_split: Path) -> None:
    found = audit(bist, split=bist_split)
    majority, linear = (found["baselines"].numbers["test"][name]["accuracy"] for name in ("majority", "linear"))
    assert majority == pytest.approx(0.54, abs=0.005)
    assert 0.85 <= linear <= 0.89
    assert found["word list"].level == "look"
    assert found["source and length"].level == "look"
    assert found.stops == ("leakage",)


def test_json_is_what_is_written_and_printed(texts: Path, tmp_path: Path, ask: Callable[..., Answer]) -> None:
    out = tmp_path / "out"
    code, printed, said = ask(texts, "--out", out, "--json")
    found = json.loads(printed)
    assert code == 0
    assert json.loads((out / "audit.json").read_text(encoding="utf-8")) == found
    assert found["schema"] == 1
    assert (found["documents"], found["labels"]) == (60, {"fall": 30, "rise": 30})
    assert {one["level"] for one in found["findings"]} <= {"fine", "look", "stop"}
    assert f"report: {out / 'audit.html'}" in said
    assert (out / "audit.html").read_text(encoding="utf-8") == audit_page(found)


def test_an_audit_is_replaced_only_when_asked(texts: Path, tmp_path: Path, ask: Callable[..., Answer]) -> None:
    (tmp_path / "audit.json").write_text("mine", encoding="utf-8")
    code, printed, said = ask(texts, "--out", tmp_path)
    assert (code, printed) == (2, "")
    assert "holds an audit already" in said
    assert (tmp_path / "audit.json").read_text(encoding="utf-8") == "mine"
    assert ask(texts, "--out", tmp_path, "--overwrite")[0] == 0
    assert json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))["documents"] == 60


@pytest.mark.parametrize(("first", "code"), [(55, 3), (30, 0)])
def test_strict_ends_with_exit_code_3_where_a_stop_stands(
    first: int, code: int, tmp_path: Path, ask: Callable[..., Answer]
) -> None:
    """Sixty texts without copies: 55 and 5 with each label, or 30 and 30."""
    for number, text in enumerate(made_texts(60, words(100))):
        path = tmp_path / ("a" if number < first else "b") / f"{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    found, printed, said = ask(tmp_path, "--strict", "--json")
    stops = [one["name"] for one in json.loads(printed)["findings"] if one["level"] == "stop"]
    assert (found, "balance" in stops, "stop: balance" in said) == (code, code == 3, code == 3)
    assert ask(tmp_path)[0] == 0


def test_a_table_without_labels_is_audited_for_what_needs_none(tmp_path: Path, ask: Callable[..., Answer]) -> None:
    contents = made_texts(40, words(100))
    lines = [{"id": f"n{number % 30}", "text": text} for number, text in enumerate([*contents, contents[0]])]
    table = tmp_path / "news.jsonl"
    table.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    code, printed, _ = ask(table, "--unlabelled", "--model", "tiny", "--json")
    found = json.loads(printed)
    assert code == 0
    assert [one["name"] for one in found["findings"]] == ORDER[:6]
    assert found["labels"] == {}
    assert found["findings"][4]["numbers"]["verbatim"] == 1
    code, _, said = ask(table)
    assert code == 2
    assert "there is no column 'label'" in said


def test_the_terminal_has_every_finding_within_80_columns(demo: Audit) -> None:
    console = Console(width=80, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        print_audit(demo, console)
    shown = captured.get()
    assert max(map(len, shown.splitlines())) <= 80
    for finding in demo.findings:
        assert finding.name in shown
    assert shown.rstrip().endswith(demo.verdict)


def test_the_page_is_well_formed_and_has_its_figures(demo: Audit) -> None:
    page = audit_page(demo.as_json())
    root = ElementTree.fromstring(page.partition("\n")[2])
    figures = [svg.get("aria-label") for svg in root.iter("svg")]
    assert figures == ["Length in words", "Length in tokens"]
    seen = Structure(page)
    assert {name.strip("/") for name, _ in seen.elements} <= ELEMENTS
    assert {name for _, attributes in seen.elements for name, _ in attributes} <= ATTRIBUTES
    bars = [path for path in root.iter("path") if (path.get("class") or "").startswith("bar")]
    numbers = demo["length in words"].numbers, demo["length in tokens"].numbers
    assert len(bars) == sum(len(one["histogram"]["counts"]) for one in numbers)
    assert "128" in [text.text for text in root.iter("text")]


def test_hostile_texts_add_no_element_attribute_or_address(demo: Audit) -> None:
    """Labels, sources, words, ids, texts and warnings: the page is built as the harmless one is."""
    record = json.loads(json.dumps({**demo.as_json(), "warnings": ["a warning"]}))
    plain = Structure(audit_page(record))
    generator = random.Random(0)
    names = ["negative", "positive", record["data"], "a warning", *strings(record, 40)]
    for round_ in range(50):
        hostile = {
            name: "".join(generator.choices(PIECES, k=generator.randint(1, 6))) + f"~{round_}.{number}"
            for number, name in enumerate(names)
        }
        page = audit_page(renamed(record, hostile))
        seen = Structure(page)
        assert (seen.elements, seen.comments) == (plain.elements, 0)
        ElementTree.fromstring(page.partition("\n")[2])
        page.encode()
        assert all(c.isprintable() or c == "\n" for c in page)


def strings(record: Json, limit: int) -> list[str]:
    """Ids, beginnings, words and sources as the page shows them."""
    findings = {one["name"]: one["numbers"] for one in record["findings"]}
    ranked = findings["doubtful labels"]["ranked"][:10]
    found = [row[key] for row in ranked for key in ("id", "begins")]
    found += [word for words in findings["word list"]["words"].values() for word in words[:5]]
    found += list(findings["source and length"]["sources"])[:5]
    return found[:limit]


def test_the_section_stands_in_any_page(demo: Audit) -> None:
    section = audit_section(json.loads(json.dumps(demo.as_json())))
    assert section.name == "section"
    assert ElementTree.fromstring(render(section)).findtext("h2") == "What the data is like"


def test_nothing_in_the_data_is_changed(texts: Path) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in texts.rglob("*.txt")}
    audit(texts)
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in texts.rglob("*.txt")}


def test_an_audit_gives_the_same_answers_again(texts: Path) -> None:
    assert audit(texts).as_json() == audit(texts).as_json()


def test_training_reads_its_data_with_doubts_about_the_labels(texts: Path, tmp_path: Path) -> None:
    """And so ``train`` and ``compare`` print them, and ``data.json`` keeps them."""
    copied = tmp_path / "texts"
    shutil.copytree(texts, copied)
    shutil.copy(copied / "fall" / "00.txt", copied / "rise" / "twin.txt")
    job = Job(str(copied), "tiny", "torch", Recipe(), tmp_path / "run")
    assert "2 documents have the text of another with a different label" in read_data(job)[0].warnings[-1]
    assert read_data(replace(job, data=str(texts)))[0].warnings == ()
