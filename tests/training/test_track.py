"""What the trackers wrote, read back with each tool's own reader or format, against the run folder's files."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duygu.cli import main
from duygu.errors import Interrupted
from duygu.files import read_json, read_lines
from duygu.recipe import Recipe
from duygu.training.loop import Job
from duygu.training.loop import train as train_job
from duygu.training.run_folder import RunFolder
from duygu.training.track import TOOLS, Tracking, open_tracking
from duygu.training.track.content import Confusion, step_scalars
from tests.test_layers import imported_by
from tests.training.test_loop import Watcher

TRAINING = (
    *("--model", "tiny", "--threads", "1", "--track", "wandb,tensorboard,mlflow", "--set", "epochs=2"),
    *("--set", "batch=8", "--set", "length=24", "--set", "lr=1e-3", "--set", "checkpoint_steps=3"),
)  # 38 training documents: 5 steps an epoch
COMPILED = {"JAX_COMPILATION_CACHE_DIR": str(Path.home() / ".cache" / "duygu" / "jax")}  # as every other test's
KILLED_AFTER = 7  # steps; the run then goes on from its checkpoint of the sixth
# Refuses every address that is not this machine's, and says at the end which were asked for.
GUARD = """
import os, socket, sys
asked, steps = [], []
def audit(event, arguments):
    if event == "socket.connect" and not isinstance(arguments[1], (str, bytes)):
        host = arguments[1][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in ("127.0.0.1", "::1", "localhost", None):
        asked.append((event, host))
        raise OSError(f"no network: {event} {host}")
sys.addaudithook(audit)
from duygu.cli import main
from duygu.training.progress import Lines
def advance(self, amount=1, note=""):
    steps.extend([note] if note else [])
    if len(steps) == int(os.environ.get("KILL_AFTER", -1)):
        os.kill(os.getpid(), 9)
Lines.advance = advance
code = main(sys.argv[1:])
loaded = {name.partition(".")[0] for name in sys.modules}
print("ASKED", asked, "LOADED", *sorted(loaded & {"torch", "jax", "tensorflow"}), file=sys.stderr)
sys.exit(code)
"""


@dataclass
class Told:
    """What a tool holds of a run: numbers by name and step, confusion matrices, tables, facts, how it ended."""

    scalars: dict[str, dict[int, float]] = field(default_factory=dict)
    confusions: dict[tuple[str, int], list[list[int]]] = field(default_factory=dict)
    tables: dict[tuple[str, int], list[list[Any]]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    status: str = ""

    def put(self, name: str, step: int, value: float) -> None:
        assert step not in self.scalars.setdefault(name, {}), f"{name} twice at {step}"
        self.scalars[name][step] = value


@dataclass(frozen=True)
class Run:
    """A run that every tool followed."""

    folder: Path
    said: str
    asked_out: bool  # whether something went for the proxy


Runs = Callable[[str], Run]


@pytest.fixture(scope="module")
def tracked(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The run of an engine, made once."""
    for tool, packages in TOOLS.items():
        for package in packages:
            pytest.importorskip(package, reason=f"no {package}: pip install 'duygu[{tool}]'")
    made: dict[str, Run] = {}

    def of(engine: str) -> Run:
        if engine not in made:
            made[engine] = follow(engine, texts, tmp_path_factory.mktemp(f"tracked-{engine}"))
        return made[engine]

    return of


def follow(engine: str, texts: Path, place: Path) -> Run:
    """Train without a network, but with a proxy that notes who would use one; PyTorch's run is killed and goes on."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        outside = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), address)
        resume = ()
        if engine == "torch":
            killed = train(texts, engine, place, KILL_AFTER=str(KILLED_AFTER), **outside)
            assert killed.returncode == -signal.SIGKILL, killed.stderr
            resume = ("--resume",)
        done = train(texts, engine, place, *resume, **outside)
        assert done.returncode in (0, 3), done.stderr  # 3: so little training may well collapse
        proxy.setblocking(False)
        try:
            proxy.accept()[0].close()
        except BlockingIOError:
            return Run(place / "run", done.stderr, asked_out=False)
    return Run(place / "run", done.stderr, asked_out=True)


def train(texts: Path, engine: str, place: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``duygu train`` in a folder and a home of its own, with nothing that the user has set for a tool."""
    for name in ("home", "work"):
        (place / name).mkdir(exist_ok=True)
    command = [sys.executable, "-c", GUARD, "train", str(texts), "--engine", engine, "--out", str(place / "run")]
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "MLFLOW_"))}
    return subprocess.run(
        [*command, *TRAINING, *words], cwd=place / "work", stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=240, env={**mine, "HOME": str(place / "home"), **COMPILED, **environment},
    )  # fmt: skip


