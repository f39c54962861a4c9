"""The guard: what it measures, when it speaks, and the ladder on real collapses."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import entropy

from duygu.engines import EngineName
from duygu.errors import Interrupted
from duygu.files import read_lines
from duygu.recipe import Recipe
from duygu.training import plan
from duygu.training.guard import Guard, Prior, Reading, prior_of, record, restarted
from duygu.training.loop import Job, train
from duygu.training.progress import SILENT, Silent
from duygu.verdict.metrics import Scores, scores
from tests.training.test_loop import assert_equal_ends

RECIPE = Recipe(seed=13, lr=2e-5)
GUARD = Guard(RECIPE, ("down", "up"), Prior(loss=0.69, least=0.0, majority=1), updates=100)


def found(confusion: list[list[int]]) -> Scores:
    """Scores of a confusion matrix; the confidence does not matter here."""
    labels = np.repeat([0, 0, 1, 1], np.ravel(confusion)).astype(np.int32)
    logits = np.eye(2, dtype=np.float32)[np.repeat([0, 1, 0, 1], np.ravel(confusion))]
    return scores(logits, labels, ("down", "up"))


LEARNT, LUCK, ONE_LABEL = [[40, 10], [5, 45]], [[26, 24], [24, 26]], [[0, 50], [1, 49]]


def read(confusion: list[list[int]], loss: float, progress: float, attempt: int = 0, **thresholds: float) -> Reading:
    guard = replace(GUARD, recipe=replace(RECIPE, **thresholds))
    return guard.read(attempt, 1, progress, loss, found(confusion))


def test_prior_matches_scipy() -> None:
    labels = np.array([0] * 30 + [1] * 70, np.int32)
    prior = prior_of(labels, np.ones(100, np.float32), 2, 0.0)
    assert prior.loss == pytest.approx(float(entropy([0.3, 0.7])))
    assert (prior.least, prior.majority) == (0.0, 1)
    balanced = prior_of(labels, np.where(labels == 0, 5 / 3, 5 / 7).astype(np.float32), 2, 0.0)
    assert balanced.loss == pytest.approx(np.log(2)), "balanced weights make the labels equally frequent in the loss"
    smooth = prior_of(labels, np.ones(100, np.float32), 2, 0.2)
    assert smooth.loss == pytest.approx(float(entropy([0.34, 0.66])))
    assert smooth.least == pytest.approx(float(entropy([0.9, 0.1])))
    assert smooth.share(smooth.loss) == pytest.approx(1.0)
    assert smooth.share(smooth.least) == pytest.approx(0.0)


def test_prior_is_what_the_best_constant_answer_costs() -> None:
    """Whatever the constant, smoothed and weighted cross-entropy is no lower."""
    labels, weights = np.array([0] * 30 + [1] * 50 + [2] * 20, np.int32), np.array([2.0, 0.5, 1.0], np.float32)
    prior = prior_of(labels, weights[labels], 3, 0.1)
    for logits in np.random.default_rng(0).normal(size=(500, 3)):
        told = 0.9 * np.eye(3)[labels] + 0.1 / 3
        costs = -(told @ (logits - np.log(np.exp(logits).sum())))
        assert np.average(costs, weights=weights[labels]) >= prior.loss - 1e-12


def test_a_reading_holds_what_was_seen() -> None:
    reading = read(LEARNT, 0.345, 0.5)
    assert reading.shares == pytest.approx((0.45, 0.55))
    assert reading.loss_share == pytest.approx(0.5)
    assert reading.over_majority == pytest.approx(0.85 - 0.5)
    assert reading.mcc == pytest.approx(found(LEARNT).mcc)
    assert reading.verdict == "learns"
    assert Reading.from_json(json.loads(json.dumps(asdict(reading)))) == reading


@pytest.mark.parametrize(
    ("progress", "verdict"), [(0.29, "early"), (0.3, "warned"), (0.59, "warned"), (0.6, "collapsed"), (1, "collapsed")]
)
def test_either_sign_is_enough_and_time_decides(progress: float, verdict: str) -> None:
    assert read(ONE_LABEL, 0.3, progress).verdict == verdict
    assert read(LUCK, 0.66, progress).verdict == verdict
    assert read(LUCK, 0.65, progress).verdict == "learns"
    both = read(ONE_LABEL, 0.69, progress)
    assert len(both.reasons) == 2
    assert "99% of the answers on the validation part are 'up'" in both.reasons[1]
    assert "0.690" in both.reasons[0]


def test_thresholds_are_fields_of_the_recipe() -> None:
    assert read(ONE_LABEL, 0.3, 0.4, guard_mark=0.4).verdict == "collapsed"
    assert read(ONE_LABEL, 0.3, 0.4, guard_warn=0.5).verdict == "early"
    assert read(ONE_LABEL, 0.3, 1.0, guard_share=1.0).verdict == "learns"
    assert read(LUCK, 0.66, 1.0, guard_loss=0.97).verdict == "learns"


def test_a_high_loss_is_no_collapse_where_the_answers_are_right() -> None:
    """Numbers of `tiny` on the bundled corpus: after 75 % of the updates a loss of .681 for .693, and 79 % right."""
    guard = replace(GUARD, prior=Prior(loss=0.693, least=0.0, majority=1))
    assert guard.read(0, 3, 0.75, 0.681, found([[38, 10], [10, 38]])).verdict == "learns"
    assert guard.read(0, 3, 0.75, 0.681, found([[28, 20], [24, 24]])).verdict == "collapsed"


def test_the_last_evaluation_of_an_attempt_is_judged_as_its_end() -> None:
    """Early stopping may end a run before it is time to mark it."""
    assert GUARD.read(0, 2, 0.2, 0.69, found(ONE_LABEL), last=True).verdict == "collapsed"


def test_texts_that_really_have_one_label_are_no_collapse() -> None:
    assert read([[1, 0], [0, 99]], 0.01, 1.0).verdict == "learns"
    assert read([[0, 1], [0, 99]], 0.01, 1.0).verdict == "collapsed"


def test_a_slow_first_epoch_of_a_pretrained_model_is_no_reason_to_warn() -> None:
    """Numbers of a run of MiniLM on `bist` (docs/recipes.md), whose loss fell only in the second half of its epoch."""
    guard = replace(GUARD, prior=Prior(loss=0.6871, least=0.0, majority=1))
    scored = found([[67, 54], [32, 120]])
    assert guard.read(0, 1, 1 / 3, 0.6319, scored).verdict == "learns"
    assert guard._loss_reasons(0.6594), "the mean over the whole epoch is above the limit"


def test_words_say_what_was_seen_what_it_means_and_what_is_done() -> None:
    warned = read(ONE_LABEL, 0.69, 0.4)
    text = GUARD.told(warned, [])
    assert text is not None
    assert text.startswith("warning: after 40% of the updates")
    assert "marked as collapsed" in text
    assert "60%" in text
    collapsed = read(ONE_LABEL, 0.69, 0.6)
    text = GUARD.told(collapsed, [warned])
    assert text is not None
    assert "starts again from the beginning, once: seed 1000000020, half the learning rate (1e-05)" in text
    again = GUARD.told(read(ONE_LABEL, 0.69, 0.6, attempt=1), [])
    assert again is not None
    assert again.startswith("collapsed again")
    assert again.endswith("It does not start again; how it ends decides")
    still = GUARD.told(read(ONE_LABEL, 0.3, 0.8, attempt=1), [read(ONE_LABEL, 0.3, 0.6, attempt=1)])
    assert still == "still collapsed after 80% of the updates: 99% of the answers on the validation part are 'up'"
    assert GUARD.told(read(LEARNT, 0.5, 0.7), [warned]) == (
        f"recovered: after 70% of the updates training loss 0.500, validation MCC {found(LEARNT).mcc:.2f}"
    )
    assert GUARD.told(read(LEARNT, 0.5, 0.7), []) is None
    assert GUARD.told(read(ONE_LABEL, 0.69, 0.1), []) is None


def test_the_ladder_is_fixed_and_has_one_rung() -> None:
    assert restarted(RECIPE, 0) == RECIPE
    rung = restarted(RECIPE, 1)
    assert rung == replace(RECIPE, seed=rung.seed, lr=1e-5, warmup=0.2)
    assert rung.seed != RECIPE.seed
    assert restarted(replace(RECIPE, seed=2**31 - 1, warmup=0.5), 1).warmup == 0.5
    collapsed, again = read(ONE_LABEL, 0.69, 1.0), read(ONE_LABEL, 0.69, 1.0, attempt=1)
    assert GUARD.begins_again(collapsed)
    assert not replace(GUARD, recipe=replace(RECIPE, restarts=0)).begins_again(collapsed)
    assert not GUARD.begins_again(again)


def test_a_run_of_few_updates_does_not_begin_again() -> None:
    short, collapsed = replace(GUARD, updates=49), read(ONE_LABEL, 0.69, 1.0)
    assert not short.begins_again(collapsed)
    assert "49 updates are few" in str(short.told(collapsed, []))


def test_the_record_has_the_gaps_to_both_baselines() -> None:
    readings = [read(ONE_LABEL, 0.69, 0.6), read(LEARNT, 0.3, 1.0, attempt=1)]
    entry: dict[str, Any] = record(GUARD, readings, linear=0.8)
    assert entry["majority"] == pytest.approx(0.5)
    assert [reading["over_linear"] for reading in entry["readings"]] == pytest.approx([0.49 - 0.8, 0.85 - 0.8])
    assert [reading["over_majority"] for reading in entry["readings"]] == pytest.approx([-0.01, 0.35])
    assert entry["restarts"] == [{"seed": 1000000020, "lr": 1e-5, "warmup": 0.2}]
    assert entry["summary"] == ["It collapsed and started again: seed 1000000020, learning rate 1e-05, warm-up 20%."]
    lost: Any = record(GUARD, [read(ONE_LABEL, 0.69, 1.0)], linear=None)["summary"]
    assert "Do not use this model" in lost[1]


# ---- real runs ----

# A pace at which a tiny model on these texts loses itself, and at half of it, warmed up for longer, learns.
RESCUABLE = Recipe(epochs=6, batch=4, length=32, lr=8e-3, warmup=0.0, precision="fp32")


class Counter(Silent):
    """Keeps what is said, and stops the run after a number of steps, those of a former attempt included."""

    def __init__(self, stop_at: int = 0) -> None:
        self.messages: list[str] = []
        self.stop_at, self.steps = stop_at, 0

    def advance(self, amount: int = 1, note: str = "") -> None:
        if note:
            self.steps += 1
            if self.steps == self.stop_at:
                signal.raise_signal(signal.SIGTERM)

    def message(self, text: str) -> None:
        self.messages.append(text)


def job_of(texts: Path, out: Path, engine: EngineName = "torch", recipe: Recipe = RESCUABLE) -> Job:
    return Job(str(texts), "tiny", engine, recipe, out, threads=1)


@pytest.fixture(scope="module")
def rescued(
    texts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[EngineName], tuple[Path, dict[str, Any], list[str]]]:
    """A run that collapsed, began again and learned: its folder, its metrics and what it said. Made once per engine."""
    made: dict[str, tuple[Path, dict[str, Any], list[str]]] = {}

    def of(engine: EngineName) -> tuple[Path, dict[str, Any], list[str]]:
        if engine not in made:
            pytest.importorskip(engine)
            out, watcher = tmp_path_factory.mktemp("rescued") / engine, Counter()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(plan, "TRAINING_SHAPES", 1)  # each is a compilation
                metrics = train(job_of(texts, out, engine), watcher)
            made[engine] = out, metrics, watcher.messages
        return made[engine]

    return of


@pytest.mark.parametrize("engine", ["torch", "jax"])
def test_the_ladder_rescues_a_run_that_can_be_rescued(rescued: Any, engine: EngineName) -> None:
    out, metrics, messages = rescued(engine)
    assert (metrics["collapsed"], metrics["restarts"], metrics["seed"]) == (False, 1, RESCUABLE.seed)
    assert metrics["test"]["mcc"] > 0.5
    readings = metrics["guard"]["readings"]
    assert [reading["verdict"] for reading in readings if reading["attempt"] == 0][-1] == "collapsed"
    assert readings[-1]["verdict"] == "learns"
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == list(range(7)), "those of the second attempt"
    assert any(text.startswith("collapsed: after 67% of the updates") for text in messages)
    assert "It collapsed and started again" in metrics["guard"]["summary"][0]
    lines = [line for line in read_lines(out / "history.jsonl") if "step" in line]
    assert [line["attempt"] for line in lines] == sorted(line["attempt"] for line in lines)
    second = [line for line in lines if line["attempt"] == 1]
    assert max(line["lr"] for line in second) == pytest.approx(RESCUABLE.lr / 2)
    assert [line["step"] for line in second] == list(range(1, len(second) + 1))


def test_without_a_restart_the_same_run_is_lost(texts: Path, tmp_path: Path) -> None:
    metrics = train(job_of(texts, tmp_path / "run", recipe=replace(RESCUABLE, restarts=0)), SILENT)
    assert (metrics["collapsed"], metrics["restarts"]) == (True, 0)
    assert [reading["verdict"] for reading in metrics["guard"]["readings"]][3:] == ["collapsed"] * 3


@pytest.mark.parametrize("stops", [(15,), (41,), (50,), (30, 20)], ids=str)
def test_a_run_killed_before_and_after_its_restart_ends_as_an_undisturbed_one(
    rescued: Any, texts: Path, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    out, metrics, _ = rescued("torch")
    job = replace(job_of(texts, tmp_path / "run"), resume=True)
    for step in stops:
        with pytest.raises(Interrupted):
            train(job, Counter(step))
    found = train(job, SILENT)
    assert_equal_ends(out, job.out)
    assert {**found, "time": 0, "memory": 0} == {**metrics, "time": 0, "memory": 0}


def test_a_run_that_collapses_again_ends_in_exit_code_3(
    texts: Path, tmp_path: Path, duygu: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    knobs = (
        "--set",
        "epochs=5",
        "--set",
        "batch=4",
        "--set",
        "lr=1e-9",
        "--set",
        "length=16",
        "--set",
        "precision=fp32",
    )
    done = duygu("train", texts, "--engine", "torch", "--model", "tiny", "--out", tmp_path / "run", *knobs)
    assert done.returncode == 3, done.stderr
    assert "collapsed: after 60% of the updates" in done.stderr
    assert "collapsed again" in done.stderr
    assert "Do not use this model" in " ".join(done.stdout.split())
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["collapsed"], metrics["restarts"]) == (True, 1)
