"""Comparisons: finished runs, real runs in processes of their own, and their interruption."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from duygu.data.sources import DataFormat
from duygu.engines import Probe
from duygu.errors import DuyguError, FolderError, OutOfMemory, UserError
from duygu.recipe import Recipe
from duygu.verdict import campaign, processes
from duygu.verdict.campaign import CORES_EACH, common_start, runs_at_once
from duygu.verdict.compare import CompareRequest, common_precision, compare, compare_runs
from duygu.verdict.request import recorded
from tests.verdict.folders import Written, write_run

FAST = Recipe(epochs=1, length=16, lr=1e-3, precision="fp32")


def test_finished_runs_become_one_comparison(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / f"{engine}{seed}", Written(engine, seed)) for seed in (1, 2) for engine in ("torch", "jax")
    ]
    result = compare_runs(folders, tmp_path / "out")
    assert result == json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert (tmp_path / "out" / "report.md").read_text(encoding="utf-8").startswith("# duygu")
    assert set(result) == {
        "schema", "model", "verdict", "data", "engines", "engine_pairs", "baselines", "pairs", "protocols",
        "calibration", "documents", "audit", "jobs", "notes", "runs",
    }  # fmt: skip
    assert result["engines"]["torch"]["runs"] == 2
    accuracies = [run["test"]["accuracy"] for run in result["runs"] if run["engine"] == "jax"]
    assert result["engines"]["jax"]["accuracy_mean"] == pytest.approx(sum(accuracies) / 2)
    assert {pair["a"]: pair["b"] for pair in result["pairs"]} == {"torch-1": "jax-1", "torch-2": "jax-2"}


def test_real_runs_of_both_engines_are_twins(tiny_runs: dict[str, tuple[Path, dict[str, object]]]) -> None:
    result = compare_runs([folder for folder, _ in tiny_runs.values()])
    (pair,) = result["pairs"]
    assert pair["agreement"] >= 0.99
    assert pair["probability_difference"]["max"] < 0.02


@pytest.fixture
def request_(tmp_path: Path, texts: Path) -> CompareRequest:
    return CompareRequest(str(texts), "tiny", tmp_path / "out", FAST, engines=("torch",), seeds=(1,), threads=1)


def test_a_stopped_comparison_goes_on_where_it_was(
    request_: CompareRequest,
    texts: Path,
    duygu: Callable[..., subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGTERM in the middle of the first run: 143; resumed, it ends; resumed again, nothing is repeated."""
    out = request_.out
    words = ["compare", texts, "--model", "tiny", "--engines", "torch", "--seeds", "1", "--out", out, "--threads", 1]
    words += ["--set", "epochs=12", "--set", "length=16", "--set", "precision=fp32"]
    command = [sys.executable, "-m", "duygu", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if line.startswith("epoch 2/"):
                child.send_signal(signal.SIGTERM)
                break
        child.stderr.read()
    assert child.returncode == 143
    assert not (out / "comparison.json").exists()

    with pytest.raises(FolderError, match="holds a comparison already"):
        compare(request_, print)
    resumed = duygu("compare", "--resume", "--out", out)  # the folder knows the rest
    assert resumed.returncode in (0, 3), resumed.stderr
    assert "epoch 12/12" in resumed.stderr
    assert "epoch 1/12" not in resumed.stderr
    result = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert [run["folder"] for run in result["runs"]] == ["runs/torch-1"]
    assert [baseline["name"] for baseline in result["baselines"]] == ["majority", "linear"]

    said: list[str] = []
    recipe = Recipe.from_toml((out / "recipe.toml").read_text(encoding="utf-8"))
    monkeypatch.setattr(processes.subprocess, "Popen", None)  # whatever starts a process now, fails
    again = compare(replace(request_, recipe=recipe, resume=True), said.append)
    assert said[0] == "[1/1] PyTorch, seed 1: finished before"
    assert again["runs"] == result["runs"]
    with pytest.raises(FolderError, match="was begun with another lr"):
        compare(replace(request_, recipe=recipe.changed({"lr": 0.5}), resume=True), said.append)
    with pytest.raises(FolderError, match="was begun with other model"):
        compare(replace(request_, recipe=recipe, model=str(texts), resume=True), said.append)


@pytest.mark.parametrize(
    ("fast", "precision"), [((1, 1), "bf16"), ((1, 0), "fp32"), ((0, 1), "fp32"), ((0, 0), "fp32")]
)
def test_bf16_needs_every_engine(fast: tuple[int, int], precision: str) -> None:
    probes = [Probe(engine, "1", "cpu", 1, bool(quick)) for engine, quick in zip(("torch", "jax"), fast, strict=True)]
    assert common_precision(probes) == precision


def test_precision_is_resolved_once_and_a_failing_run_ends_the_comparison(request_: CompareRequest) -> None:
    said: list[str] = []
    auto = replace(
        request_, engines=("torch", "jax"), model="no-such-model", recipe=FAST.changed({"precision": "auto"})
    )
    with pytest.raises(DuyguError, match="torch run with seed 1 failed with exit code 2"):
        compare(auto, said.append)
    assert said[0].startswith("PyTorch 2.")
    assert said[1].startswith("JAX 0.")
    precision = Recipe.from_toml((request_.out / "recipe.toml").read_text(encoding="utf-8")).precision
    assert said[2] == f"precision: {precision} for all runs"
    assert precision != "auto"

    said.clear()
    with pytest.raises(DuyguError, match="failed with exit code 2"):
        compare(replace(auto, resume=True), said.append)
    assert said == ["[1/2] PyTorch, seed 1"]  # it went on as it began, without measuring again
    with pytest.raises(FolderError, match="was begun with other engines"):
        compare(replace(auto, engines=("torch",), resume=True), said.append)


@pytest.mark.parametrize(
    ("seeds", "first"), [((1,), "--resume when more memory is free"), ((1, 2), "--resume with --jobs 1")]
)
def test_a_run_that_the_system_killed_is_told_with_what_lowers_its_memory(
    seeds: tuple[int, ...], first: str, request_: CompareRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux ends a process that takes too much memory with SIGKILL, and tells nobody why."""
    kill = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    monkeypatch.setattr(campaign, "_command", lambda *_: kill)
    monkeypatch.setattr(campaign, "gpus", list)
    monkeypatch.setattr(campaign, "memory", lambda: (None, 1 << 50))
    large = FAST.changed({"length": 512, "batch": 64})
    with pytest.raises(OutOfMemory) as raised:
        compare(replace(request_, recipe=large, seeds=seeds, jobs=len(seeds)), print)
    problem, where, fix = str(raised.value).splitlines()
    assert re.match(r"the torch run with seed \d was killed by SIGKILL, most likely .* it needs some \d", problem)
    assert where.startswith(f"  where: {request_.out / 'runs' / 'torch-'}")
    assert fix.startswith(f"  fix:   {first}; or begin again: --overwrite with --set microbatch=32 (")


def test_the_start_of_a_checkpoint_is_written_once_without_code_or_pickles(
    request_: CompareRequest, tmp_path: Path
) -> None:
    source = tmp_path / "model"
    source.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt", "pytorch_model.bin", "modeling.py"):
        (source / name).write_text(name)
    (source / "sub").mkdir()
    request_.out.mkdir()
    (model,) = replace(request_, model=str(source)).models
    start = Path(common_start(request_.out, model, ()))
    assert start == request_.out / "start"
    assert sorted(path.name for path in start.iterdir()) == ["config.json", "model.safetensors", "vocab.txt"]
    assert (start / "model.safetensors").samefile(source / "model.safetensors")


def test_a_folder_of_something_else_is_never_emptied(request_: CompareRequest) -> None:
    request_.out.mkdir()
    (request_.out / "thesis.doc").write_text("years of work")
    for changes in ({}, {"overwrite": True}):
        with pytest.raises(FolderError, match=r"holds what no comparison wrote: thesis\.doc"):
            compare(replace(request_, **changes), print)
    assert (request_.out / "thesis.doc").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"engines": ("torch", "torch")},
        {"seeds": ()},
        {"engines": ("tensorflow",)},
        {"folds": 3, "split": "split.json"},
        {"margin": 0.0},
        {"protocol": "other"},
    ],
)
def test_requests_that_make_no_sense_are_refused(request_: CompareRequest, changes: dict[str, object]) -> None:
    with pytest.raises(UserError):
        replace(request_, **changes)


def test_folds_of_a_table_are_run_resumed_and_extended_without_repeating_any(
    request_: CompareRequest, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two folds, two at a time: each document is tested once. A second seed runs its own folds and no other."""
    table = tmp_path / "news.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["body", "mood", "key"])
        rows.writerows([path.read_text(encoding="utf-8"), path.parent.name, path.name] for path in texts.glob("*/*"))
    started: list[list[str]] = []
    begin = subprocess.Popen

    def counted(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        started.append(command)
        return begin(command, **options)

    monkeypatch.setattr(processes.subprocess, "Popen", counted)
    columns = DataFormat(text_column="body", label_column="mood")
    request = replace(request_, data=str(table), format=columns, folds=2, jobs=2)
    said: list[str] = []
    result = compare(request, said.append)
    assert len(started) == 2
    assert [run["folder"] for run in result["runs"]] == ["runs/torch-1-fold1", "runs/torch-1-fold2"]
    assert [run["fold"] for run in result["runs"]] == [1, 2]
    tested: list[str] = []
    for run in result["runs"]:
        tested += json.loads((request.out / run["folder"] / "data.json").read_text(encoding="utf-8"))["parts"]["test"]
    assert len(tested) == len(set(tested)) == 60
    assert result["engines"]["torch"]["pooled"][0]["test"]["documents"] == 60
    assert [baseline["test"]["documents"] for baseline in result["baselines"]] == [60, 60]
    assert "Up to 2 runs shared the machine at a time: their times are not those of a run alone." in result["notes"]

    kept = {**recorded(request.out), "out": request.out, "resume": True}
    again = compare(CompareRequest(**{**kept, "seeds": (1, 2)}), said.append)
    assert len(started) == 4
    assert [command[command.index("--seed") + 1] for command in started[2:]] == ["2", "2"]
    assert [run["name"] for run in again["runs"]][:2] == [run["name"] for run in result["runs"]]
    assert "Added after a first look at the results, for which no p is corrected: seeds 2." in again["notes"]
    with pytest.raises(FolderError, match="was begun with other seeds"):
        compare(CompareRequest(**{**kept, "seeds": (2,)}), said.append)
    with pytest.raises(FolderError, match="was begun with other margin"):
        compare(replace(CompareRequest(**{**kept, "seeds": (1, 2)}), margin=0.03), said.append)


def test_runs_at_a_time_are_limited_by_cores_by_memory_and_by_their_number(
    request_: CompareRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    many = replace(request_, seeds=tuple(range(20)))
    monkeypatch.setattr(campaign, "gpus", list)
    monkeypatch.setattr(campaign, "memory", lambda: (None, 1 << 50))
    for count, expected in ((2, 1), (CORES_EACH, 1), (4 * CORES_EACH, 4), (1000 * CORES_EACH, 20)):
        monkeypatch.setattr(campaign, "cores", lambda count=count: count)
        assert runs_at_once(many, said.append) == expected
    assert runs_at_once(replace(many, jobs=7), said.append) == 7
    assert said == []
    monkeypatch.setattr(campaign, "memory", lambda: (None, 2 << 30))
    few = runs_at_once(replace(many, jobs=7), said.append)
    assert 1 < few < 7
    assert said == [f"--jobs 7: memory has room for {few} at a time"]
    assert runs_at_once(replace(many, jobs=7, model="no-such-model"), said.append) == 1
