"""Real runs of two models: what is trained, what is kept, and that nothing is trained twice."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from duygu.data.tokens import TextTokenizer
from duygu.models.folder import write_model
from duygu.models.spec import read_spec, tensor_shapes
from duygu.models.weights import initialise
from duygu.recipe import Recipe
from duygu.verdict import processes
from duygu.verdict.compare import CompareRequest, compare
from duygu.verdict.request import recorded

DISTILBERT = {"model_type": "distilbert", "n_layers": 1, "dim": 32, "n_heads": 2, "hidden_dim": 64}


def small_model(folder: Path, texts: Path) -> Path:
    """A DistilBERT with random weights, and a tokenizer other than that of ``tiny``."""
    tokenizer = TextTokenizer.train([path.read_text(encoding="utf-8") for path in sorted(texts.glob("*/*"))], 90)
    config = {**DISTILBERT, "vocab_size": tokenizer.vocabulary, "max_position_embeddings": 64}
    spec = read_spec(config, ("a", "b"), "config.json")
    tensors = ((name, initialise(name, shape, spec, 0)) for name, shape in tensor_shapes(spec).items())
    write_model(folder, spec, tensors, tokenizer, 64, 1.0)
    return folder


def test_two_models_are_trained_by_their_own_recipes_and_a_second_run_repeats_nothing(
    texts: Path,
    tmp_path: Path,
    duygu: Callable[..., subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, out = small_model(tmp_path / "small one", texts), tmp_path / "out"
    few = ("--set", "epochs=1", "--set", "length=16", "--threads", 1)
    done = duygu("compare", texts, "--model", f"tiny,{model}", "--engines", "torch", "--out", out, *few)
    assert done.returncode in (0, 3), done.stderr
    assert "[2/2] small-one, PyTorch, seed 13" in done.stderr
    found = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert [run["folder"] for run in found["runs"]] == ["runs/tiny-torch-13", "runs/small-one-torch-13"]
    recipes = {name: Recipe.from_toml((out / "recipes" / f"{name}.toml").read_text()) for name in found["models"]}
    assert (recipes["tiny"].lr, recipes["small-one"].lr) == (1e-3, 2e-5)
    assert recipes["tiny"].epochs == recipes["small-one"].epochs == 1
    assert (out / "start" / "small-one" / "model.safetensors").samefile(model / "model.safetensors")
    tokens = {one["data"]["tokens"] for one in found["models"].values()}
    assert len(tokens) == 2
    (pair,) = found["model_pairs"]
    assert (pair["a"], pair["b"], pair["documents"]) == ("tiny", "small-one", found["runs"][0]["test"]["documents"])
    assert [one["name"] for one in found["baselines"]] == ["majority", "linear"]

    said: list[str] = []
    monkeypatch.setattr(processes.subprocess, "Popen", None)  # whatever starts a process now, fails
    again = compare(CompareRequest(**{**recorded(out), "out": out, "resume": True}), said.append)
    assert [line for line in said if "finished before" in line] == [
        "[1/2] tiny, PyTorch, seed 13: finished before", "[2/2] small-one, PyTorch, seed 13: finished before",
    ]  # fmt: skip
    assert json.loads(json.dumps(again)) == found
