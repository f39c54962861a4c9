"""An engine whose framework is not installed is told with the command that installs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from duygu.models.families import FAMILIES
from tests.mistakes.model_mistakes import write_texts
from tests.models.fallback_models import write_folder


@pytest.mark.parametrize(("engine", "absent"), [("torch", "torch"), ("jax", "jax"), ("jax", "optax")])
def test_a_missing_framework_is_told_with_the_pip_command(engine: str, absent: str, tmp_path: Path) -> None:
    words = ["train", write_texts(tmp_path), "--engine", engine, "--model", "tiny", "--out", "run"]
    program = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from duygu.cli import main
sys.exit(main({words!r}))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"the {engine} engine needs {absent}, which is not installed",
        f"  where: --engine {engine}",
        f"  fix:   pip install 'duygu[{engine}]'",
    ]


def test_a_family_without_a_twin_names_the_package_that_it_needs(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", "convbert")
    words = ["train", write_texts(tmp_path), "--engine", "torch", "--model", "model", "--out", "run"]
    program = f"""
import sys
sys.modules["transformers"] = None  # as where it is not installed
from duygu.cli import main
sys.exit(main({words!r}))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    problem, where, fix = done.stderr.splitlines()[-3:]
    assert problem.endswith("runs through transformers (fallback), but transformers is not installed")
    assert where == "  where: model/config.json: model_type"
    assert fix == f"  fix:   pip install 'duygu[torch,transformers]', or choose a model of: {', '.join(FAMILIES)}"
