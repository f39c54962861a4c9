"""The loop on a tiny model: what it leaves, and that nothing which happens on the way changes where it ends."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from duygu.engines import EngineName
from duygu.errors import DuyguError, FolderError, Interrupted, RecipeError, UserError
from duygu.files import file_digest, locked, read_lines
from duygu.recipe import Recipe
from duygu.training.loop import Job, train
from duygu.training.progress import Silent

RECIPE = Recipe(epochs=3, lr=1e-3, batch=16, microbatch=6, length=24, precision="fp32", checkpoint_steps=2)
STEPS = 9  # 38 training documents, 3 epochs


class Watcher(Silent):
    """Keeps what is said, and acts after a number of training steps."""

    def __init__(self, act_at: int = 0, act: Callable[[], None] = lambda: None) -> None:
        self.messages: list[str] = []
        self.act_at, self.act, self.steps, self.training = act_at, act, 0, False

    def phase(self, name: str, total: int | None = None) -> None:
        self.training, self.steps = name == "training", 0

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.steps += amount * self.training
        if self.act_at and self.steps == self.act_at and note:
            self.act()

    def message(self, text: str) -> None:
        self.messages.append(text)


def terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def job(texts: Path, tmp_path: Path) -> Job:
    return Job(str(texts), "tiny", "torch", RECIPE, tmp_path / "run", threads=1)


@pytest.fixture(scope="module")
def finished(
    texts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[EngineName], tuple[Path, dict[str, Any]]]:
    """An undisturbed run of an engine and its metrics, made once."""
    made: dict[str, tuple[Path, dict[str, Any]]] = {}

    def of(engine: EngineName) -> tuple[Path, dict[str, Any]]:
        if engine not in made:
            pytest.importorskip(engine)
            out = tmp_path_factory.mktemp("undisturbed") / engine
            made[engine] = out, train(Job(str(texts), "tiny", engine, RECIPE, out, threads=1), Silent())
        return made[engine]

    return of


def assert_equal_ends(one: Path, other: Path) -> None:
    """To the bit: weights, predictions; and the history but for its seconds."""
    assert file_digest(one / "model" / "model.safetensors") == file_digest(other / "model" / "model.safetensors")
    assert (one / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()
    histories = [[{**line, "seconds": 0} for line in read_lines(run / "history.jsonl")] for run in (one, other)]
    assert histories[0] == histories[1]


def stop_at(job: Job, step: int) -> None:
    with pytest.raises(Interrupted) as stopped:
        train(job, Watcher(step, terminate))
    assert stopped.value.exit_code == 143


def test_the_run_folder_holds_what_the_design_says(finished: Any) -> None:
    out, metrics = finished("torch")
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    files = {"recipe.toml", "data.json", "environment.json", "history.jsonl", "metrics.json", "predictions.csv"}
    assert names == files | {"model", "checkpoints"}
    wanted = {"schema", "engine", "model", "seed", "fold", "precision", "threads", "collapsed", "restarts"}
    assert set(metrics) >= wanted | {"test", "validation", "epochs", "start", "time", "memory"}
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == [0, 1, 2, 3]
    assert metrics == json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert Recipe.from_toml((out / "recipe.toml").read_text(encoding="utf-8")) == RECIPE
    environment = json.loads((out / "environment.json").read_text(encoding="utf-8"))
    assert environment["threads"] == 1
    assert environment["versions"]["torch"]
    checkpoints = sorted(path.name for path in (out / "checkpoints").glob("step-*"))
    assert checkpoints == ["step-000008", "step-000009"]


def test_history_matches_the_plan(finished: Any) -> None:
    out, metrics = finished("torch")
    lines = read_lines(out / "history.jsonl")
    steps = [line for line in lines if "step" in line]
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    assert set(steps[0]) == {"step", "epoch", "loss", "lr", "grad_norm", "seconds", "attempt"}
    assert [line["validation"] for line in lines if "validation" in line] == [
        epoch["validation"] for epoch in metrics["epochs"]
    ]
    first = [line["loss"] for line in steps if line["epoch"] == 1]
    assert metrics["epochs"][1]["train_loss"] == pytest.approx(np.average(first, weights=[16, 16, 6]))


def test_predictions_match_sklearn_and_hold_every_document_once(finished: Any) -> None:
    from sklearn.metrics import f1_score, log_loss

    out, metrics = finished("torch")
    data = json.loads((out / "data.json").read_text(encoding="utf-8"))
    with (out / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for part in ("validation", "test"):
        mine = [row for row in rows if row["split"] == part]
        assert [row["id"] for row in mine] == data["parts"][part]
        truth, predicted = [row["label"] for row in mine], [row["predicted"] for row in mine]
        assert f1_score(truth, predicted, average="macro") == pytest.approx(metrics[part]["macro_f1"])
        table = [[float(row["p(fall)"]), float(row["p(rise)"])] for row in mine]
        assert log_loss(truth, table) == pytest.approx(metrics[part]["loss"])
    assert len(rows) == len(data["parts"]["validation"]) + len(data["parts"]["test"])


def test_the_best_epoch_is_kept(finished: Any) -> None:
    _, metrics = finished("torch")
    best = max(metrics["epochs"][1:], key=lambda epoch: (epoch["validation"]["macro_f1"], -epoch["validation"]["loss"]))
    assert metrics["kept_epoch"] == best["epoch"]
    assert metrics["validation"] == best["validation"]


def test_the_last_epoch_is_kept_if_asked(job: Job, finished: Any) -> None:
    _, best = finished("torch")
    last = train(replace(job, recipe=replace(RECIPE, keep="last", checkpoint_steps=0)), Silent())
    assert last["kept_epoch"] == 3
    assert last["validation"] == best["epochs"][-1]["validation"]
    assert not list((job.out / "checkpoints").glob("best-*"))


@pytest.mark.parametrize(("engine", "stops"), [("torch", (2, 7)), ("jax", (5,))])
def test_an_interrupted_run_ends_as_an_undisturbed_one(
    job: Job, finished: Any, engine: EngineName, stops: tuple[int, ...]
) -> None:
    undisturbed, metrics = finished(engine)
    job = replace(job, engine=engine)
    for step in stops:
        stop_at(replace(job, resume=True), step)
        newest = max((job.out / "checkpoints").glob("step-*")).name
        assert newest in (f"step-{step:06}", f"step-{step + 1:06}")  # the step under way was finished first
    found = train(replace(job, resume=True), Silent())
    assert_equal_ends(undisturbed, job.out)
    assert {**found, "time": 0, "memory": 0} == {**metrics, "time": 0, "memory": 0}


def test_a_checkpoint_of_one_engine_resumes_in_the_other(job: Job, finished: Any) -> None:
    undisturbed, _ = finished("torch")
    finished("jax")
    for step, engine in ((4, "torch"), (8, "jax")):
        stop_at(replace(job, engine=engine, resume=True), step)
    train(replace(job, engine="torch", resume=True), Silent())
    wanted = load_file(undisturbed / "checkpoints" / "step-000009" / "tensors.safetensors")
    found = load_file(job.out / "checkpoints" / "step-000009" / "tensors.safetensors")
    assert list(found) == list(wanted)
    assert float(found["adam.count"]) == STEPS
    for name in wanted:
        if "key.bias" not in name:  # its gradient is rounding noise, which Adam blows up
            np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=2e-5, err_msg=name)
    environment = json.loads((job.out / "environment.json").read_text(encoding="utf-8"))
    assert [entry["engine"] for entry in environment["resumed"]] == ["jax", "torch"]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(job: Job, finished: Any) -> None:
    stop_at(job, 5)
    newest = max((job.out / "checkpoints").glob("step-*"))
    content = bytearray((newest / "tensors.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    (newest / "tensors.safetensors").write_bytes(content)
    watcher = Watcher()
    train(replace(job, resume=True), watcher)
    assert len([text for text in watcher.messages if "damaged" in text and newest.name in text]) == 1
    assert_equal_ends(finished("torch")[0], job.out)


def test_history_is_cut_to_the_checkpoint(job: Job, finished: Any) -> None:
    stop_at(job, 5)
    with (job.out / "history.jsonl").open("ab") as file:
        file.write(b'{"step": 6, "epoch": 2, "loss": 99.0}\n{"step": 7, "ep')
    (job.out / "checkpoints" / ".partial-step-000006").mkdir()
    train(replace(job, resume=True), Silent())
    assert_equal_ends(finished("torch")[0], job.out)
    assert not list(job.out.rglob(".partial*"))


def test_a_signal_while_evaluating_loses_nothing(job: Job, finished: Any) -> None:
    class AtEvaluation(Watcher):
        def phase(self, name: str, total: int | None = None) -> None:
            if name == "evaluating epoch 2":
                terminate()

    with pytest.raises(Interrupted):
        train(job, AtEvaluation())
    train(replace(job, resume=True), Silent())
    assert_equal_ends(finished("torch")[0], job.out)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"recipe": replace(RECIPE, lr=2e-3, epochs=4)}, "epochs was 3, now 4; lr was 0.001, now 0.002"),
        ({"split_seed": 1}, "split"),
    ],
)
def test_a_run_goes_on_as_it_began_or_not_at_all(job: Job, change: dict[str, Any], named: str) -> None:
    stop_at(job, 2)
    with pytest.raises(UserError, match=named):
        train(replace(job, resume=True, **change), Silent())


def test_changed_texts_are_refused(job: Job, texts: Path, tmp_path: Path) -> None:
    import shutil

    stop_at(job, 2)
    shutil.copytree(texts, tmp_path / "texts")
    (tmp_path / "texts" / "rise" / "00.txt").write_text("something else", encoding="utf-8")
    with pytest.raises(UserError, match="corpus"):
        train(replace(job, data=str(tmp_path / "texts"), resume=True), Silent())


def test_threads_and_precision_are_those_of_the_record(job: Job) -> None:
    stop_at(job, 2)
    watcher = Watcher()
    metrics = train(replace(job, threads=2, resume=True), watcher)
    assert metrics["threads"] == 1
    assert any("threads stay 1" in text for text in watcher.messages)


def test_a_finished_run_stands(job: Job, finished: Any) -> None:
    out, metrics = finished("torch")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != ".lock"}
    watcher = Watcher()
    assert train(replace(job, out=out, resume=True), watcher) == metrics
    assert any("finished" in text for text in watcher.messages)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(FolderError, match="holds a run already"):
        train(replace(job, out=out), Silent())


def test_folders_that_are_not_ours_are_left_alone(job: Job) -> None:
    job.out.mkdir()
    (job.out / "thesis.txt").write_text("dear", encoding="utf-8")
    for flags in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(FolderError, match="thesis"):
            train(replace(job, **flags), Silent())
    assert [path.name for path in job.out.iterdir()] == ["thesis.txt"]


def test_overwriting_starts_again(job: Job, finished: Any) -> None:
    stop_at(replace(job, recipe=replace(RECIPE, seed=1)), 4)
    train(replace(job, overwrite=True), Silent())
    assert_equal_ends(finished("torch")[0], job.out)


def test_two_trainers_on_one_folder(job: Job) -> None:
    job.out.mkdir()
    with locked(job.out), pytest.raises(FolderError, match="another run"):
        train(job, Silent())


@pytest.mark.parametrize(
    ("broken_at", "told", "left"),
    [(4, "no longer finite", "step-000003"), (5, "at step 6: training broke down", "step-000004")],
)
def test_numbers_that_are_not_finite_stop_the_run(
    job: Job, finished: Any, monkeypatch: pytest.MonkeyPatch, broken_at: int, told: str, left: str
) -> None:
    from duygu.engines.torch.engine import TorchEngine

    with monkeypatch.context() as patch:
        step = TorchEngine.step

        def broken(self: Any, state: Any, microbatches: Any, lr: float, key: Any) -> Any:
            return step(self, state, microbatches, float("nan") if key.step == broken_at else lr, key)

        patch.setattr(TorchEngine, "step", broken)
        with pytest.raises(DuyguError, match=told) as failure:
            train(job, Silent())
    assert failure.value.exit_code == 1
    assert max((job.out / "checkpoints").glob("step-*")).name == left
    train(replace(job, resume=True), Silent())
    assert_equal_ends(finished("torch")[0], job.out)


@pytest.mark.parametrize("nth", [11, 23, 37])
def test_a_full_disk_costs_no_checkpoint(job: Job, finished: Any, monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    calls = 0
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(FolderError, match="disk is full"):
            train(job, Silent())
    assert not list(job.out.rglob(".partial*"))
    train(replace(job, resume=True), Silent())
    assert_equal_ends(finished("torch")[0], job.out)


def test_a_length_beyond_the_model_is_told(job: Job) -> None:
    with pytest.raises(RecipeError, match="512 positions"):
        train(replace(job, recipe=replace(RECIPE, length=1024)), Silent())
    assert train(replace(job, recipe=replace(RECIPE, epochs=1)), Silent())["kept_epoch"] == 1


def test_a_run_goes_on_in_smaller_passes_and_ends_as_it_would_have(job: Job, finished: Any) -> None:
    """As one does whose memory ran out: what decides how a step is computed may change, and the record says so."""
    stop_at(job, 4)
    smaller = RECIPE.changed({"microbatch": 2, "gradient_checkpointing": True})
    train(replace(job, recipe=smaller, resume=True), Silent())
    found, expected = (load_file(run / "model" / "model.safetensors") for run in (job.out, finished("torch")[0]))
    for name, weight in expected.items():
        np.testing.assert_allclose(found[name], weight, rtol=0, atol=1e-5, err_msg=name)
    environment = json.loads((job.out / "environment.json").read_text(encoding="utf-8"))
    assert environment["resumed"][0]["recipe"] == {"microbatch": 2, "gradient_checkpointing": True}
    assert Recipe.from_toml((job.out / "recipe.toml").read_text(encoding="utf-8")) == RECIPE
