"""What is measured: the same for every tool, and standing for the whole corpus."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from duygu.data.tokens import TextTokenizer
from duygu.errors import DataError, UserError
from duygu.models.folder import open_classifier
from duygu.scale.models import LENGTH, checkpoint, write_bert_base
from duygu.scale.workloads import Amounts, Part, Sources, prepare

AMOUNTS = Amounts(steps=2, draws=2, documents=10, singles=4, warm=4, articles=20)


@pytest.fixture(scope="module")
def sources(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """The small corpus, the tiny model, and 30 texts as gzipped lines of JSON, one of them empty."""
    path = tmp_path_factory.mktemp("texts") / "more.jsonl.gz"
    lines = [json.dumps({"id": n, "text": f"Metin {n}\u2028 kâr" if n != 7 else " "}) for n in range(31)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return Sources(texts, path, "tiny")


@pytest.fixture(scope="module")
def parts(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Part]:
    cache = tmp_path_factory.mktemp("cache")
    found = prepare(["W1", "W2", "W4"], sources, AMOUNTS, cache, print)
    assert [part.name for part in found] == ["W1", "W2", "W4"]
    again = prepare(["W1", "W2", "W4"], sources, AMOUNTS, cache, print)
    assert [part.digest for part in again] == [part.digest for part in found]
    return {part.name: part for part in found}


def content(part: Part) -> dict[str, list]:
    return json.loads(part.input.read_text(encoding="utf-8"))


def test_steps_are_whole_and_apart(parts: dict[str, Part]) -> None:
    given = content(parts["W1"])
    assert len(given["ids"]) == len(given["labels"]) == len(given["lengths"]) == 60
    assert [len(row) for row in given["ids"]] == given["lengths"]
    steps = [*given["warm"], *given["timed"]]
    assert [len(step) for step in steps] == [16, 16, 16]
    assert len({tuple(step) for step in steps}) == 3


def test_texts_arrive_in_one_seeded_order_and_none_is_empty(parts: dict[str, Part]) -> None:
    given = content(parts["W2"])
    every = [*given["texts"], *given["singles"]]
    assert (len(given["texts"]), len(given["singles"]), len(set(every))) == (10, 4, 14)
    assert all(text.startswith("Metin ") for text in every)
    assert every != sorted(every)
    assert len(content(parts["W4"])["texts"]) >= 20


def test_the_model_folder_opens_in_duygu_and_cuts_as_other_tools_do(parts: dict[str, Part]) -> None:
    model = open_classifier(parts["W1"].model.model)
    assert (model.length, model.head_share) == (LENGTH, 1.0)
    assert model.tensors["classifier.weight"].std() > 0.05  # probabilities must spread


def test_plain_tokenizer_gives_duygus_ids_to_transformers(parts: dict[str, Part]) -> None:
    transformers = pytest.importorskip("transformers")
    model = parts["W2"].model
    theirs = transformers.AutoTokenizer.from_pretrained(str(model.plain))
    texts = ["Kâr arttı, %12!", "Profit and growth. " * 200]
    ours = TextTokenizer.from_folder(model.model).encode(texts, LENGTH, 1.0)
    rows = theirs(texts, truncation=True, max_length=LENGTH)["input_ids"]
    assert [row.tolist() for row in ours.take(np.arange(2, dtype=np.int32))] == rows


def test_another_model_gets_another_folder(sources: Sources, tmp_path: Path) -> None:
    assert sources.model is not None
    one = checkpoint(tmp_path, "tiny", ["kâr arttı", "zarar yok"], ["a", "b"])
    other = checkpoint(tmp_path, "tiny", ["kâr arttı", "zarar yok"], ["a", "b", "c"])
    assert one.folder != other.folder
    assert checkpoint(tmp_path, "tiny", ["kâr arttı", "zarar yok"], ["a", "b"]).folder == one.folder


def test_berturks_shape_is_written_as_asked(tmp_path: Path) -> None:
    write_bert_base(tmp_path / "model", TextTokenizer.train(["kâr arttı"], 100), ("n", "p"), layers=1)
    spec = open_classifier(tmp_path / "model").spec
    assert (spec.layers, spec.hidden, spec.heads, spec.intermediate) == (1, 768, 12, 3072)


def test_mistakes_are_named(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no workload 'W9'"):
        prepare(["W9"], sources, AMOUNTS, tmp_path, print)
    (tmp_path / "bad.jsonl").write_text('{"body": "x"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="not lines of JSON"):
        prepare(["W4"], Sources(sources.data, tmp_path / "bad.jsonl", "tiny"), AMOUNTS, tmp_path, print)
