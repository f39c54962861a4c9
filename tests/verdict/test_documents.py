"""The documents and the confidence that a comparison records, against the runs they come from."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from duygu.data.corpus import Corpus, read_corpus
from duygu.files import write_json
from duygu.verdict.confidence import confidence
from duygu.verdict.documents import LETTERS, SHOWN, documents, known_texts, texts_of
from duygu.verdict.runs import Run, read_run
from tests.verdict.folders import Written, write_run


def runs_of(folder: Path, seeds: tuple[int, ...] = (1, 2, 3), **fields: object) -> list[Run]:
    return [
        read_run(write_run(folder / f"{engine}-{seed}", Written(engine, seed, noise=noise, **fields)))
        for seed in seeds
        for noise, engine in enumerate(("torch", "jax"))
    ]


def test_disagreements_are_those_of_predictions_csv(tmp_path: Path) -> None:
    runs = runs_of(tmp_path)
    labels: dict[str, dict[str, str]] = {}
    for run in runs:
        with (run.folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
            labels[run.name] = {row["id"]: row["predicted"] for row in csv.DictReader(file) if row["split"] == "test"}
    apart = {
        id: sum(labels[f"torch-{seed}"][id] != labels[f"jax-{seed}"][id] for seed in (1, 2, 3))
        for id in labels["torch-1"]
    }
    found = documents(runs)
    assert found["counts"]["disagreements"] == sum(count > 0 for count in apart.values()) > 3
    for one in found["disagreements"]:
        assert one["runs_apart"] == apart[one["id"]] > 0
        for engine, answer in one["answers"].items():
            given = [labels[f"{engine}-{seed}"][one["id"]] for seed in (1, 2, 3)]
            assert answer["votes"] == {label: given.count(label) for label in set(given)}
    order = [one["runs_apart"] for one in found["disagreements"]]
    assert order == sorted(order, reverse=True)


def test_mistakes_are_wrong_and_the_surest_come_first(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, skill=0.3)
    found = documents(runs)
    means = {
        engine: np.mean([run.answers.probabilities for run in runs if run.engine == engine], axis=0)
        for engine in ("torch", "jax")
    }
    truth = np.array([list(runs[0].test.labels).index(label) for label in runs[0].answers.labels])
    errors = np.max([np.where(mean.argmax(axis=1) == truth, 0, mean.max(axis=1)) for mean in means.values()], axis=0)
    surest = np.argsort(-errors, kind="stable")[:SHOWN]
    assert [one["id"] for one in found["mistakes"]] == [runs[0].answers.ids[place] for place in surest]
    assert found["counts"] == {"documents": 120, "disagreements": found["counts"]["disagreements"],
                               "mistakes": int((errors > 0).sum())}  # fmt: skip


def test_one_engine_has_mistakes_and_no_disagreements(tmp_path: Path) -> None:
    found = documents(runs_of(tmp_path, (1,))[:1])
    assert found["disagreements"] == []
    assert found["mistakes"]


def test_texts_are_cut_at_a_word_and_found_under_quoted_ids(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, (1,))
    id = documents(runs)["mistakes"][0]["id"]
    text = documents(runs, {id: "kâr " * 500})["mistakes"][0]["text"]
    assert text.endswith("kâr …")
    assert len(text) <= LETTERS + 2
    assert documents(runs, {id: "x" * 2 * LETTERS})["mistakes"][0]["text"] == "x" * LETTERS + " …"
    corpus = Corpus(("a",), np.array([0], np.int32), ("l",), ("=id",), (), (), "0" * 64, "memory")
    assert texts_of(corpus) == {"'=id": "a"}


def test_texts_of_a_finished_run_are_read_only_while_they_are_what_it_learnt(texts: Path, tmp_path: Path) -> None:
    folder, corpus = write_run(tmp_path / "run"), read_corpus(texts)
    data = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    write_json(folder / "data.json", {**data, "root": str(texts), "corpus": corpus.digest})
    assert known_texts(read_run(folder)) == dict(zip(corpus.ids, corpus.texts, strict=True))
    write_json(folder / "data.json", {**data, "root": str(texts)})
    assert known_texts(read_run(folder)) is None
    write_json(folder / "data.json", {**data, "root": str(tmp_path / "gone"), "corpus": corpus.digest})
    assert known_texts(read_run(folder)) is None


def test_confidence_is_recomputed_from_predictions_and_temperature(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, temperature=2.0)
    found = confidence(runs)["torch"]
    own = [run for run in runs if run.engine == "torch"]
    assert found["temperatures"] == {run.name: 2.0 for run in own}
    truth = [[list(run.test.labels).index(label) for label in run.answers.labels] for run in own]
    plain = [run.answers.probabilities for run in own]
    cooled = [softmax(np.log(one) / 2, axis=1) for one in plain]
    for kind, answers in (("plain", plain), ("scaled", cooled)):
        expected = np.mean([log_loss(labels, one) for labels, one in zip(truth, answers, strict=True)])
        assert found[kind]["nll"] == pytest.approx(expected)
        accuracy = np.mean([run.test.accuracy for run in own])
        assert found[kind]["curve"][-1] == [1.0, pytest.approx(accuracy)]
        assert sum(one["documents"] for one in found[kind]["bins"]) == 3 * 120
    assert found["plain"]["ece"] == pytest.approx(np.mean([run.test.calibration.ece for run in own]))
    assert found["plain"]["brier"] == pytest.approx(np.mean([run.test.calibration.brier for run in own]))


def test_runs_without_a_temperature_have_only_their_own_answers(tmp_path: Path) -> None:
    found = confidence(runs_of(tmp_path, (1,), temperature=None))
    assert found["jax"]["scaled"] is None
    assert found["jax"]["plain"]["bins"]
