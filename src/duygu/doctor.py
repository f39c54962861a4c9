"""What duygu finds on this machine: packages, frameworks and devices, memory, caches, the hub; and what is missing.

The frameworks are asked in processes of their own, with a time limit, and nothing heavy is imported here, so this
answers on a machine where nothing else works. `examine` gives plain values; `duygu.verbs.doctor` shows them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from duygu import __version__
from duygu.errors import ModelError, RecipeError, without_login
from duygu.files import read_json
from duygu.models.checkpoints import CHECKPOINTS
from duygu.models.presets import PRESETS
from duygu.models.spec import ModelSpec, read_spec
from duygu.recipe import Recipe
from duygu.training.machine import cores, gpus, memory, processor, read_system

Report = dict[str, Any]
Say = Callable[[str], None]

ENGINES = {"torch": "PyTorch", "jax": "JAX"}  # `duygu.engines` has the names too, but brings numpy along
PROBE_SECONDS = 60  # a framework that has not answered by then hangs
HUB_SECONDS = 3.0
HUB = "https://huggingface.co"
CACHE_FILES = 200_000  # files of a cache that are counted
FLAGS = {  # as Linux names them: what each makes faster
    "avx2": "fp32",
    "avx512f": "fp32",
    "avx512_bf16": "bf16",
    "amx_bf16": "bf16, much",
    "bf16": "bf16, on ARM",
}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC", "XLA_FLAGS", "JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES")
UNASKED = {"all", "test", "bench"}  # extras that name no single purpose of a user
KNOWN = {  # packages by extra, where duygu runs from its source folder and has no requirements to read
    "": ("numpy", "scipy", "scikit-learn", "tokenizers", "safetensors", "huggingface_hub", "rich", "click"),
    "torch": ("torch",),
    "jax": ("jax", "jaxlib", "optax"),
    "transformers": ("transformers",),
}
LABELS = ("one", "other")  # of a model whose memory is asked for: too few weights to matter
OPTIONAL = {"transformers": "for families without a twin; duygu parity asks it too"}


def examine(say: Say, asked: Iterable[str] = tuple(ENGINES)) -> Report:
    """Everything but the prediction of memory, of the engines ``asked``; ``say`` hears what is being waited for."""
    found = packages()
    engines = [ask_engine(name, say) for name in asked]
    say("asking the hub")
    return {
        "schema": 1,
        "python": platform.python_version(),
        "duygu": __version__,
        "packages": found,
        "engines": engines,
        "gpus": gpus(),
        "machine": machine(),
        "caches": caches(),
        "hub": hub(),
        "missing": missing(found, engines),
    }


def packages() -> list[Report]:
    """Every package that duygu uses: its version or None, the least that is needed, who needs it, how to install it."""
    needed = {name: ("", extra) for extra, names in KNOWN.items() for name in names}
    needed |= {name: (least, extra) for name, least, extra in _requirements()}
    return [
        _package(name, least, extra or "core", f"pip install 'duygu[{extra}]'" if extra else "pip install duygu")
        for name, (least, extra) in needed.items()
    ]


def ask_engine(name: str, say: Say) -> Report:
    """What an engine finds, asked in a process that ends at once; ``problem`` says why it does not answer."""
    report: Report = {"engine": name, "installed": importlib.util.find_spec(name) is not None, "problem": None}
    if not report["installed"]:
        return {**report, "problem": "not installed"}
    say(f"asking {ENGINES[name]} what it finds")
    command = [sys.executable, "-m", "duygu.engines", name]
    quiet = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=quiet, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {**report, "problem": f"no answer within {PROBE_SECONDS} seconds"}
    if done.returncode:
        reason = done.stderr.strip().rpartition("Error: ")[2].splitlines()[:1] or [f"exit code {done.returncode}"]
        return {**report, "problem": f"does not start: {reason[0]}"}
    return {**report, **json.loads(done.stdout.splitlines()[-1])}


def machine() -> Report:
    """Processor, cores, memory and disk; None where the system does not tell."""
    total, free = memory()
    return {
        "platform": platform.platform(),
        "processor": processor(),
        "cores": cores(),
        "logical_cores": os.cpu_count(),
        "flags": cpu_flags(),
        "variables": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        "memory_bytes": total,
        "memory_free_bytes": free,
        "disk_free_bytes": _disk_free(Path.cwd()),
    }


def cpu_flags() -> dict[str, bool] | None:
    """Which of `FLAGS` the processor has; None where the system does not tell."""
    line = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", read_system("/proc/cpuinfo"), re.MULTILINE)
    return None if line is None else {name: name in line[1].split() for name in FLAGS}


def caches() -> list[Report]:
    """What is kept between runs, where, and how large it has become."""
    places = {
        "compiled by JAX": Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or _cache_home() / "duygu" / "jax"),
        "models of the hub": _hub_cache(),
        "weights in 4 bits": _cache_home() / "duygu" / "nf4",
    }
    return [_cache(name, path) for name, path in places.items()]


def hub() -> Report:
    """Whether models can be fetched: ``state`` is reachable, unreachable or offline (asked to be)."""
    endpoint = os.environ.get("HF_ENDPOINT") or HUB
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE"):
            return {"endpoint": without_login(endpoint), "state": "offline", "detail": f"{variable} is set"}
    answers: list[tuple[str, str]] = []
    waiting = threading.Thread(target=lambda: answers.append(_reach(endpoint)), daemon=True)
    waiting.start()  # resolving a name knows no time limit of its own
    waiting.join(HUB_SECONDS + 0.5)
    state, detail = answers[0] if answers else ("unreachable", f"no answer within {HUB_SECONDS:.0f} seconds")
    return {"endpoint": without_login(endpoint), "state": state, "detail": detail}


def missing(found: list[Report], engines: list[Report]) -> list[Report]:
    """What is not there, too old or broken, and the command that mends it; one entry a command."""
    wrong: dict[str, list[str]] = {}
    for package in found:
        if package["version"] is None:
            optional = f" (optional: {OPTIONAL[package['name']]})" if package["name"] in OPTIONAL else ""
            wrong.setdefault(package["install"], []).append(package["name"] + optional)
        elif package["too_old"]:
            what = f"{package['name']} {package['version']} is older than {package['least']}"
            wrong.setdefault(package["install"], []).append(what)
    for engine in engines:
        if engine["installed"] and engine["problem"]:
            command = f"pip install --force-reinstall 'duygu[{engine['engine']}]'"
            wrong.setdefault(command, []).append(f"{ENGINES[engine['engine']]} {engine['problem']}")
    return [{"what": ", ".join(names), "install": command} for command, names in wrong.items()]


def shape_of(model: str, recipe: Recipe) -> ModelSpec:
    """The shape of a preset, a model folder, a run's model, or a hub model whose config was fetched before.

    Raises `UserError`, also for a recipe that the model is too short for.
    """
    if model in PRESETS:
        spec = PRESETS[model].spec(PRESETS[model].vocabulary, 0, LABELS)
    elif model in CHECKPOINTS:
        spec = read_spec(CHECKPOINTS[model].config, LABELS, model)
    else:
        config = _config(model)
        spec = read_spec(read_json(config, error=ModelError), LABELS, str(config))
    if recipe.length > spec.positions:
        problem = f"length = {recipe.length}, but the model has {spec.positions} positions"
        raise RecipeError(problem, "recipe field length", f"--set length={spec.positions}")
    return spec


def _config(model: str) -> Path:
    """The model's config.json; of several commits of a hub model the newest that was fetched."""
    snapshots = _hub_cache() / f"models--{model.partition('@')[0].replace('/', '--')}" / "snapshots"
    places = [Path(model) / "config.json", Path(model) / "model" / "config.json", *snapshots.glob("*/config.json")]
    found = [path for path in places if path.is_file()]
    if not found:
        fix = "give a folder with config.json, a hub model that was fetched before, or a preset"
        raise ModelError("there is no config.json", f"--model {model}", fix)
    return found[0] if found[0] in places[:2] else max(found, key=lambda path: path.stat().st_mtime)


