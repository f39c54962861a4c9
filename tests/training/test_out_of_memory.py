"""Missing memory, as Python, numpy, PyTorch and JAX really tell of it, ends in three lines that help."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from duygu import cli
from duygu.engines import Placement, open_engine
from duygu.errors import OutOfMemory
from duygu.models.checkpoints import CHECKPOINTS
from duygu.models.presets import PRESETS, recipe_for
from duygu.models.spec import ModelSpec, read_spec
from duygu.recipe import Recipe
from duygu.training import out_of_memory
from duygu.training.out_of_memory import Shortage, Watched, room, shortage
from duygu.training.savings import Demand, alike, gib, otherwise

LABELS = ("a", "b")
GIB = 1 << 30
LIMIT = 900 << 20  # enough to start either engine with, not for a step of 64 times 512 tokens
LONG = {"length": 512, "batch": 64, "epochs": 1, "precision": "fp32"}
CUDA = (
    "CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 15.75 GiB of which 512.00 MiB is "
    "free. Including non-PyTorch memory, this process has 15.20 GiB memory in use."
)


def berturk() -> ModelSpec:
    return read_spec(CHECKPOINTS["berturk"].config, LABELS, "berturk")


def demand(spec: ModelSpec, engine: str = "torch", precision: str = "fp32", **changes: object) -> Demand:
    return Demand(spec, Recipe().changed(changes), engine, precision)


def fields(savings: object) -> list[str]:
    """Names of recipe fields that a text or a list of savings would set."""
    return re.findall(r"--set (\w+)=", str(savings) if isinstance(savings, str) else " ".join(map(str, savings)))  # type: ignore[call-overload]


# ---- recognised ----


def asked_of_python() -> None:
    bytearray(1 << 50)


def asked_of_numpy() -> None:
    np.ones((1 << 20, 1 << 30), np.uint8)


def asked_of_torch() -> None:
    import torch

    torch.empty(1 << 50, dtype=torch.uint8)


def asked_of_jax() -> None:
    import jax.numpy as jnp

    jnp.zeros(1 << 50, jnp.uint8).block_until_ready()


@pytest.mark.parametrize("ask", [asked_of_python, asked_of_numpy, asked_of_torch, asked_of_jax])
def test_what_the_frameworks_raise_is_recognised_with_the_bytes_that_it_names(ask: Callable[[], None]) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011
        ask()
    found = shortage(raised.value)
    assert found is not None
    assert found.asked == (None if ask is asked_of_python else 1 << 50)
    assert found.host == (ask is not asked_of_jax), "JAX's words are the same for a GPU"


def test_cuda_says_what_the_device_has() -> None:
    """The text is PyTorch's; a GPU is not at hand."""
    found = Shortage(asked=3 * GIB // 2, device=int(15.75 * GIB), free=GIB // 2)
    assert shortage(RuntimeError(CUDA)) == found
    there = room(found, on_gpu=True)
    assert (there.bytes, there.words) == (int(15.75 * GIB), "the GPU has 15.8 GiB, 0.5 GiB of them free")


def test_xla_says_sizes_of_either_kind() -> None:
    for text in ("trying to allocate 2.00GiB", "trying to allocate 2147483648 bytes", "allocating 2147483648 bytes."):
        found = shortage(RuntimeError(f"RESOURCE_EXHAUSTED: Out of memory while {text}"))
        assert found == Shortage(asked=2 * GIB), text


def test_other_errors_are_left_as_they_are() -> None:
    for error in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), OSError(28, "no space"), ValueError("x")):
        assert shortage(error) is None


# ---- what lowers it ----


def test_every_knob_that_is_named_lowers_the_sum_and_says_to_what() -> None:
    for spec in (berturk(), read_spec(CHECKPOINTS["mmbert"].config, LABELS, "")):
        for engine in ("torch", "jax"):
            one = demand(spec, engine, length=256)
            savings = [*alike(one, None), *otherwise(one)]
            assert fields(savings)[:2] == ["microbatch", "gradient_checkpointing"]
            for saving in savings:
                assert saving.bytes == one.changed(saving.settings).bytes < one.bytes
                assert gib(saving.bytes) in str(saving)


def test_knobs_are_named_in_order_of_cost_and_only_where_they_apply() -> None:
    one = demand(berturk(), length=256, long="windows", max_windows=4)
    assert fields(alike(one, None)) == ["microbatch", "gradient_checkpointing"]
    assert fields(otherwise(one)) == ["length", "max_windows", "lora_rank", "quantise", "lr", "precision"]
    turned = demand(
        berturk(), "torch", "bf16", microbatch=1, gradient_checkpointing=True, length=32, lora_rank=8, quantise="nf4"
    )
    assert [*alike(turned, None), *otherwise(turned)] == []
    averaged = demand(berturk(), ema=0.99)  # does not go with adapters
    assert "lora_rank" not in fields(otherwise(averaged))


def test_microbatch_is_halved_until_the_sum_surely_fits() -> None:
    one = demand(berturk(), batch=64)
    sums = {count: one.changed({"microbatch": str(count)}).bytes for count in (1, 2, 4, 8, 16, 32)}
    for there, expected in ((None, 32), (10 * one.bytes, 32), (1.12 * sums[8], 8), (sums[8], 4), (1, 1)):
        assert alike(one, there)[0].settings == {"microbatch": str(expected)}


