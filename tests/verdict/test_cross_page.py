"""The page of several models: safe and well-formed as any, verdict first, one scale for figures that stand together."""

from __future__ import annotations

import json
import random
from itertools import count
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from duygu.data.corpus import read_corpus
from duygu.errors import printable
from duygu.files import write_json
from duygu.training.run_folder import length_record
from duygu.verdict.baselines import Baseline
from duygu.verdict.compare import Background, Conclude, compare_runs, comparison
from duygu.verdict.page import comparison_page, write_page
from duygu.verdict.page.crossed import CROSSED
from duygu.verdict.page.evidence import comparison_evidence
from tests.verdict.folders import Written, write_run
from tests.verdict.test_cross import SKILLS, runs_of, written
from tests.verdict.test_page import ATTRIBUTES, ELEMENTS, PIECES, Json, Structure, renamed, steps


def made(folder: Path, seeds: tuple[int, ...] = (1, 2)) -> tuple[Json, dict[str, list[Json]]]:
    """Three models in two engines with a baseline, texts and lengths, and the histories of their runs."""
    runs = runs_of(folder, written(seeds))
    texts = {id: f"text of {id}" for id in runs[0].answers.ids}
    found = comparison("three", runs, Background((Baseline("linear", runs[0].test),), texts), folder)
    found["data"] |= {"documents": 600, "labels": {"negative": 300, "positive": 300}, "warnings": ["a warning"]}
    for number, one in enumerate(found["models"].values()):
        lengths = length_record(np.arange(1, 601, dtype=np.int32) % (250 + 50 * number), 256)
        one["data"] |= {"lengths": lengths, "truncated": 3}
    return json.loads(json.dumps(found)), {run.name: steps(number) for number, run in enumerate(runs)}


@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
def test_hostile_texts_and_names_add_no_element_attribute_or_address(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    found, histories = made(tmp_path, seeds)
    plain = Structure(comparison_page(found, histories))
    assert {name.strip("/") for name, _ in plain.elements} <= ELEMENTS
    assert {name for _, attributes in plain.elements for name, _ in attributes} <= ATTRIBUTES
    generator, serial = random.Random(len(seeds)), count()

    def hostile() -> str:
        return "".join(generator.choices(PIECES, k=generator.randint(1, 6))) + f"~{next(serial)}"

    listed = [one for name in ("disagreements", "mistakes") for one in found["documents"][name]]
    replaced = [*SKILLS, "negative", "positive", "a warning", "linear", *(run["name"] for run in found["runs"])]
    replaced += [pair["sentence"] for pair in found["model_pairs"]]
    replaced += {value for one in listed for value in (one["id"], one["text"])}
    while next(serial) < 600:
        names = {name: hostile() for name in replaced}
        page = comparison_page(renamed(found, names), renamed(histories, names))
        seen = Structure(page)
        assert (seen.elements, seen.comments) == (plain.elements, 0)
        text = "".join(seen.texts)
        for name in ("alpha", "negative", "linear", "a warning", listed[0]["text"]):
            assert printable(names[name]) in text
        ElementTree.fromstring(page.partition("\n")[2])


def test_the_page_says_engines_first_then_models_and_has_every_part_of_each_model(tmp_path: Path) -> None:
    found, histories = made(tmp_path)
    page = comparison_page(found, histories)
    text = " ".join(Structure(page.partition("</head>")[2]).texts)
    engines, models = found["verdict"].split(". ", 1)
    assert text.index(engines) < text.index(models) < text.index("On the test part")
    for model in SKILLS:
        for part in ("label by label", "reliability", "validation accuracy", "loss, epoch by epoch", "its own tables"):
            assert f"{model}: {part}" in text
    root = ElementTree.fromstring(page.partition("\n")[2])
    figures = [element for element in root.iter("svg") if element.get("role") == "img"]
    assert len({figure.get("aria-label") for figure in figures}) == len(figures)
    assert len(list(root.iter("h1"))) == 1


def test_figures_of_models_that_stand_together_have_one_scale(tmp_path: Path) -> None:
    root = ElementTree.fromstring(comparison_page(*made(tmp_path)).partition("\n")[2])
    ticks = {
        figure.get("aria-label"): [text.text for text in figure.iter("text") if text.get("text-anchor") == "end"]
        for figure in root.iter("svg")
        if (figure.get("aria-label") or "").endswith(": validation accuracy")
    }
    assert len(ticks) == len(SKILLS)
    assert len({tuple(texts) for texts in ticks.values()}) == 1


def test_lost_histories_and_missing_parts_leave_the_rest(tmp_path: Path) -> None:
    found, _ = made(tmp_path)
    for one in found["models"].values():
        one |= {"calibration": None, "documents": None}
        del one["data"]["lengths"]
    found["documents"], found["model_pairs"], found["engine_pairs"] = None, [], []
    page = comparison_page(found, {})
    for part in ("How sure they are", "What was cut", "The documents themselves", "The models against each other"):
        assert part not in page
    assert "Every model in every engine" in page
    assert "No history.jsonl was found for alpha-torch-1, " in page
    evidence = comparison_evidence(found, {})
    assert sum(part(evidence) is not None for part in CROSSED) == 7


def test_pages_are_made_again_from_a_folder_to_the_byte(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "runs" / str(number), run) for number, run in enumerate(written((1,)))]
    for number, folder in enumerate(folders):
        lines = "".join(json.dumps(line) + "\n" for line in steps(number))
        (folder / "history.jsonl").write_text(lines, encoding="utf-8")
    compare_runs(folders, tmp_path)
    first = (tmp_path / "report.html").read_bytes()
    (tmp_path / "report.html").unlink()
    assert write_page(tmp_path).read_bytes() == first
    assert b"step by step" in first


