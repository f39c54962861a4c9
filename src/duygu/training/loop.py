"""The loop: steps, evaluations, the best epoch, checkpoints, and what is left when it ends.

What happens at step n is in the plan; the loop only remembers where it stands (a `Mark`), which is all that a
checkpoint adds to the tensors. So a run that was killed goes on as if nothing had been: same documents, same dropout,
same evaluations, and on a CPU the same weights to the bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from duygu.engines import State, StepKey, StepResult
from duygu.errors import DuyguError, Interrupted
from duygu.files import LineLog, new_folder, read_lines, write_json, write_text
from duygu.models.folder import CALIBRATION
from duygu.training.checkpoint import Mark
from duygu.training.guard import Guard, Reading, prior_of, record
from duygu.training.machine import peak_memory
from duygu.training.model_card import model_card
from duygu.training.plan import Batch, FloatArray, IntArray, Step, assemble
from duygu.training.preparation import (
    Batches,
    Job,
    Setup,
    as_begun,
    begun_again,
    read_data,
    set_up,
    start_tensors,
    through,
    whole_tensors,
)
from duygu.training.progress import SILENT, Progress
from duygu.training.result import write_result
from duygu.training.run_folder import RunFolder, open_run, predictions_table
from duygu.training.scoring import score
from duygu.training.signals import Signals, caught_signals
from duygu.training.track import Tracking, open_tracking
from duygu.verdict.baselines import linear_logits
from duygu.verdict.calibration import fit_temperature
from duygu.verdict.metrics import Scores, scores

__all__ = ["Job", "train"]

LINEAR = 20_000  # training documents up to which the linear baseline is fitted: half a minute


def train(job: Job, progress: Progress = SILENT) -> dict[str, Any]:
    """Train, or go on training, and write the run folder; returns what ``metrics.json`` holds.

    Raises `UserError` for what the user can mend, `Interrupted` after a signal (the state is saved) and `DuyguError`
    when the loss is no longer finite (the last good checkpoint stays).
    """
    began = time.perf_counter()
    with (
        caught_signals() as signals,
        open_run(job.out, job.resume, job.overwrite) as folder,
        open_tracking(job.track, progress.message) as tracking,
    ):
        folder.accept_recipe(job.recipe)
        progress.phase("reading the data")
        job = as_begun(job)
        corpus, split = read_data(job)
        folder.accept_data(corpus, split)
        if folder.finished:
            progress.message("this run is finished already; its results stand")
            return folder.metrics()
        setup = set_up(job, folder, corpus, split, progress)
        loop = _Loop(setup, folder, progress, signals, tracking)
        loop.compile(began)
        with signals.deferred():
            loop.run()
            return loop.finish()


@dataclass(frozen=True, slots=True)
class _Pending:
    """A step that was dispatched and whose numbers were not read yet."""

    step: Step
    result: StepResult


class _Loop:
    """A run on its way."""

    def __init__(
        self, setup: Setup, folder: RunFolder, progress: Progress, signals: Signals, tracking: Tracking
    ) -> None:
        self.setup, self.folder, self.progress, self.signals = setup, folder, progress, signals
        self.tracking = tracking
        self.recipe = setup.recipe
        self.mark = setup.checkpoint.mark if setup.checkpoint else Mark()
        self.history = LineLog(folder.history, self.mark.history_bytes)
        lines = read_lines(folder.history)
        self.guard = _guard(setup)
        self.readings = [Reading.from_json(line["guard"]) for line in lines if "guard" in line]
        tracking.begin(folder, lines)
        lines = [line for line in lines if line.get("attempt", 0) == self.mark.attempt]
        self.losses: dict[int, float] = {line["step"]: line["loss"] for line in lines if "step" in line}
        self.validation = {
            line["epoch"]: Scores.from_json(line["validation"]) for line in lines if "validation" in line
        }
        self.start = next((line["test"] for line in lines if "test" in line), None)
        self.pending: _Pending | None = None
        self.first_step_s: float | None = None

    def compile(self, began: float) -> None:
        """Load the engine's state and compile; set-up ends here."""
        self._load()
        self.setup_s = time.perf_counter() - began

    def _load(self) -> None:
        setup = self.setup
        self.progress.phase("compiling" if setup.engine.static_shapes else "loading the weights")
        self.state: State = setup.engine.start(setup.model.spec, start_tensors(setup), self.recipe, setup.placement)
        started = time.perf_counter()
        setup.engine.compile(self.state, setup.plan.shapes, setup.evaluation_shapes)
        self.compile_s = time.perf_counter() - started

    # ---- steps ----

    def run(self) -> None:
        """Take what is left of the plan. On a signal the state is saved first."""
        try:
            if self.start is None:
                self._evaluate_start()
            self._begin_phase()
            while not self._done():
                self.signals.check()
                if self.mark.step == (self.mark.epoch + 1) * self.setup.plan.steps_per_epoch:
                    self._end_epoch()
                else:
                    self._take(self.setup.plan.steps[self.mark.step])
        except Interrupted as stop:
            self._save()
            raise Interrupted(stop.signum, f"{stop} after step {self.mark.step}; go on with --resume") from None
        finally:
            self.history.close()

    def _done(self) -> bool:
        return self.mark.epoch == self.recipe.epochs or self._out_of_patience()

    def _out_of_patience(self) -> bool:
        """Whether the last epochs, those of the warm-up aside, were no better than one before them."""
        per_epoch, recipe = self.setup.plan.steps_per_epoch, self.recipe
        warm = recipe.warmup * len(self.setup.plan.steps)
        ranks = [_rank(self.validation[n]) for n in range(1, self.mark.epoch + 1) if n * per_epoch > warm]
        return 0 < recipe.patience <= len(ranks) - 1 - max(range(len(ranks)), key=ranks.__getitem__, default=0)

    def _take(self, step: Step) -> None:
        """Dispatch one step, then read the numbers of the one before it: the accelerator need not wait for either."""
        if self.pending is None:
            self.clock = time.perf_counter()
        batches = self._assemble(step)
        self.state, result = self.setup.engine.step(
            self.state, batches, step.lr, StepKey(self.recipe.seed, step.number)
        )
        self._settle()
        self.pending = _Pending(step, result)
        self.mark = replace(self.mark, step=step.number)
        every = self.recipe.checkpoint_steps
        if self.first_step_s is None:
            self._settle()
        if every and step.number % every == 0 and step.number % self.setup.plan.steps_per_epoch:
            self._save()

    def _assemble(self, step: Step) -> list[Batch]:
        """The step's forward passes; all share one normaliser."""
        setup, labels, total = self.setup, self.setup.corpus.labels, self._weight(step)
        return [
            assemble(setup.tokens(part, step.epoch), part, labels[part], shape, setup.weights[part], normaliser=total)
            for part, shape in zip(step.microbatches, step.shapes, strict=True)
        ]

    def _weight(self, step: Step) -> float:
        """What the documents of a step count together."""
        return float(self.setup.weights[step.documents].sum())

    def _settle(self) -> None:
        """Read, check and record the numbers of the pending step."""
        if self.pending is None:
            return
        step, result = self.pending.step, self.pending.result
        loss, norm = result.loss, result.grad_norm
        now = time.perf_counter()
        seconds, self.clock, self.pending = now - self.clock, now, None
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise DuyguError(
                f"loss {loss} and gradient norm {norm} at step {step.number}: training broke down. The last good "
                "checkpoint is kept; a lower lr or --set precision=fp32 may help"
            )
        line = {"step": step.number, "epoch": step.epoch, "loss": loss, "lr": step.lr, "grad_norm": norm}
        self._log({**line, "seconds": seconds})
        self.losses[step.number] = loss
        tokens = int(self.setup.encoded.computed[step.documents].sum())
        warm = self.first_step_s is not None
        self.mark = replace(self.mark, tally=self.mark.tally.plus(seconds, len(step.documents), tokens, warm))
        self.first_step_s = self.first_step_s if warm else seconds
        self.progress.advance(1, f"epoch {step.epoch}, loss {loss:.4f}")

    def _log(self, line: Mapping[str, Any]) -> None:
        """A line of the history, which trackers are told too."""
        line = {**line, "attempt": self.mark.attempt}
        self.history.append(line)
        self.tracking.line(line)

    def _save(self) -> None:
        """A checkpoint of the state as it is."""
        self._settle()
        if not (self.mark.step or self.mark.attempt):
            return
        self.mark = replace(self.mark, history_bytes=self.history.sync())
        setup = self.setup
        about = {"recipe": self.recipe.as_dict(), "engine": setup.engine.name, "threads": setup.placement.threads}
        setup.checkpoints.save(self.mark, setup.engine.tensors(self.state), about)

    # ---- evaluation ----

    def _evaluate_start(self) -> None:
        """Score both parts before training."""
        self.progress.phase("evaluating", len(self.setup.split.validation) + len(self.setup.split.test))
        validation, test = self._scores(self.setup.validation)[0], self._scores(self.setup.test)[0]
        self.start = test.as_json()
        self._log({"epoch": 0, "validation": validation.as_json(), "test": self.start})
        self.validation[0] = validation
        self.progress.epoch(0, self.recipe.epochs, None, validation)

    def _end_epoch(self) -> None:
        """Score the validation part, remember the best epoch, save."""
        self._settle()
        epoch = self.mark.epoch + 1
        self.progress.phase(f"evaluating epoch {epoch}", len(self.setup.split.validation))
        found = self._scores(self.setup.validation)[0]
        self.validation[epoch] = found
        best = self.mark.best_epoch
        self.mark = replace(self.mark, epoch=epoch)
        reading = self._read(found)
        self._log({"epoch": epoch, "validation": found.as_json(), "guard": asdict(reading)})
        self.progress.epoch(epoch, self.recipe.epochs, self._train_loss(epoch), found)
        if words := self.guard.told(reading, self.readings):
            self.progress.message(words)
        self.readings.append(reading)
        if self.guard.begins_again(reading):
            self._begin_again()
            return
        if self.recipe.keep == "best" and (not best or _rank(found) > _rank(self.validation[best])):
            weights = self.setup.engine.tensors(self.state, moments=False)
            self.setup.checkpoints.save_best(self.mark.attempt, epoch, weights)
            self.mark = replace(self.mark, best_epoch=epoch)
        self._save()
        self._begin_phase()

    def _read(self, found: Scores) -> Reading:
        """Judge the newest epoch, its training loss by the second half of its steps."""
        mark, steps = self.mark, self.setup.plan.steps
        loss = self._mean_loss(steps[mark.step - (self.setup.plan.steps_per_epoch + 1) // 2 : mark.step])
        return self.guard.read(mark.attempt, mark.epoch, mark.step / len(steps), loss, found, self._done())

    def _begin_again(self) -> None:
        """After a collapse: from the beginning, one rung down the guard's ladder."""
        attempt = self.mark.attempt + 1
        self.setup = begun_again(self.setup, attempt)
        self.recipe = self.setup.recipe
        self.mark = Mark(attempt=attempt, tally=self.mark.tally)
        self.losses, self.validation = {}, {}
        self.state = None  # before the next one takes its memory
        self._load()
        self._save()
        self._evaluate_start()
        self._begin_phase()

    def _begin_phase(self) -> None:
        self.progress.phase("training", len(self.setup.plan.steps))
        self.progress.advance(self.mark.step)

    def _scores(self, batches: Batches) -> tuple[Scores, IntArray, FloatArray]:
        """Scores of one part with its document numbers (N,) and logits (N, L)."""
        setup = self.setup
        labels = setup.corpus.labels
        numbers, logits = score(setup.engine, self.state, setup.encoded, labels, batches, self._advance)
        return scores(logits, labels[numbers], setup.corpus.names), numbers, logits

    def _advance(self, documents: int) -> None:
        self.progress.advance(documents)
        self.signals.check()

    def _train_loss(self, epoch: int) -> float:
        """Mean loss over the documents of an epoch, each as it was met."""
        per_epoch = self.setup.plan.steps_per_epoch
        return self._mean_loss(self.setup.plan.steps[(epoch - 1) * per_epoch : epoch * per_epoch])

    def _mean_loss(self, steps: Sequence[Step]) -> float:
        weights = [self._weight(step) for step in steps]
        return float(np.average([self.losses[step.number] for step in steps], weights=weights))

    # ---- the end ----

    def finish(self) -> dict[str, Any]:
        """Score the kept weights and write the results; ``metrics.json`` last."""
        kept = self._load_kept()
        self.progress.phase("evaluating", len(self.setup.split.validation) + len(self.setup.split.test))
        validation, test = self._scores(self.setup.validation), self._scores(self.setup.test)
        temperature = fit_temperature(validation[2], self.setup.corpus.labels[validation[1]])
        metrics = {**self._metrics(kept, validation[0], test[0]), "temperature": temperature}
        self.progress.phase("fitting the linear baseline")
        metrics["guard"] = record(self.guard, self.readings, _linear_accuracy(self.setup))
        parts = {"validation": validation[1:], "test": test[1:]}
        write_text(self.folder.path / "predictions.csv", predictions_table(self.setup.corpus, parts))
        self._write_model(metrics)
        write_json(self.folder.path / "metrics.json", metrics)
        self.tracking.finish(metrics)
        return self.folder.metrics()

    def _load_kept(self) -> int:
        """Put the weights of the epoch that the run keeps into the state; its number."""
        setup, kept = self.setup, self.mark.best_epoch or self.mark.epoch
        if kept != self.mark.epoch:
            self.state = None  # before the next one takes its memory
            weights = whole_tensors(setup, setup.checkpoints.best(self.mark.attempt, kept))
            self.state = setup.engine.start(setup.model.spec, weights, self.recipe, setup.placement)
        return kept

    def _write_model(self, metrics: Mapping[str, Any]) -> None:
        setup = self.setup
        target = self.folder.model_to_write()
        with new_folder(target, manifest=False) as folder:
            write_result(folder, setup, self.recipe, setup.engine.tensors(self.state, moments=False))
            about = {"fitted_on": "validation", "documents": metrics["validation"]["documents"]}
            write_json(folder / CALIBRATION, {"temperature": metrics["temperature"], **about})
            run = self.folder
            write_text(folder / "README.md", model_card(metrics, run.data(), run.environment(), self.recipe))

    def _metrics(self, kept: int, validation: Scores, test: Scores) -> dict[str, Any]:
        setup, tally = self.setup, self.mark.tally
        epochs = [
            {"epoch": epoch, "train_loss": self._train_loss(epoch) if epoch else None, "validation": found.as_json()}
            for epoch, found in sorted(self.validation.items())
        ]
        return {
            "engine": setup.engine.name,
            "model": setup.model.name,
            **through(setup.model),
            "seed": setup.job.recipe.seed,
            "fold": setup.job.fold,
            "precision": setup.placement.precision,
            "threads": setup.placement.threads,
            "kept_epoch": kept,
            "collapsed": self.readings[-1].verdict == "collapsed",
            "restarts": self.mark.attempt,
            "test": test.as_json(),
            "validation": validation.as_json(),
            "epochs": epochs,
            "start": self.start,
            "time": {
                "setup_s": self.setup_s,
                "compile_s": self.compile_s,
                "first_step_s": self.first_step_s,
                "train_s": tally.train_s,
                "documents_per_s": tally.documents_per_s,
                "tokens_per_s": tally.tokens_per_s,
            },
            "memory": {"peak_bytes": setup.engine.peak_bytes() or peak_memory()},
        }


def _rank(found: Scores) -> tuple[float, float]:
    """Higher is better: macro-F1, among equals the lower loss."""
    return found.macro_f1, -found.loss


def _guard(setup: Setup) -> Guard:
    train, names = setup.split.train, setup.corpus.names
    labels, weights = setup.corpus.labels[train], setup.weights[train]
    prior = prior_of(labels, weights, len(names), setup.recipe.label_smoothing)
    return Guard(setup.job.recipe, tuple(names), prior, len(setup.plan.steps))


def _linear_accuracy(setup: Setup) -> float | None:
    """Of the linear baseline on the validation part; None where fitting it would take too long."""
    corpus, train, validation = setup.corpus, setup.split.train, setup.split.validation
    if len(train) > LINEAR:
        return None
    texts = [[corpus.texts[number] for number in part] for part in (train, validation)]
    logits = linear_logits(texts[0], corpus.labels[train], texts[1], len(corpus.names))
    return float(np.mean(np.argmax(logits, axis=1) == corpus.labels[validation]))
