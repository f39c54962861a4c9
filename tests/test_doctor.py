"""duygu doctor: true on this machine, helpful on an empty one, never hanging."""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest

from duygu import cli, doctor
from duygu.errors import ModelError
from duygu.models.presets import PRESETS, recipe_preset
from duygu.recipe import Recipe
from duygu.scale.memory import to_score, to_train
from duygu.verbs import doctor as verb
from tests.test_layers import HEAVY, SOURCE, imported_by

Duygu = Callable[..., subprocess.CompletedProcess[str]]
OFFLINE = {"HF_HUB_OFFLINE": "1"}


def silent(_: str) -> None:
    """Nobody listens."""


def installed(package: str) -> str | None:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def test_every_version_is_the_installed_one(duygu: Duygu) -> None:
    done = duygu("doctor", "--json", "--model", "tiny", **OFFLINE)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for package in found["packages"]:
        assert package["version"] == installed(package["name"])
    assert {package["name"] for package in found["packages"]} >= {"torch", "jax", "jaxlib", "optax", "numpy", "click"}
    assert [engine["engine"] for engine in found["engines"]] == ["torch", "jax"]
    for engine in found["engines"]:
        assert engine["problem"] is None
        assert engine["version"] == importlib.metadata.version(engine["engine"])
        assert engine["devices"] >= 1
    absent = {package["name"] for package in found["packages"] if package["version"] is None}
    assert not absent & {"torch", "jax", "jaxlib", "optax", "numpy", "click"}
    assert bool(absent) == bool(found["missing"])
    assert found["hub"]["state"] == "offline"
    spec = PRESETS["tiny"].spec(PRESETS["tiny"].vocabulary, 0, doctor.LABELS)
    for need in found["memory"]["needs"]:
        made = (
            to_train(spec, need["engine"], need["precision"], 16 * 256, 256)
            if need["what"] == "training"
            else to_score(spec, need["engine"], need["precision"], 256)
        )
        assert need["total_bytes"] == made.total


