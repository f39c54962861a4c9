"""The model card and the temperature of a finished run, against the run's other files."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from duygu.recipe import Recipe
from duygu.training.model_card import model_card
from duygu.training.run_folder import length_record
from duygu.use.classifier import read_temperature
from duygu.verdict.calibration import fit_temperature
from duygu.verdict.metrics import scores

HOSTILE = "<script>alert(1)</script> | `x` [a](https://evil.example)\n# title"


def card(name: str = HOSTILE, **changes: object) -> str:
    found = scores(np.eye(2, dtype=np.float32), np.array([0, 1], np.int32), (name, "good")).as_json()
    metrics = {
        "test": found, "validation": found, "engine": "torch", "seed": 13, "precision": "fp32", "model": name,
        "kept_epoch": 3, "collapsed": False, "temperature": 1.25,
    }  # fmt: skip
    data = {
        "documents": 10, "labels": {name: 5, "good": 5}, "parts": {"train": [1] * 6, "test": [1] * 4}, "truncated": 2,
        "corpus": "c" * 64, "split": "s" * 64, "split_seed": 7, "warnings": [f"odd: {name}"],
    }  # fmt: skip
    environment = {"device": "cpu", "versions": {"torch": "2"}, "model_revision": 'owner/"name"@abc'}
    return model_card(metrics, data, environment, Recipe(epochs=4).changed(changes))


def test_a_card_says_what_the_issue_of_a_model_needs() -> None:
    text = card("bad")
    for part in ("c" * 64, "s" * 64, "seed 7", "train 6, test 4", "epoch 3 of 4", "epochs = 4", "1.2500", "2 test"):
        assert part in text
    assert text.startswith('---\nlibrary_name: transformers\npipeline_tag: text-classification\nbase_model: "owner/')


def test_a_card_of_adapters_says_how_adapters_are_loaded() -> None:
    """transformers alone would make a new head; PEFT must be told how many labels there are."""
    text = card("bad", lora_rank=4)
    assert text.startswith("---\nlibrary_name: peft\n")
    assert 'AutoPeftModelForSequenceClassification.from_pretrained("model", num_labels=2)' in text
    assert "pipeline(" not in text
    for whole in (card("bad", lora_rank=4, lora_save="merged"), card("tiny", lora_rank=4)):
        assert "pipeline(" in whole
        assert "peft" not in whole


def test_hostile_names_stay_text_in_a_card() -> None:
    body = card().split("---\n", 2)[2]
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)
    inline = [child for token in tokens for child in token.children or ()]
    kinds = {token.type for token in [*tokens, *inline]}
    assert not kinds & {"html_block", "html_inline", "link_open", "image"}
    assert [token.content for token in tokens if token.type == "inline" and token.level == 1 and token.map].count(
        "# title"
    ) == 0
    assert sum(token.type == "heading_open" for token in tokens) == 7


def test_lengths_are_counted_in_bins_whose_last_holds_the_rest() -> None:
    whole = np.array([3] * 90 + [50] * 9 + [5000], np.int32)
    found = length_record(whole, 256)
    assert found["limit"] == 256
    assert found["longest"] == 5000
    assert found["p50"] == np.median(whole)
    assert sum(found["counts"]) == 100
    assert found["counts"][-1] == 1
    assert len(found["counts"]) * found["width"] > 256


def test_a_card_loads_the_model_as_it_says_even_for_a_long_text(
    tiny_runs: dict[str, tuple[Path, dict[str, object]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code of the card itself, its last call kept, on a text that is longer than the model's positions."""
    folder, _ = tiny_runs["torch"]
    text = (folder / "model" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(folder)
    code = code.replace("a text", "kar " * 600)
    scope: dict[str, Any] = {}
    exec(
        code.replace("Classifier.open(", "ours = Classifier.open(").replace("\npipeline(", "\ntheirs = pipeline("),
        scope,
    )
    labels = set(json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))["id2label"].values())
    assert len(scope["ours"].labels) == len(scope["theirs"]) == 1
    assert {scope["ours"].labels[0], scope["theirs"][0]["label"]} <= labels


@pytest.mark.parametrize("engine", ["torch", "jax"])
def test_the_temperature_follows_from_predictions_csv(
    tiny_runs: dict[str, tuple[Path, dict[str, object]]], engine: str
) -> None:
    """Logits are known from probabilities but for a constant, which no temperature sees."""
    folder, metrics = tiny_runs[engine]
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    rows = [row for row in rows if row[1] == "validation"]
    names = sorted({row[2] for row in rows})
    logits = np.log(np.array([row[4:] for row in rows], np.float64))
    expected = fit_temperature(logits, np.array([names.index(row[2]) for row in rows]))
    assert metrics["temperature"] == pytest.approx(expected, rel=1e-6)
    stored = json.loads((folder / "model" / "calibration.json").read_text(encoding="utf-8"))
    assert stored["temperature"] == metrics["temperature"] == read_temperature(folder / "model")
    assert stored["documents"] == len(rows)
    text = (folder / "model" / "README.md").read_text(encoding="utf-8")
    data = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    assert data["corpus"] in text
    assert f"{metrics['temperature']:.4f}" in text
    assert data["lengths"]["limit"] == 32
    assert sum(data["lengths"]["counts"]) == data["documents"] == 60
