"""The shape of the code, held by reading it: imports go downwards, the engines stay apart, functions stay short."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
FILES = sorted((SOURCE / "duygu").rglob("*.py"))
LONGEST_FUNCTION = 60
FRAMEWORKS = {"torch", "jax", "jaxlib", "optax", "transformers"}
HEAVY = FRAMEWORKS | {"sklearn", "scipy", "numpy", "rich", "tokenizers", "safetensors", "huggingface_hub", "pyarrow"}
PURE = {"numpy", "scipy", "sklearn"}

# The longest prefix of a module's name gives its floor. A module imports from its own floor or from below.
FLOORS = {
    "duygu": 0,
    "duygu.errors": 0,
    "duygu.files": 1,
    "duygu.recipe": 1,
    "duygu.data.minhash": 2,
    "duygu.data.duplicates": 2,
    "duygu.data.split": 2,
    "duygu.data.split_kinds": 2,
    "duygu.data.windows": 2,
    "duygu.training.plan": 2,
    "duygu.training.parameters": 2,
    "duygu.training.augmentation": 2,
    "duygu.training.guard": 2,
    "duygu.verdict.baselines": 2,
    "duygu.verdict.calibration": 2,
    "duygu.verdict.metrics": 2,
    "duygu.verdict.resampling": 2,
    "duygu.verdict.stats": 2,
    "duygu.data": 3,
    "duygu.models": 3,
    "duygu.engines": 4,
    "duygu.scale.activations": 5,
    "duygu.scale.memory": 5,
    "duygu.scale.adapters_memory": 5,
    "duygu.training": 5,
    "duygu.verdict": 6,
    "duygu.use": 6,
    "duygu.scale": 6,
    "duygu.doctor": 6,
    "duygu.options": 7,
    "duygu.verbs": 7,
    "duygu.cli": 7,
    "duygu.__main__": 8,
}
PURE_ROOMS = {name for name, floor in FLOORS.items() if floor == 2}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, for running or for types; `duygu.engines.torch` in full."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield from {_module_of(node.module, alias.name) for alias in node.names}


def _module_of(package: str, name: str) -> str:
    """What ``from package import name`` imports: a module of that package, or the package, for a name in it."""
    path = SOURCE.joinpath(*package.split("."), name)
    return f"{package}.{name}" if path.with_suffix(".py").is_file() or path.is_dir() else package


def floor(module: str) -> int:
    parts = module.split(".")
    return next(FLOORS[name] for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in FLOORS)


def imported_by(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after a statement."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_go_downwards(path: Path) -> None:
    if module_name(path) == "duygu":
        return  # its names are loaded when they are used; test_importing_duygu_imports_almost_nothing holds that
    upward = [name for name in imports(path) if name.startswith("duygu.") and floor(name) > floor(module_name(path))]
    assert not upward


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_frameworks_are_imported_by_their_engine_only(path: Path) -> None:
    module = module_name(path)
    found = {name.partition(".")[0] for name in imports(path)} & FRAMEWORKS
    allowed = {"torch": {"torch"}, "torch.fallback": {"torch", "transformers"}, "jax": {"jax", "optax"}}
    if module == "duygu.verdict.parity" or module.startswith("duygu.scale.contenders."):
        return  # asks transformers, the reference, or measures a tool, in a process of its own
    name = module.removeprefix("duygu.engines.")
    assert found <= allowed.get(name, allowed.get(name.partition(".")[0], set()))


@pytest.mark.parametrize("engine", ["torch", "jax"])
def test_engines_do_not_import_each_other(engine: str) -> None:
    other = {"torch": "jax", "jax": "torch"}[engine]
    for path in (SOURCE / "duygu" / "engines" / engine).glob("*.py"):
        assert not [name for name in imports(path) if name.startswith((other, f"duygu.engines.{other}"))]
    assert other not in imported_by(f"import duygu.engines.{engine}.engine")


@pytest.mark.parametrize("module", sorted(PURE_ROOMS))
def test_pure_rooms_import_numerics_only(module: str) -> None:
    path = SOURCE / Path(*module.split(".")).with_suffix(".py")
    outside = {name.partition(".")[0] for name in imports(path)} - sys.stdlib_module_names - {"duygu"}
    assert outside <= PURE


@pytest.mark.parametrize("statement", ["import duygu", "import duygu.errors, duygu.recipe", "import duygu.cli"])
def test_importing_duygu_imports_almost_nothing(statement: str) -> None:
    assert not imported_by(statement) & HEAVY


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, f"{path}:{node.lineno} {node.name}"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_modules_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if text:
        docstring = ast.get_docstring(ast.parse(text))
        assert docstring, "no module docstring"
        assert len(docstring.splitlines()) <= 15
