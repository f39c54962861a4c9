"""The README says what is true: every example in it runs as written, and its file tree names every file."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from duygu import cli
from duygu.cli import duygu
from tests.models.small_models import write_model_folder

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ELSEWHERE = {"demo": "tests/test_cli.py runs it in make test-all", "bench": "tests/scale runs it on a small model"}
EXAMPLES = [line.split("  #")[0].strip() for line in README.splitlines() if line.startswith("duygu ")]


@pytest.fixture(scope="module", autouse=True)
def desk(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which the examples find what they name; they run one after the other, as a reader would."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(texts, folder / "texts")
    shutil.copytree(texts, folder / "other-texts")
    write_model_folder(folder / "checkpoint", max_position_embeddings=256)
    files = sorted((folder / "texts").rglob("*.txt"))
    rows = [f'"{file.read_text(encoding="utf-8")}",{file.parent.name}' for file in files]
    (folder / "news.csv").write_text("\n".join(["body,mood", *rows]) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_runs(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    verb = example.split()[1]
    if verb in ELSEWHERE:
        pytest.skip(ELSEWHERE[verb])
    arguments = [part.strip('"') for part in re.findall(r'"[^"]*"|\S+', example)[1:]]
    assert cli.main(arguments) in (0, 3), capsys.readouterr().err  # two epochs may end in a collapse, and say so
    assert capsys.readouterr().out


def test_python_example_runs(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.splitlines()) <= 12
    exec(compile(code, "README.md", "exec"), {})
    assert "95 % interval" in capsys.readouterr().out
    assert (desk / "run-py" / "model" / "model.safetensors").exists()


def test_every_verb_has_an_example() -> None:
    assert {example.split()[1] for example in EXAMPLES} == set(duygu.commands)


def test_tree_names_every_file() -> None:
    tree = README[README.index("```\nsrc/duygu/") :]
    for path in (ROOT / "src" / "duygu").rglob("*.py"):
        if path.name not in ("__init__.py", "__main__.py") and path.parent.name not in ("verbs", "contenders"):
            assert path.name in tree, path


def test_every_file_that_is_named_exists() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README) + re.findall(r"`(tests/[\w/]+(?:\.py)?)`", README):
        assert (ROOT / link).exists(), link
