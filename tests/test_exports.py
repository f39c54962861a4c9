"""The public names: all there, each the very object of its room, loaded only when used."""

from __future__ import annotations

import ast
import importlib
import inspect
import tomllib
from pathlib import Path

import pytest

import duygu


@pytest.mark.parametrize("name", duygu.__all__)
def test_public_name_is_its_rooms_object(name: str) -> None:
    value = getattr(duygu, name)
    assert value is getattr(importlib.import_module(value.__module__), name)
    assert inspect.getdoc(value), f"{name} has no docstring"


def test_types_and_values_name_the_same_rooms() -> None:
    """What type checkers read (the imports under TYPE_CHECKING) is what `__getattr__` does."""
    tree = ast.parse(inspect.getsource(duygu))
    shown = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module != "typing" and node.module != "__future__"
        for alias in node.names
    }
    assert shown == duygu._HOME
    assert sorted(shown) == duygu.__all__


def test_public_names_are_listed() -> None:
    assert set(duygu.__all__) <= set(dir(duygu))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'compete'"):
        duygu.compete  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_version_is_the_packages() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert duygu.__version__ == project["project"]["version"]
