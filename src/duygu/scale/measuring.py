"""One contender, one process, one answer: the job is written, the script runs in its environment, the answer is read.

Every process has the same threads, sees no GPU, reaches no network for models, and compiles into a cache of the
bench's own, which is empty before its first round.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duygu
from duygu.errors import DuyguError
from duygu.files import make_folder, new_folder, on_disk
from duygu.scale.roster import Contender, arithmetic
from duygu.scale.workloads import Part

SCRIPTS = Path(__file__).parent / "contenders"
LIMIT = 3600  # seconds after which a process counts as hung
WORDS = 300  # characters of a failed process's last words that are kept
SETTINGS = {
    "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}  # fmt: skip
FILES = {
    "onnxruntime": {"fp32": "fp32.onnx", "int8": "int8.onnx"},
    "openvino": {"fp32": "fp32.xml", "bf16": "fp32.xml", "int8": "int8.xml"},
}
EXPORTS = {"onnxruntime": "export_onnx", "openvino": "export_openvino"}
CALIBRATION = 128  # texts that OpenVINO's int8 is fitted to


class Failed(DuyguError):
    """A process ended without an answer; the message holds its last words."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What is the same for every process of a bench."""

    cache: Path
    threads: int
    low: str  # the low precision that pays on this processor, or fp32


def measure(bench: Bench, contender: Contender, part: Part, python: Path) -> dict[str, Any]:
    """Run the contender once. Raises `Failed`."""
    precision = arithmetic(contender, bench.low)
    options = {**contender.options, "precision": precision}
    if contender.export is not None:
        options["file"] = str(part.model.folder / contender.export / FILES[contender.export][precision])
    compiled = compile_cache(bench, contender, part) if contender.compiles else None
    return _run(bench, contender.script, part, python, options, contender.ours, compiled)


def compile_cache(bench: Bench, contender: Contender, part: Part) -> Path:
    """Where a contender keeps what it compiled from round to round."""
    return bench.cache / "compiled" / f"{part.name.replace(' ', '-')}-{contender.name}"


def forget_compiled(bench: Bench, contender: Contender, part: Part) -> None:
    """Let the contender's next round begin with nothing compiled."""
    folder = compile_cache(bench, contender, part)
    with on_disk(folder):
        shutil.rmtree(folder, ignore_errors=True)


def export(bench: Bench, tool: str, part: Part, python: Path) -> None:
    """Make the files that a runtime reads, unless they are there. Raises `Failed`."""
    target = part.model.folder / tool
    if target.is_dir():
        return
    with new_folder(target, manifest=False) as folder:
        options = {
            "folder": str(folder),
            "onnx": str(part.model.folder / "onnxruntime" / "exported.onnx"),
            "calibration": CALIBRATION,
        }
        answer = _run(bench, EXPORTS[tool], part, python, options, False, None)
        (folder / "export.json").write_text(json.dumps(answer), encoding="utf-8")


def _run(
    bench: Bench,
    script: str,
    part: Part,
    python: Path,
    options: Mapping[str, object],
    ours: bool,
    compiled: Path | None,
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="duygu-bench-") as name:
        folder = Path(name)
        job = {
            "model": str(part.model.model), "plain": str(part.model.plain), "input": str(part.input),
            "threads": bench.threads, "options": dict(options), "answer": str(folder / "answer.json"),
        }  # fmt: skip
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        command = [str(python), str(SCRIPTS / f"{script}.py"), str(folder / "job.json")]
        _call(command, _environment(ours, compiled), folder)
        return json.loads((folder / "answer.json").read_text(encoding="utf-8"))


def _call(command: list[str], environment: Mapping[str, str], folder: Path) -> None:
    """Run a script to its end. Its words go to a file, as a full pipe would stop it."""
    log = folder / "words.txt"
    with log.open("wb") as words:
        try:
            done = subprocess.run(
                command, stdout=words, stderr=subprocess.STDOUT, env=environment, cwd=folder, timeout=LIMIT, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"no answer within {LIMIT} seconds") from error
    if done.returncode or not (folder / "answer.json").is_file():
        last = " | ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:])
        raise Failed(f"{_end(done.returncode)}: {last[-WORDS:] or 'it said nothing'}")


def _end(code: int) -> str:
    """How a process ended."""
    if code >= 0:
        return f"exit code {code}"
    likely = ", most likely because memory ran out" if code == -signal.SIGKILL else ""
    return f"killed by {signal.Signals(-code).name}{likely}"


def _environment(ours: bool, compiled: Path | None) -> dict[str, str]:
    """This process's variables, without those that would lead a script to another tool's packages."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | SETTINGS
    if ours:
        variables["PYTHONPATH"] = str(Path(duygu.__file__).parent.parent)
    if compiled is not None:
        make_folder(compiled)
        variables["XDG_CACHE_HOME"] = str(compiled)  # duygu keeps its own cache below
        if not ours:
            variables["JAX_COMPILATION_CACHE_DIR"] = str(compiled)
    return variables
