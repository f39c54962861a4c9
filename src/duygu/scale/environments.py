"""One virtual environment per peer, made when it is first needed and kept in the user's cache folder.

Peers need versions that clash with one another and with duygu's own, so none of them is ever installed beside it. An
environment is complete when its record is there and equal to the pins below; anything else is made afresh. Where the
interpreter that runs duygu has exactly the pinned packages that a contender needs, it is used as it is.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from duygu.errors import DuyguError
from duygu.files import make_folder, on_disk, read_text, write_text

RECORD = "requirements.txt"  # inside an environment: what it was made of, written last
LOG_LINES = 3  # of pip's last words, quoted where it fails
TORCH = "torch==2.13.0"


class NotAvailable(DuyguError):
    """An environment that is not there and cannot, or may not, be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A name and the exact versions that are installed under it."""

    name: str
    requirements: tuple[str, ...]
    bare: tuple[str, ...] = ()  # installed without what they ask for, which would draw in what nobody uses here

    @property
    def record(self) -> str:
        """The text that tells a complete environment."""
        return "\n".join([f"# Python {sys.version.split()[0]}", *self.requirements, *self.bare, ""])


ENVIRONMENTS: Mapping[str, Environment] = {
    environment.name: environment
    for environment in (
        Environment("transformers", (TORCH, "transformers==5.23.0", "accelerate==1.15.0", "numpy==2.4.6")),
        # The last transformers with Flax. Its own limits say jax 0.4.13, but it works with duygu's own JAX, and faster.
        Environment(
            "flax",
            (
                "transformers==4.57.6", "jax==0.10.2", "jaxlib==0.10.2", "flax==0.12.8", "optax==0.2.8",
                "numpy==2.4.6",
            ),
        ),
        Environment(
            "kerashub",
            (
                TORCH, "jax==0.10.2", "jaxlib==0.10.2", "keras==3.15.1", "numpy==2.4.6", "regex", "tokenizers",
                "sentencepiece", "safetensors==0.8.0", "kagglehub", "requests",
                "grain==0.2.18",
            ),
            bare=("keras-hub==0.32.0",),
        ),
        Environment(
            "onnxruntime",
            (
                TORCH, "transformers==5.23.0", "numpy==2.4.6", "onnx==1.23.2", "onnxscript==0.7.2",
                "onnxruntime==1.31.1",
            ),
        ),
        Environment("openvino", ("openvino==2026.4.1", "nncf==3.4.0", "tokenizers==0.23.3")),
    )
}  # fmt: skip


def interpreter(
    environment: Environment, needs: Sequence[str], cache: Path, create: bool, say: Callable[[str], None]
) -> Path:
    """The Python that runs a contender of ``environment`` that imports ``needs``. Raises `NotAvailable`.

    ``cache`` holds one folder per environment; without ``create`` only what exists is used.
    """
    if _as_pinned(environment, needs):
        return Path(sys.executable)
    folder = cache / environment.name
    if is_complete(environment, cache):
        return _python(folder)
    if not create:
        raise NotAvailable(f"its environment {environment.name} does not exist, and none is made now")
    say(f"making the environment {environment.name} in {folder}")
    _make(environment, folder)
    return _python(folder)


def here(needs: Sequence[str]) -> Path:
    """The interpreter that runs duygu, if it has the packages of ``needs``. Raises `NotAvailable`."""
    for name in needs:
        if _installed(name) is None:
            raise NotAvailable(f"{name} is not installed: pip install '{_extra(name)}'")
    return Path(sys.executable)


def is_complete(environment: Environment, cache: Path) -> bool:
    """Whether the environment exists and is made of today's pins."""
    record = cache / environment.name / RECORD
    return record.is_file() and read_text(record) == environment.record


def cache_folder() -> Path:
    """Where environments, models and exports of the bench are kept; it may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duygu" / "bench"


def _extra(package: str) -> str:
    return f"duygu[{package}]" if package in ("torch", "jax") else package


def _as_pinned(environment: Environment, needs: Sequence[str]) -> bool:
    """Whether this interpreter has the packages of ``needs`` in exactly the pinned versions."""
    pins = {pin.partition("==")[0]: pin.partition("==")[2] for pin in environment.requirements}
    return bool(needs) and all(_installed(name) == pins[name] for name in needs)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name).partition("+")[0]  # without a build's own mark, as in 2.13.0+cpu
    except importlib.metadata.PackageNotFoundError:
        return None


def _make(environment: Environment, folder: Path) -> None:
    with on_disk(folder):
        shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder.parent)
    _call([sys.executable, "-m", "venv", str(folder)], environment.name)
    pip = [str(_python(folder)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if environment.requirements:
        _call([*pip, *environment.requirements], environment.name)
    if environment.bare:
        _call([*pip, "--no-deps", *environment.bare], environment.name)
    write_text(folder / RECORD, environment.record)


def _call(command: Sequence[str], name: str) -> None:
    """Run a command to its end; its last words become the reason where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        words = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise NotAvailable(f"its environment {name} could not be made: {' | '.join(words[-LOG_LINES:])}")


def _python(folder: Path) -> Path:
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"