def texts_at_hand(folder: Path, texts: Path, several: list[Written]) -> list[Path]:
    """Runs whose documents are those of ``texts``, so that their pages could quote them."""
    corpus = read_corpus(texts)
    folders = [write_run(folder / str(number), run) for number, run in enumerate(several)]
    for path in folders:
        data = json.loads((path / "data.json").read_text(encoding="utf-8"))
        write_json(path / "data.json", {**data, "root": str(texts), "corpus": corpus.digest})
        answers = (path / "predictions.csv").read_text(encoding="utf-8")
        for number, id in enumerate(corpus.ids):
            answers = answers.replace(f"{number:04}.txt", id)
        (path / "predictions.csv").write_text(answers, encoding="utf-8")
    return folders


@pytest.mark.parametrize("several", [written((1,)), [Written("torch"), Written("jax", noise=1)]], ids=["three", "one"])
def test_no_text_is_quoted_where_none_shall_be_or_none_is_at_hand(
    tmp_path: Path, texts: Path, several: list[Written]
) -> None:
    folders = texts_at_hand(tmp_path / "runs", texts, several)
    quoted, plain, gone = tmp_path / "quoted", tmp_path / "plain", tmp_path / "gone"

    def quotes(out: Path) -> list[str]:
        """Files of a comparison that hold a text."""
        files = [path for path in out.iterdir() if path.suffix in (".json", ".html", ".md")]
        return sorted(path.name for path in files if "Firm " in path.read_text(encoding="utf-8"))

    compare_runs(folders, quoted)
    assert quotes(quoted) == ["comparison.json", "report.html"]
    compare_runs(folders, plain, Conclude(texts=False))
    assert quotes(plain) == []
    assert "The texts are left out of this page" in (plain / "report.html").read_text(encoding="utf-8")
    write_page(quoted, texts=False)
    assert quotes(quoted) == ["comparison.json"]
    assert "Firm " not in write_page(folders[0], texts=False).read_text(encoding="utf-8")
    assert "Firm " in write_page(folders[0]).read_text(encoding="utf-8")
    for folder in folders:
        data = json.loads((folder / "data.json").read_text(encoding="utf-8"))
        write_json(folder / "data.json", {**data, "root": str(tmp_path / "nowhere")})
    compare_runs(folders, gone)
    assert quotes(gone) == []
    assert "The texts were not at hand" in (gone / "report.html").read_text(encoding="utf-8")