def test_text_says_what_json_says(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert cli.main(["doctor", "--model", "tiny", "--engine", "torch", "--set", "precision=fp32"]) == 0
    out, err = capsys.readouterr()
    for name in ("packages", "engines", "machine", "caches", "hub", "torch fp32, training"):
        assert name in out
    assert "jax fp32" not in out
    assert "asking PyTorch" in err
    assert max(map(len, out.splitlines())) <= 120


def test_nothing_heavy_is_imported() -> None:
    """The frameworks are asked in other processes; not even numpy is needed here."""
    statement = """
import os
os.environ["HF_HUB_OFFLINE"] = "1"
from duygu.cli import main
main(["doctor", "--model", "tiny", "--engine", "torch"])
"""
    assert not imported_by(statement) & HEAVY


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has duygu's source and click, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "click").symlink_to(Path(click.__file__).parent, target_is_directory=True)
    (packages / "duygu.pth").write_text(f"{SOURCE}\n", encoding="utf-8")
    return folder / "bin" / "python"


def ask_bare(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    command = [str(python), "-m", "duygu", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**variables, **OFFLINE})


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
def test_where_nothing_is_installed_it_says_what_to_install(bare: Path) -> None:
    done = ask_bare(bare, "--model", "tiny", "--recipe", "default")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    todo = done.stdout.partition("to install")[2]
    for command in ("pip install 'duygu[torch]'", "pip install 'duygu[jax]'", "pip install duygu"):
        assert command in todo
    for need in ("torch fp32, training", "torch bf16, training", "jax bf16, scoring"):  # no engine chooses: both
        assert need in done.stdout
    found = json.loads(ask_bare(bare, "--json").stdout)
    assert [engine["problem"] for engine in found["engines"]] == ["not installed"] * 2
    assert found["memory"] is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
def test_broken_frameworks_are_named_with_their_reason(bare: Path) -> None:
    (packages,) = bare.parent.parent.glob("lib/python*/site-packages")
    (packages / "torch.py").write_text("raise OSError('libtorch.so: no such file')\n", encoding="utf-8")
    (packages / "numpy.py").write_text("raise OSError('numpy is broken')\n", encoding="utf-8")
    try:
        found = json.loads(ask_bare(bare, "--json").stdout)
    finally:
        (packages / "torch.py").unlink()
        (packages / "numpy.py").unlink()
    torch = found["engines"][0]
    assert (torch["installed"], torch["problem"]) == (True, "does not start: numpy is broken")
    assert "pip install --force-reinstall 'duygu[torch]'" in [one["install"] for one in found["missing"]]


def test_frameworks_that_hang_are_left_after_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real process, and less time than Python itself takes to start."""
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 0.005)
    assert doctor.ask_engine("torch", silent)["problem"] == "no answer within 0.005 seconds"


class Hub(BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def do_HEAD(self) -> None:
        self.send_response(int(self.path.strip("/")))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Hub) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_hub_that_answers_is_reachable(server: str, online: pytest.MonkeyPatch, status: int) -> None:
    online.setenv("HF_ENDPOINT", f"{server}/{status}")
    assert doctor.hub() == {"endpoint": f"{server}/{status}", "state": "reachable", "detail": f"HTTP {status}"}


def test_offline_asks_nobody(online: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        online.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        online.setenv("HF_HUB_OFFLINE", "YES")
        assert doctor.hub()["state"] == "offline"
        listening.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listening.accept()


def test_a_password_in_the_hubs_address_is_not_shown(online: pytest.MonkeyPatch) -> None:
    online.setenv("HF_ENDPOINT", "http://user:secret@127.0.0.1:9/hub")
    online.setenv("HF_HUB_OFFLINE", "1")
    assert doctor.hub()["endpoint"] == "http://127.0.0.1:9/hub"


def test_a_hub_that_never_answers_is_not_waited_for(online: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        online.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        began = time.perf_counter()
        assert doctor.hub()["state"] == "unreachable"
        assert 2.5 < time.perf_counter() - began < 60  # 3 s; more only where the machine itself stands still


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9", "file:///etc/hostname", "nonsense", "http://[bad", "https://"]
)
def test_addresses_that_lead_nowhere_are_unreachable(online: pytest.MonkeyPatch, address: str) -> None:
    online.setenv("HF_ENDPOINT", address)
    assert doctor.hub()["state"] == "unreachable"


def test_caches_are_measured_where_the_variables_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub" / "deep").mkdir(parents=True)
    (tmp_path / "hub" / "deep" / "blob").write_bytes(b"x" * 1000)
    (tmp_path / "hub" / "link").symlink_to(tmp_path / "hub" / "deep" / "blob")
    (tmp_path / "hub" / "deep" / "loop").symlink_to(tmp_path / "hub", target_is_directory=True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "absent"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled, models, packed = doctor.caches()
    assert (models["bytes"], models["files"], models["exists"], models["all"]) == (1000, 1, True, True)
    assert (compiled["path"], compiled["exists"], compiled["bytes"]) == (str(tmp_path / "absent"), False, 0)
    assert packed["path"] == str(tmp_path / "duygu" / "nf4")


def test_models_of_the_hub_are_known_once_their_config_was_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="owner/name"):
        doctor.shape_of("owner/name", Recipe())
    for number, layers in enumerate((3, 5)):
        path = tmp_path / "models--owner--name" / "snapshots" / f"{number:040}" / "config.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"model_type": "bert", "num_hidden_layers": layers}), encoding="utf-8")
        os.utime(path, (number, number))
    assert doctor.shape_of("owner/name", Recipe()).layers == 5
    assert doctor.shape_of("owner/name@main", Recipe()).layers == 5


def test_the_machine_is_described() -> None:
    found = doctor.machine()
    assert 1 <= found["cores"] <= found["logical_cores"]
    assert 0 < found["memory_free_bytes"] <= found["memory_bytes"]
    assert found["flags"] is None or set(found["flags"]) == set(doctor.FLAGS)


@pytest.mark.parametrize(
    ("version", "least", "old"), [("2.9.1", "2.10", True), ("2.13.0+cpu", "2.10", False), ("1.0rc1", "1.0", False)]
)
def test_versions_are_compared_as_numbers(version: str, least: str, old: bool) -> None:
    assert (doctor._numbers(version) < doctor._numbers(least)) == old


def test_old_and_missing_packages_are_gathered_by_command() -> None:
    common = {"install": "pip install 'duygu[jax]'", "purpose": "jax"}
    found = [
        {"name": "jax", "version": None, "least": "0.6", "too_old": False, **common},
        {"name": "optax", "version": "0.1", "least": "0.2.5", "too_old": True, **common},
    ]
    expected = [{"what": "jax, optax 0.1 is older than 0.2.5", "install": "pip install 'duygu[jax]'"}]
    assert doctor.missing(found, []) == expected


def test_where_an_engine_computes_on_a_gpu_the_gpu_has_to_hold_it() -> None:
    """The llama of the presets with its recipe: nine gigabytes on the card, whatever the host has."""
    recipe = recipe_preset("llama-4bit").recipe.changed({"gradient_checkpointing": "true"})
    spec = doctor.shape_of("llama-3.1-8b", recipe)
    report: doctor.Report = {
        "engines": [{"engine": "torch", "device": "a card", "fast_bf16": True}, {"engine": "jax", "device": "cpu"}],
        "gpus": [{"name": "a card", "free_bytes": 16_000_000_000}],
        "machine": {"memory_free_bytes": 4_000_000_000},
    }
    found = verb._predict(report, "llama-3.1-8b", spec, recipe)
    (on_card, *_), (card, host) = found["needs"], found["findings"]
    assert 7e9 < on_card["on_device_bytes"] < 9e9
    assert card.startswith("torch bf16: training fits")
    assert card.endswith("GiB that are free on the GPU")
    assert host == "jax bf16: training does not fit, not even one document at a time"