def _hub_cache() -> Path:
    home = Path(os.environ.get("HF_HOME") or _cache_home() / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub")


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _requirements() -> Iterator[tuple[str, str, str]]:
    """(package, least version, extra) of this installation; nothing where duygu runs from its source folder."""
    with suppress(importlib.metadata.PackageNotFoundError):
        for line in importlib.metadata.requires("duygu") or ():
            name = re.match(r"[\w.-]+", line)
            least, extra = (re.search(pattern, line) for pattern in (r">=\s*([\d.]+)", r"extra\s*==\s*['\"]([\w-]+)"))
            if name and (extra is None or extra[1] not in UNASKED):
                yield (
                    name[0].replace("huggingface-hub", "huggingface_hub"),
                    least[1] if least else "",
                    (extra[1] if extra else ""),
                )


def _package(name: str, least: str, purpose: str, command: str) -> Report:
    version = None
    with suppress(importlib.metadata.PackageNotFoundError):
        version = importlib.metadata.version(name)
    old = bool(version and least) and _numbers(version or "") < _numbers(least)
    return {
        "name": name, "version": version, "least": least or None, "purpose": purpose, "too_old": old,
        "install": command,
    }  # fmt: skip


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.13.0+cpu" gives (2, 13, 0)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _reach(endpoint: str) -> tuple[str, str]:
    """State and detail of the hub, asked once."""
    import urllib.error
    import urllib.request

    if not endpoint.startswith(("https://", "http://")):
        return "unreachable", "HF_ENDPOINT is not an address that starts with https://"
    try:
        request = urllib.request.Request(endpoint, method="HEAD")
        with urllib.request.urlopen(request, timeout=HUB_SECONDS) as answer:
            return "reachable", f"HTTP {answer.status}"
    except urllib.error.HTTPError as error:
        return "reachable", f"HTTP {error.code}"
    except (OSError, ValueError) as error:
        return "unreachable", str(getattr(error, "reason", error))


def _cache(name: str, path: Path) -> Report:
    """A folder's size without following links; counting ends at `CACHE_FILES`."""
    files = size = 0
    folders = [path]
    while folders and files < CACHE_FILES:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif not entry.is_symlink():
                    files += 1
                    size += entry.stat(follow_symlinks=False).st_size
    return {"name": name, "path": str(path), "exists": path.is_dir(), "files": files, "bytes": size, "all": not folders}


def _disk_free(path: Path) -> int | None:
    with suppress(OSError):
        return shutil.disk_usage(path).free
    return None
