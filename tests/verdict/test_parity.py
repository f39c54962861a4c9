"""Parity holds on sound engines and fails, with exit code 3, on each mistake that a port can make."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from duygu.data.corpus import read_corpus
from duygu.data.windows import Windows
from duygu.engines import Engine, open_engine
from duygu.models.folder import write_model
from duygu.models.spec import ModelSpec, tensor_shapes
from duygu.models.weights import initialise
from duygu.recipe import Recipe
from duygu.verdict import parity
from duygu.verdict.parity import Measurement, Request, judge, measure

Tensors = Mapping[str, np.ndarray]
Change = Callable[[ModelSpec, Tensors], tuple[ModelSpec, Tensors]]


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> Request:
    """A random tiny model whose logits are of order 1, and documents of one length, so JAX compiles few shapes.

    Its embeddings are small beside its other weights, as in real checkpoints, where a wrong eps shows first.
    """
    from duygu.data.tokens import TextTokenizer

    folder = tmp_path_factory.mktemp("parity") / "model"
    tokenizer = TextTokenizer.train(["kar zarar artan azalan borsa"], 60)
    spec = ModelSpec(
        family="bert", vocabulary=tokenizer.vocabulary, positions=32, segments=2, layers=2, hidden=24, heads=3,
        intermediate=40, activation="gelu", norm_eps=1e-12, dropout=0.1, attention_dropout=0.1,
        classifier_dropout=0.1, initializer_range=0.2, pad_id=0, labels=("a", "b"),
    )  # fmt: skip
    shapes = tensor_shapes(spec).items()
    tensors = ((name, initialise(name, shape, spec, 5) * (0.1 if "_emb" in name else 1)) for name, shape in shapes)
    write_model(folder, spec, tensors, tokenizer, 32, 0.75)
    random = np.random.default_rng(0)
    ids = tuple(random.integers(5, tokenizer.vocabulary, 16).astype(np.int32) for _ in range(16))
    recipe = Recipe(epochs=4, batch=16, lr=1e-3)
    return Request(str(folder), ids, (np.arange(16) % 2).astype(np.int32), recipe, 4)


@pytest.fixture(scope="module")
def torch_side(request_: Request) -> Measurement:
    return measure("torch", request_)


def tampered(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """The jax engine starts from a changed spec or tensors."""
    real = open_engine

    def opened(name: str, threads: int = 0) -> Engine:
        engine = real(name, threads)
        if name == "jax":
            start = engine.start
            monkeypatch.setattr(engine, "start", lambda spec, tensors, *rest: start(*change(spec, tensors), *rest))
        return engine

    monkeypatch.setattr(parity, "open_engine", opened)


def perturbed(spec: ModelSpec, tensors: Tensors) -> tuple[ModelSpec, Tensors]:
    """One weight of one tensor, by a hundredth."""
    changed = {name: tensors[name].copy() for name in tensors}
    changed["bert.encoder.layer.1.output.dense.weight"][3, 4] += 0.01
    return spec, changed


MISTAKES: dict[str, Change] = {
    "one weight perturbed": perturbed,
    "tanh GELU": lambda spec, tensors: (replace(spec, activation="gelu_tanh"), tensors),
    "norm eps": lambda spec, tensors: (replace(spec, norm_eps=1e-5), tensors),
    "dropout rate": lambda spec, tensors: (replace(spec, dropout=0.11), tensors),
}


def test_engines_and_transformers_agree(request_: Request, torch_side: Measurement) -> None:
    result = judge([torch_side, measure("jax", request_), measure("transformers", request_)])
    assert result.passed, result.checks
    assert np.abs(torch_side.logits).max() > 0.3
    assert len({check.name for check in result.checks}) == 5
    assert [c.parties for c in result.checks if c.name.startswith("logits")] == [
        "torch / jax", "torch / transformers", "jax / transformers",
    ]  # fmt: skip


def test_engines_and_transformers_agree_on_windows(request_: Request, torch_side: Measurement) -> None:
    divided = replace(request_, windows=Windows(length=9, step=5, most=9, before=1, after=1))
    result = judge([one := measure("torch", divided), measure("jax", divided), measure("transformers", divided)])
    assert result.passed, result.checks
    assert np.abs(one.logits - torch_side.logits).max() > 1e-2, "read whole they are others"


@pytest.fixture
def adapted(request_: Request, texts: Path, tmp_path: Path) -> Request:
    """What the command prepares for a recipe with adapters on weights of 4 bits."""
    settings = {"lora_rank": "4", "quantise": "nf4-double", "lora_dropout": "0.1", "lr": "1e-2", "length": "32"}
    return parity._prepare(request_.model, read_corpus(texts), tmp_path, 4, 16, 13, settings, 1)


def test_engines_and_transformers_agree_on_adapters(adapted: Request) -> None:
    """Both train adapters, not the head alone; transformers computes with the numbers that the 4 bits stand for."""
    one, other, reference = (measure(party, adapted) for party in ("torch", "jax", "transformers"))
    result = judge([one, other, reference])
    assert result.passed, result.checks
    assert sum("lora_B" in name and np.abs(x).max() > 0 for name, x in one.gradients.items()) == 12
    assert not any(name.endswith("query.weight") for name in one.gradients)
    whole = parity._reference_logits(replace(adapted, reference=""))
    assert np.abs(whole - reference.logits).max() > 1e-4, "in full the weights are others"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_is_seen(
    request_: Request, torch_side: Measurement, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tampered(monkeypatch, MISTAKES[mistake])
    result = judge([torch_side, measure("jax", request_)])
    assert not result.passed
    assert result.as_json()["passed"] is False


def test_command_exits_3_when_the_engines_differ(
    request_: Request, texts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both engines in this process, since a spawned one would not see the mistake made here."""
    from duygu.cli import main

    monkeypatch.setattr(parity, "_in_own_process", measure)
    arguments = ["parity", request_.model, str(texts), "--steps", "1", "--documents", "4"]
    assert main(arguments) == 0
    for mistake, change in MISTAKES.items():
        with monkeypatch.context() as patch:
            tampered(patch, change)
            assert main(arguments) == 3, mistake
        assert "differ" in capsys.readouterr().err


def test_a_process_that_dies_is_an_error_and_not_a_hang(request_: Request) -> None:
    from duygu.errors import UserError

    with pytest.raises(UserError):
        parity._in_own_process("torch", replace(request_, model=request_.model + "-gone"))


def test_a_party_that_the_system_killed_is_said_to_be() -> None:
    assert "killed by SIGKILL, most likely" in str(parity._silent("jax", -signal.SIGKILL))
    assert str(parity._silent("jax", 1)) == "the jax process ended without an answer"