# ---- said ----


class Exhausted:
    """An engine that has no memory for anything."""

    name, static_shapes = "torch", False

    def start(self, *_: object) -> None:
        raise RuntimeError(CUDA)

    def peak_bytes(self) -> int:
        return 1


def test_a_gpu_that_is_full_is_told_in_three_lines() -> None:
    spec, recipe = berturk(), Recipe()
    needed = demand(spec, "torch", "bf16").bytes
    with pytest.raises(OutOfMemory) as raised:
        Watched(Exhausted()).start(spec, {}, recipe, Placement("bf16", 0, "gpu"))  # type: ignore[arg-type]
    problem, where, fix = str(raised.value).splitlines()
    assert problem == (
        f"out of memory: training needs some {gib(needed)}, and the GPU has 15.8 GiB, 0.5 GiB of them free; it failed "
        "asking for 1.5 GiB more"
    )
    assert where == "  where: loading the weights, torch bf16 on the GPU"
    assert fix.startswith("  fix:   go on: --resume with --set microbatch=8 (")
    assert "precision" not in fields(fix)


def test_scoring_names_the_engine_that_takes_less() -> None:
    engine = open_engine("jax")
    watched = Watched(engine, Recipe(length=256))
    watched.started = demand(berturk(), "jax")
    explained = watched._explained(watched.started, "scoring", Shortage())
    assert explained.problem.startswith("out of memory: scoring needs some ")
    assert re.match(r"--engine torch --precision fp32 \(\d.\d GiB\)", explained.fix)
    watched.scores, watched.started = Recipe(length=8), replace(watched.started, engine="torch")
    assert "--set" not in watched._explained(watched.started, "scoring", Shortage()).fix


def test_memory_that_misses_elsewhere_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.duygu, "main", lambda *_, **__: bytearray(1 << 50))
    assert cli.main(["models"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


# ---- provoked ----


@pytest.fixture(scope="module")
def long_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 texts that fill 512 tokens, none of them like another."""
    folder, random = tmp_path_factory.mktemp("long"), np.random.default_rng(0)
    for label in LABELS:
        (folder / label).mkdir()
        for number in range(50):
            letters = random.choice(list("adeiklmnorst"), (300, 5))
            (folder / label / f"{number:02}.txt").write_text(" ".join(map("".join, letters)), encoding="utf-8")
    return folder


def train_within(limit: int, texts: Path, engine: str, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``duygu train`` in a process that may have so many bytes of data."""
    settings = [word for name, value in LONG.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "duygu", "train", str(texts), "--engine", engine, "--model", "tiny"]
    command += ["--out", str(out), "--threads", "1", *settings, *words]
    limited = ["sh", "-c", f'ulimit -d {limit >> 10}; exec "$@"', "sh", *command]
    return subprocess.run(limited, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere this limits less")
@pytest.mark.parametrize("engine", ["torch", "jax"])
def test_training_that_does_not_fit_is_told_in_three_lines(engine: str, long_texts: Path, tmp_path: Path) -> None:
    """The oracle of the sum is the prediction; of the advice the run that takes it within the same limit."""
    pytest.importorskip(engine)
    failed = train_within(LIMIT, long_texts, engine, tmp_path / "run")
    assert failed.returncode == 2, failed.stderr
    problem, where, fix = failed.stderr.splitlines()[-3:]
    spec = PRESETS["tiny"].spec(PRESETS["tiny"].vocabulary, 0, LABELS)
    needed = Demand(spec, recipe_for("tiny").changed(LONG), engine, "fp32").bytes
    assert problem.startswith(f"out of memory: training needs some {gib(needed)}, and this process may have 0.9 GiB")
    assert "failed asking for" in problem
    assert where == f"  where: training step 1 (64 documents, 32,768 tokens at once), {engine} fp32 on the CPU"
    advice = re.match(r"  fix:   go on: --resume with --set microbatch=(\d+) \(", fix)
    assert advice, fix
    assert "Traceback" not in failed.stderr
    if engine == "torch":
        smaller = ("--resume", "--set", f"microbatch={advice[1]}")
        went_on = train_within(LIMIT, long_texts, engine, tmp_path / "run", *smaller)
        assert went_on.returncode in (0, 3), went_on.stderr
        assert (tmp_path / "run" / "metrics.json").is_file()


def test_the_limit_of_the_process_counts_where_it_is_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out_of_memory, "memory", lambda: (8 * GIB, 4 * GIB))
    monkeypatch.setattr(out_of_memory, "resident_memory", lambda: GIB)
    for limit, expected in ((None, 5 * GIB), (6 * GIB, 5 * GIB), (3 * GIB, 3 * GIB)):
        monkeypatch.setattr(out_of_memory, "own_limit", lambda limit=limit: limit)
        there = room(Shortage(), on_gpu=False)
        assert there.bytes == expected
        assert ("ulimit" in there.words) == (limit == expected)
