"""Run folders read back, twins told from strangers, pairs counted."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from duygu.errors import FolderError
from duygu.verdict.runs import check_twins, compare_pair, engine_pairs, read_run
from tests.verdict.folders import RECIPE, Written, change_json, write_run

TORCH, JAX = Written(engine="torch"), Written(engine="jax", noise=1)


def test_pair_matches_counts_from_the_files(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / run.engine, run) for run in (TORCH, JAX)]
    lines = [(folder / "predictions.csv").read_text(encoding="utf-8").splitlines() for folder in folders]
    tables = [list(csv.DictReader(text)) for text in lines]
    a, b = ({row["id"]: row for row in table if row["split"] == "test"} for table in tables)
    only_a = sum(a[i]["predicted"] == a[i]["label"] != b[i]["predicted"] for i in a)
    only_b = sum(b[i]["predicted"] == b[i]["label"] != a[i]["predicted"] for i in a)
    assert only_a + only_b > 3

    pair = compare_pair(*map(read_run, folders))
    assert (pair.only_a, pair.only_b, pair.documents) == (only_a, only_b, 120)
    assert pair.difference == pytest.approx((only_a - only_b) / 120)
    assert pair.agreement == np.mean([a[i]["predicted"] == b[i]["predicted"] for i in a])
    assert pair.mcnemar_p == pytest.approx(binomtest(only_a, only_a + only_b).pvalue)
    apart = [abs(float(a[i]["positive"]) - float(b[i]["positive"])) for i in a]
    assert pair.probability_difference_max == pytest.approx(max(apart))
    assert pair.probability_difference_p95 == pytest.approx(np.quantile(apart, 0.95))


def test_equal_runs_are_not_distinguishable(tmp_path: Path) -> None:
    a, b = (read_run(write_run(tmp_path / run.engine, run)) for run in (TORCH, replace(JAX, noise=0)))
    pair = compare_pair(a, b)
    assert (pair.agreement, pair.difference, pair.mcnemar_p, pair.probability_difference_max) == (1, 0, 1, 0)
    assert pair.verdict.startswith("not distinguishable with this data (same label for 100.0 % of documents): a true ")
    assert "two trained models, not two frameworks" in pair.verdict


def test_a_large_difference_is_called_different_and_names_the_better(tmp_path: Path) -> None:
    a, b = (read_run(write_run(tmp_path / run.engine, run)) for run in (replace(TORCH, skill=0.3), JAX))
    for pair in (compare_pair(a, b), compare_pair(b, a)):
        assert pair.different
        assert pair.verdict.startswith("different: JAX is ")
    low, high = compare_pair(b, a).interval
    assert f"(95 % interval {low * 100:.1f} to {high * 100:.1f})" in compare_pair(b, a).verdict


def test_few_documents_cannot_show_anything(tmp_path: Path) -> None:
    a, b = (read_run(write_run(tmp_path / run.engine, replace(run, documents=5))) for run in (TORCH, JAX))
    assert compare_pair(a, b).minimum_detectable is None
    assert "5 documents cannot show any difference" in compare_pair(a, b).verdict


def test_pairs_are_engines_on_one_seed(tmp_path: Path) -> None:
    written = [replace(run, seed=seed) for seed in (1, 2) for run in (TORCH, JAX)]
    runs = [read_run(write_run(tmp_path / f"{run.engine}{run.seed}", run)) for run in written]
    check_twins(runs)
    assert [(pair.a, pair.b) for pair in engine_pairs(runs)] == [("torch-1", "jax-1"), ("torch-2", "jax-2")]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (replace(JAX, start_digest="b" * 64), "starting weights: aaaaaaaaaaaa against bbbbbbbbbbbb"),
        (replace(JAX, split_digest="6" * 64), "split: 555555555555 against 666666666666"),
        (replace(JAX, first_id=1), "test documents: 0000.txt against 0001.txt"),
        (replace(JAX, documents=119), "number of test documents: 120 against 119"),
        (replace(JAX, recipe=RECIPE.changed({"lr": 1e-4})), "recipe field lr: 2e-05 against 0.0001"),
        (replace(JAX, recipe=RECIPE.changed({"precision": "bf16"})), "precision: fp32 against bf16"),
        (replace(JAX, names=("bad", "good")), "labels"),
        (TORCH, "engine and seed are the same"),
    ],
)
def test_runs_that_are_no_twins_are_refused_by_name(tmp_path: Path, other: Written, named: str) -> None:
    runs = [read_run(write_run(tmp_path / "a", TORCH)), read_run(write_run(tmp_path / "b", other))]
    with pytest.raises(FolderError, match=named) as error:
        check_twins(runs)
    assert str(tmp_path / "b") in error.value.where


def test_other_texts_under_the_same_split_are_refused(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / run.engine, run) for run in (TORCH, JAX)]
    change_json(folders[1] / "data.json", corpus="f" * 64)
    with pytest.raises(FolderError, match="texts: dddddddddddd against ffffffffffff"):
        check_twins([read_run(folder) for folder in folders])


def test_unfinished_or_foreign_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="not a finished run"):
        read_run(tmp_path)
    folder = write_run(tmp_path / "run")
    change_json(folder / "metrics.json", test={"documents": 3})
    with pytest.raises(FolderError, match="not in the form of a run folder"):
        read_run(folder)


def test_a_document_predicted_twice_is_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run") / "predictions.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines, lines[1]]), encoding="utf-8")
    with pytest.raises(FolderError, match="121 test rows for 120 documents"):
        read_run(tmp_path / "run")