# ---- what each tool holds ----


def wandb_records(path: Path) -> Iterator[bytes]:
    """The records of a ``.wandb`` file: LevelDB's log format behind a header of 7 bytes."""
    content = path.read_bytes()
    assert content[:4] == b":W&B"
    position, record = 7, b""
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        size, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        record += content[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def from_wandb(run: Path) -> Told:
    from wandb.proto.wandb_internal_pb2 import Record

    told = Told()
    (path,) = (run / "tracking" / "wandb").glob("wandb/offline-run-*/run-*.wandb")
    for content in wandb_records(path):
        record = Record.FromString(content)
        told.facts |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        if record.HasField("exit"):
            told.status = str(record.exit.exit_code)
        values = nested((item.nested_key or [item.key], json.loads(item.value_json)) for item in record.history.item)
        for name, value in values.items():
            wandb_value(told, path.parent / "files", name, values["_step"], value)
    return told


def nested(items: Iterable[tuple[Sequence[str], Any]]) -> dict[str, Any]:
    """Values by their path of keys, as the mapping that they came from."""
    whole: dict[str, Any] = {}
    for keys, value in items:
        inner = whole
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
        inner[keys[-1]] = value
    return whole


def wandb_value(told: Told, files: Path, name: str, step: int, value: Any) -> None:
    if isinstance(value, int | float) and not name.startswith("_"):
        told.put(name, step, value)
    elif isinstance(value, dict) and value.get("_type") == "table-file":
        rows = json.loads((files / value["path"]).read_text(encoding="utf-8"))["data"]
        if "confusion" not in name:
            told.tables[name, step] = rows
            return
        labels = list(dict.fromkeys(row[0] for row in rows))
        counts = {(true, predicted): count for true, predicted, count in rows}
        told.confusions[name.removesuffix("_table"), step] = [[counts[a, b] for b in labels] for a in labels]


def from_tensorboard(run: Path) -> Told:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = Told()
    events = EventAccumulator(str(run / "tracking" / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            told.put(name, event.step, event.value)
    for name in events.Tags()["tensors"]:
        assert events.SummaryMetadata(name).plugin_data.plugin_name == "text"
        for event in events.Tensors(name):
            lines = event.tensor_proto.string_val[0].decode().splitlines()
            rows = [[cell.strip().replace("\\", "") for cell in line.strip("|").split(" | ")] for line in lines[2:]]
            if name == "run":
                told.facts = {row[0]: row[1] for row in rows}
            elif "confusion" in name:
                told.confusions[name, event.step] = [[int(cell) for cell in row[1:]] for row in rows]
            else:
                told.tables[name, event.step] = rows
    return told


def from_mlflow(run: Path) -> Told:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
        from mlflow import MlflowClient

        folder = run / "tracking" / "mlflow"
        client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
        (found,) = client.search_runs([client.get_experiment_by_name("duygu").experiment_id])
        told = Told(facts=found.data.params, status=found.info.status)
        for name in found.data.metrics:
            for metric in client.get_metric_history(found.info.run_id, name):
                told.put(name, metric.step, metric.value)
    root = folder / "artifacts" / found.info.run_id / "artifacts"
    for path in root.rglob("*.json"):
        rows = json.loads(path.read_text(encoding="utf-8"))["data"]
        key = (path.parent.relative_to(root).as_posix(), int(path.stem.removeprefix("step-")))
        if "confusion" in key[0]:
            told.confusions[key] = [row[1:] for row in rows]
        else:
            told.tables[key] = rows
    return told


def status_in_mlflow(run: Path) -> str:
    with closing(sqlite3.connect(run / "tracking" / "mlflow" / "mlflow.db")) as store:
        ((status,),) = store.execute("select status from runs")
    return str(status)


READERS = {"wandb": from_wandb, "tensorboard": from_tensorboard, "mlflow": from_mlflow}


def wanted(run: Path) -> tuple[dict[str, dict[int, float]], dict[tuple[str, int], Any]]:
    """Numbers and confusion matrices as ``history.jsonl`` and ``metrics.json`` have them."""
    numbers: dict[str, dict[int, float]] = {}
    confusions: dict[tuple[str, int], Any] = {}
    step = 0

    def scored(part: str, scores: Mapping[str, Any]) -> None:
        values = {name: scores[name] for name in ("loss", "accuracy", "macro_f1", "mcc")}
        for name, value in {**values, **{key: scores["calibration"][key] for key in ("brier", "ece")}}.items():
            numbers.setdefault(f"{part}/{name}", {})[step] = value
        confusions[f"{part}/confusion", step] = scores["confusion"]

    for line in read_lines(run / "history.jsonl"):
        step = line.get("step", step)
        for name, value in step_scalars(line).items() if "step" in line else ():
            numbers.setdefault(name, {})[step] = value
        for part in ("validation", "test"):
            if part in line:
                scored(part, line[part])
    scored("test", read_json(run / "metrics.json")["test"])
    return numbers, confusions


def assert_told_truly(tool: str, told: Told, run: Path) -> None:
    numbers, confusions = wanted(run)
    if tool == "tensorboard":  # which keeps single precision
        numbers = {name: {step: float(np.float32(v)) for step, v in of.items()} for name, of in numbers.items()}
    if tool == "mlflow":  # which keeps what it got of a step before a kill; a step repeated took another time
        assert list(numbers.pop("train/seconds")) == list(told.scalars.pop("train/seconds"))
    assert told.scalars == numbers
    assert told.confusions == confusions


# ---- tests ----


@pytest.mark.parametrize("engine", ["torch", "jax"])
@pytest.mark.parametrize("tool", READERS)
def test_every_tool_holds_what_the_run_folder_says(tool: str, engine: str, tracked: Runs) -> None:
    run = tracked(engine).folder
    told = READERS[tool](run)
    assert_told_truly(tool, told, run)
    data, metrics = read_json(run / "data.json"), read_json(run / "metrics.json")
    facts = {name: str(value) for name, value in told.facts.items()}
    assert (facts["engine"], facts["corpus"], facts["epochs"]) == (engine, data["corpus"], "2")
    assert told.status == {"wandb": "0", "tensorboard": "", "mlflow": "FINISHED"}[tool]
    (final,) = (rows for (name, _), rows in told.tables.items() if name == "final/scores")
    assert float(final[1][3]) == pytest.approx(metrics["test"]["accuracy"], rel=1e-5)
    labels = {row[0]: float(row[3]) for row in told.tables["test/labels", 10]}
    assert labels == pytest.approx({name: of["f1"] for name, of in metrics["test"]["per_label"].items()}, rel=1e-5)


def test_both_engines_tell_in_one_form(tracked: Runs) -> None:
    for read in READERS.values():
        torch, jax = (read(tracked(engine).folder) for engine in ("torch", "jax"))
        steps = [{name: list(of) for name, of in told.scalars.items()} for told in (torch, jax)]
        assert steps[0] == steps[1]
        assert torch.tables.keys() == jax.tables.keys()
        assert torch.facts.keys() == jax.facts.keys()


def test_a_tracked_run_ends_as_the_run_ends(tracked: Runs) -> None:
    """Gone on with and ended thrice, the last time well: the run is others' too."""
    run = tracked("torch").folder
    for error, status in ((Interrupted(signal.SIGTERM), "KILLED"), (ValueError(), "FAILED"), (None, "FINISHED")):
        with suppress(Interrupted, ValueError), open_tracking(("mlflow",), lambda text: None) as tracking:
            tracking.begin(RunFolder(run), read_lines(run / "history.jsonl"))
            assert status_in_mlflow(run) == "RUNNING"
            if error:
                raise error
        assert status_in_mlflow(run) == status


@pytest.mark.parametrize("engine", ["torch", "jax"])
def test_nothing_leaves_the_machine_or_the_run_folder(engine: str, tracked: Runs) -> None:
    run = tracked(engine)
    assert f"ASKED [] LOADED {engine}\n" in run.said
    assert not run.asked_out
    assert not list((run.folder.parent / "work").iterdir())
    assert not [path for path in (run.folder.parent / "home").rglob("*") if any(tool in path.name for tool in TOOLS)]
    assert {path.name for path in (run.folder / "tracking").iterdir()} == set(TOOLS)


def test_every_tool_says_how_its_run_is_seen_and_nothing_else(tracked: Runs) -> None:
    run = tracked("torch")
    folder = run.folder.resolve() / "tracking"
    lines = [line for line in run.said.splitlines() if any(tool in line.lower() for tool in TOOLS)]
    (synced,) = folder.glob("wandb/wandb/offline-run-*")
    assert lines == [
        f"wandb: wandb sync {synced}",
        f"tensorboard: tensorboard --logdir {folder / 'tensorboard'}",
        f"mlflow: mlflow ui --backend-store-uri sqlite:///{folder / 'mlflow' / 'mlflow.db'}",
    ]


def test_without_a_tracker_nothing_is_imported() -> None:
    assert not imported_by("import duygu.training.loop, duygu.training.track") & {*TOOLS, "sqlalchemy"}


def test_a_tool_that_fails_is_named_once_and_the_training_goes_on(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's server is gone before the run, TensorBoard's disk in the middle of it."""
    for package in (*TOOLS["mlflow"], *TOOLS["tensorboard"]):
        pytest.importorskip(package)
    from duygu.training.track.tensorboard import TensorBoard

    def full(self: TensorBoard, step: int, values: Mapping[str, float]) -> None:
        if step == 2:
            self._file.close()
        told(self, step, values)

    told, watcher = TensorBoard.scalars, Watcher()
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"http://127.0.0.1:{gone.getsockname()[1]}"
    monkeypatch.setattr(TensorBoard, "scalars", full)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    recipe = Recipe(epochs=1, batch=8, length=24, precision="fp32")
    job = Job(str(texts), "tiny", "torch", recipe, tmp_path / "run", threads=1, track=("mlflow", "tensorboard"))
    assert train_job(job, watcher)["kept_epoch"] == 1
    notes = [text.partition(";")[0] for text in watcher.messages if "tensorboard" in text or "mlflow" in text]
    assert notes == [f"note: {tool} failed and no longer follows this run" for tool in ("mlflow", "tensorboard")]


def test_a_signal_is_no_failure_of_a_tool() -> None:
    def interrupt() -> None:
        raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted):
        Tracking(("wandb",), print)._guarded("wandb", interrupt)


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("comet", "there is no tracker 'comet'"),
        ("wandb,", "there is no tracker ''"),
        ("mlflow,mlflow", "each must be named once"),
        ("wandb,mlflow", "tracking needs sqlalchemy, which is not installed"),
    ],
)
def test_a_tool_that_cannot_be_had_is_told_before_anything_is_touched(
    named: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for package in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, package, importlib.import_module("duygu"))  # there, as far as is asked
    if "sqlalchemy" in says:
        monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    else:
        monkeypatch.setattr("duygu.training.track.TOOLS", {"wandb": (), "mlflow": ()})
    out = tmp_path / "run"
    for verb in (["train", "--engine", "torch"], ["compare"]):
        assert main([*verb, "nowhere", "--model", "tiny", "--out", str(out), "--track", named]) == 2
        assert capfd.readouterr().err.startswith(says)
    assert not out.exists()


def test_labels_of_any_form_stay_in_their_cells() -> None:
    pytest.importorskip("tensorboard")
    from duygu.training.track.tensorboard import markdown

    table = Confusion("test/confusion", ("a|b", "*x*"), ((1, 2), (3, 4))).table()
    assert markdown(table).splitlines() == [
        r"| true | predicted a\|b | predicted \*x\* |",
        "| --- | --- | --- |",
        r"| a\|b | 1 | 2 |",
        r"| \*x\* | 3 | 4 |",
    ]
