"""The benchmark scripts, run as a user runs them, on a small model and few texts."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest

from duygu.data.corpus import read_corpus
from duygu.data.demo import demo_corpus
from duygu.data.tokens import TextTokenizer
from duygu.models.folder import write_model
from duygu.models.spec import ModelSpec, tensor_shapes
from duygu.models.weights import initialise

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"
SIZES = (32, 64, 128, 256, 512)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished classifier with random weights that computes next to nothing."""
    tokenizer = TextTokenizer.train(read_corpus(demo_corpus()).texts, 500)
    spec = ModelSpec(
        family="bert", vocabulary=tokenizer.vocabulary, positions=512, segments=2, layers=2, hidden=16, heads=2,
        intermediate=32, activation="gelu", norm_eps=1e-12, dropout=0.1, attention_dropout=0.1,
        classifier_dropout=0.1, initializer_range=0.02, pad_id=tokenizer.pad_id, labels=("negative", "positive"),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "small"
    tensors = ((name, initialise(name, shape, spec, 0)) for name, shape in tensor_shapes(spec).items())
    write_model(folder, spec, tensors, tokenizer, 256, 0.75)
    return folder


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False)


def load(script: str) -> ModuleType:
    """A script as a module, for its functions."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{script}", FOLDER / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_fit_is_the_line_of_numpy_and_tells_a_bend() -> None:
    fit = load("cost").fit
    straight = fit({size: 0.5 + 0.01 * size for size in SIZES})
    assert straight["slope"] == pytest.approx(0.01)
    assert straight["start"] == pytest.approx(0.5)
    assert straight["r2"] == pytest.approx(1)
    bent = {size: size**2 / 1e6 for size in SIZES}
    assert fit(bent)["r2"] == pytest.approx(np.corrcoef(SIZES, list(bent.values()))[0, 1] ** 2)
    assert fit(bent)["r2"] < 0.97


def test_roofline_sets_the_measured_rate_against_the_mathematics(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from duygu.models.folder import open_classifier
    from duygu.scale.operations import operations

    spec = open_classifier(small).spec
    answer = {"documents": [2, 2], "tokens": [20, 20]}
    contender = {
        "name": "duygu-torch", "title": "duygu torch", "precision": "bf16", "rounds": [answer],
        "summary": {"documents_per_s": {"median": 30.0}},
    }  # fmt: skip
    each = operations(spec, [10] * 4, training=True) / 4
    load("roofline").report(
        {"parts": [{"name": "W1", "contenders": [contender]}]}, spec, {("torch", "bf16"): 40 * each}
    )
    assert "at most 40.00 documents/s, measured 30.00: 75% of the matrix rate" in capsys.readouterr().out


def test_gpu_script_says_that_there_is_no_gpu(small: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = run("gpu.py", small, demo_corpus(), "--batches", "4", "--steps", "1")
    assert done.returncode == 1
    assert done.stderr.strip() == "torch: no GPU here; --device cpu tries the script without one"


@pytest.mark.slow
def test_gpu_script_measures_both_engines_on_a_cpu(small: Path) -> None:
    done = run(
        "gpu.py", small, demo_corpus(), "--device", "cpu", "--batches", "4", "--steps", "3", "--documents", "20",
        "--side", "256",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    torch, jax = json.loads(done.stdout)
    assert (torch["engine"], jax["engine"]) == ("torch", "jax")
    for row in (torch, jax):
        assert 0 < row["share"] < 1
        assert row["documents_per_s"] < row["tokens_per_s"] <= 256 * row["documents_per_s"]
        assert row["peak_bytes"] > 50e6
    assert jax["compile_s"] < jax["compile_cold_s"]  # the second process finds what the first compiled


@pytest.mark.slow
def test_cost_script_fits_lines_and_draws_them(small: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot needs the extra bench")
    sizes = ("--lengths", "16", "32", "48", "--numbers", "4", "8", "12")
    plot = tmp_path / "new" / "cost.svg"
    done = run("cost.py", small, "--repeats", "1", "--precision", "fp32", *sizes, "--plot", plot)
    assert done.returncode == 0, done.stderr
    engines = json.loads(done.stdout)["engines"]
    for kinds in engines.values():
        assert kinds.keys() == {"training", "scoring", "documents"}
        assert all(min(found["seconds"].values()) > 0 for found in kinds.values())
    drawn = " ".join(ElementTree.parse(plot).getroot().itertext())
    assert "tokens in each document" in drawn


@pytest.mark.slow
def test_large_script_steps_both_engines_alike() -> None:
    """On small sizes; the oracle of a loss is the first row's, PyTorch's with all that layers save kept."""
    done = run("large.py", demo_corpus(), "--scale", "tiny", "--length", "64", "--steps", "2")
    assert done.returncode == 0, done.stderr
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines())
    found = [dict(zip(head, row, strict=True)) for row in rows]
    ways = [(row["engine"], row["layers again"]) for row in found]
    assert ways == 2 * [("torch", "no"), ("jax", "no"), ("torch", "yes"), ("jax", "yes")]
    for row in found:
        assert float(row["apart"]) < 1e-5
        assert 0.3 < float(row["peak / predicted"]) < 1.25  # almost all of it is the process


def comparison(accuracy: dict[str, list[float]], collapsed: bool = False) -> dict[str, object]:
    """As much of a ``comparison.json`` as the table of remedies reads: test accuracies by engine, seeds 0, 1, ..."""
    runs = [
        {
            "engine": engine,
            "seed": seed,
            "test": {"accuracy": value},
            "collapsed": collapsed,
            "restarts": int(collapsed),
        }
        for engine, values in accuracy.items()
        for seed, value in enumerate(values)
    ]
    pairs = [{"engines": ["torch", "jax"], "agreement": 0.98}, {"engines": ["torch", "torch"], "agreement": 0.5}]
    return {"engines": dict.fromkeys(accuracy), "runs": runs, "pairs": pairs}


def test_the_table_of_remedies_pairs_seeds() -> None:
    script = load("remedies")
    plain = comparison({"torch": [0.80, 0.90], "jax": [0.80, 0.80]})
    averaged = comparison({"torch": [0.82, 0.92], "jax": [0.80, 0.78]}, collapsed=True)
    lines = script.table({script.PLAIN: plain, "averaged weights": averaged}).splitlines()
    assert (
        lines[0]
        == "| remedy | recipe | torch, % | to plain | jax, % | to plain | same label, % | collapsed / restarted |"
    )
    assert lines[2] == "| plain |  | 85.0 ± 7.1 |  | 80.0 ± 0.0 |  | 98.0 | 0 / 0 |"
    assert lines[3] == (
        "| averaged weights | `ema=0.99` | 87.0 ± 7.1 | +2.0 ± 0.0 | 79.0 ± 1.4 | -1.0 ± 1.4 | 98.0 | 4 / 4 |"
    )


def test_every_remedy_is_a_recipe() -> None:
    from duygu.recipe import Recipe, parse_settings

    script = load("remedies")
    recipes = [Recipe().changed(parse_settings(settings)) for settings in script.REMEDIES.values()]
    assert len(set(recipes)) == len(recipes), "each changes something"
    assert len({script.folder_of(Path(), name) for name in script.REMEDIES}) == len(recipes)


@pytest.mark.slow
def test_llama_cpu_takes_the_same_step_in_both_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shape = ("--scale", "tiny", "--family", "modernbert", "--layers", 3)
    done = run("llama_cpu.py", *shape, "--precision", "fp32", "--folder", tmp_path / "random")
    assert done.returncode == 0, done.stderr
    found = {line["stage"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert list(found) == ["write", "quantise", "torch", "jax"]
    assert found["jax"]["loss"] == pytest.approx(found["torch"]["loss"], abs=1e-5)
    assert found["jax"]["grad_norm"] == pytest.approx(found["torch"]["grad_norm"], rel=1e-4)


@pytest.mark.slow
def test_llama_gpu_trains_both_engines_alike_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    small = ("--device", "cpu", "--scale", "tiny", "--layers", 2, "--precision", "fp32", "--microbatches", 2)
    done = run("llama_gpu.py", *small, "--steps", 3, "--folder", tmp_path / "random", "--out", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    torch, jax = found["rows"]
    assert (torch["engine"], jax["engine"]) == ("torch", "jax")
    for row in (torch, jax):
        assert len(set(row["losses"])) == 3
        assert row["tokens_per_s"] > 0
        assert row["aim"]
        assert row["host_peak_bytes"] > 50e6
    (pair,) = found["pairs"]
    assert (pair["differ"], pair["held"], pair["equal"]) == ("engine", True, True)
    assert pair["apart"] == pytest.approx(np.max(np.abs(np.subtract(torch["losses"], jax["losses"]))), abs=1e-4)
    assert jax["compile_s"] < jax["compile_cold_s"]


def test_llama_gpu_says_that_there_is_no_gpu_before_it_writes(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = run("llama_gpu.py", "--folder", tmp_path / "random")
    assert done.returncode == 1
    assert done.stderr.strip() == "torch: no GPU here; --device cpu --scale tiny tries the script without one"
    assert not (tmp_path / "random").exists()


@pytest.mark.slow
def test_llama_run_sets_whole_runs_against_the_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load("llama_cpu").write_random(tmp_path / "random", "llama", "tiny", 2)
    done = run("llama_run.py", tmp_path / "random", demo_corpus(), "--length", 64, "--mixed")
    assert done.returncode == 0, done.stderr
    torch, jax = map(json.loads, done.stdout.splitlines())
    assert (torch["engine"], jax["engine"]) == ("torch", "jax")
    for row in (torch, jax):
        assert 0.1 < row["peak_gb"] < 2, "of so small a model hardly more than the process"
        assert row["peak / predicted"] == pytest.approx(row["peak_gb"] / row["predicted_gb"], abs=0.05)
