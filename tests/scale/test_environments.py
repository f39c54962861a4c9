"""Environments, made for real from a local folder of wheels."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from duygu.scale.environments import (
    ENVIRONMENTS,
    Environment,
    NotAvailable,
    cache_folder,
    here,
    interpreter,
    is_complete,
)

WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
NOTHING: tuple[str, ...] = ()


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the one wheel that there is: benchprobe 1.0, which asks for a package that nobody has."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "benchprobe-1.0.dist-info"
    with zipfile.ZipFile(folder / "benchprobe-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("benchprobe.py", "answer = 42\n")
        metadata = "Metadata-Version: 2.1\nName: benchprobe\nVersion: 1.0\nRequires-Dist: nobody-has-this==9.9\n"
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", WHEEL)
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_an_environment_is_made_once_and_remade_when_its_pins_change(wheels: Path, tmp_path: Path) -> None:
    probe = Environment("probe", (), bare=("benchprobe==1.0",))
    said: list[str] = []
    python = interpreter(probe, NOTHING, tmp_path / "cache", True, said.append)
    code = "import benchprobe, sys; print(benchprobe.answer, sys.prefix)"
    found = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == ["42", str(tmp_path / "cache" / "probe")]
    assert len(said) == 1
    assert interpreter(probe, NOTHING, tmp_path / "cache", True, said.append) == python
    assert len(said) == 1
    changed = Environment("probe", (), bare=("benchprobe==2.0",))
    assert not is_complete(changed, tmp_path / "cache")
    with pytest.raises(NotAvailable, match=r"could not be made.*benchprobe==2\.0"):
        interpreter(changed, NOTHING, tmp_path / "cache", True, said.append)
    assert not is_complete(probe, tmp_path / "cache")  # half made is not made


def test_nothing_is_made_unasked(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match="does not exist"):
        interpreter(ENVIRONMENTS["flax"], NOTHING, tmp_path, False, print)
    assert list(tmp_path.iterdir()) == []


def test_the_running_interpreter_serves_where_it_has_the_pins(tmp_path: Path) -> None:
    import tokenizers

    same = Environment("same", (f"tokenizers=={tokenizers.__version__}", "nobody-has-this==9.9"))
    assert interpreter(same, ("tokenizers",), tmp_path, False, print) == Path(sys.executable)
    other = Environment("other", ("tokenizers==0.0.1",))
    with pytest.raises(NotAvailable):
        interpreter(other, ("tokenizers",), tmp_path, False, print)


def test_a_framework_that_is_not_installed_is_named() -> None:
    assert here(("tokenizers",)) == Path(sys.executable)
    with pytest.raises(NotAvailable, match="nobody-has-this is not installed"):
        here(("nobody-has-this",))


def test_pins_are_exact_for_all_that_is_measured() -> None:
    for environment in ENVIRONMENTS.values():
        assert environment.record.count("==") >= 3, environment.name
        pinned = [pin for pin in (*environment.requirements, *environment.bare) if pin.startswith("torch")]
        assert pinned in ([], ["torch==2.13.0"]), "another torch draws in gigabytes of GPU libraries"


def test_cache_follows_the_users_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "duygu" / "bench"
