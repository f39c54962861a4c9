"""Comparisons: finished runs, real runs in processes of their own, and their interruption."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from duygu.engines import Probe
from duygu.errors import DuyguError, FolderError, Interrupted, UserError
from duygu.recipe import Recipe
from duygu.verdict.compare import CompareRequest, common_precision, compare, compare_runs
from duygu.verdict.compare import _run as run_child
from tests.verdict.folders import Written, write_run

FAST = Recipe(epochs=1, length=16, lr=1e-3, precision="fp32")


def test_finished_runs_become_one_comparison(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / f"{engine}{seed}", Written(engine, seed)) for seed in (1, 2) for engine in ("torch", "jax")
    ]
    result = compare_runs(folders, tmp_path / "out")
    assert result == json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert (tmp_path / "out" / "report.md").read_text(encoding="utf-8").startswith("# duygu")
    names = {"schema", "model", "verdict", "data", "engines", "baselines", "pairs", "runs", "calibration", "documents"}
    assert set(result) == names
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
    request_: CompareRequest, texts: Path, duygu: Callable[..., subprocess.CompletedProcess[str]]
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
    resumed = duygu(*words, "--resume")
    assert resumed.returncode in (0, 3), resumed.stderr
    assert "epoch 12/12" in resumed.stderr
    assert "epoch 1/12" not in resumed.stderr
    result = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert [run["folder"] for run in result["runs"]] == ["runs/torch-1"]
    assert [baseline["name"] for baseline in result["baselines"]] == ["majority", "linear"]

    said: list[str] = []
    recipe = Recipe.from_toml((out / "recipe.toml").read_text(encoding="utf-8"))
    again = compare(replace(request_, recipe=recipe, resume=True), said.append)
    assert said[0] == "[1/1] PyTorch, seed 1: finished before"
    assert again["runs"] == result["runs"]
    with pytest.raises(FolderError, match="was run with another lr"):
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
        compare(replace(auto, engines=("torch",), resume=True), said.append)
    assert said == ["[1/1] PyTorch, seed 1"]  # it went on as it began, without measuring again


def test_the_start_of_a_checkpoint_is_written_once_without_code_or_pickles(
    request_: CompareRequest, tmp_path: Path
) -> None:
    from duygu.verdict.compare import _common_start

    source = tmp_path / "model"
    source.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt", "pytorch_model.bin", "modeling.py"):
        (source / name).write_text(name)
    (source / "sub").mkdir()
    request_.out.mkdir()
    start = Path(_common_start(replace(request_, model=str(source))))
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


@pytest.mark.parametrize("changes", [{"engines": ("torch", "torch")}, {"seeds": ()}, {"engines": ("tensorflow",)}])
def test_requests_that_make_no_sense_are_refused(request_: CompareRequest, changes: dict[str, object]) -> None:
    with pytest.raises(UserError):
        replace(request_, **changes)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_child_exactly_once(tmp_path: Path, signum: signal.Signals) -> None:
    """The child tells its parent to stop, counts what it is handed in return, and ends by itself."""
    log = tmp_path / "log"
    script = f"""
import os, pathlib, signal, time
log = pathlib.Path({str(log)!r})
signal.signal({int(signum)}, lambda *_: log.write_text(log.read_text() + "x"))
log.write_text("")
os.kill(os.getppid(), {int(signum)})
time.sleep(0.5)
"""
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted) as error:
        run_child([sys.executable, "-c", script])
    assert log.read_text() == "x"
    assert error.value.exit_code == 128 + signum
    assert signal.getsignal(signum) is before
