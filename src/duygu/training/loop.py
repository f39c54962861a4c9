"""The loop: steps, evaluations, the best epoch, checkpoints, and what is left when it ends.

What happens at step n is in the plan; the loop only remembers where it stands (a `Mark`), which is all that a
checkpoint adds to the tensors. So a run that was killed goes on as if nothing had been: same documents, same dropout,
same evaluations, and on a CPU the same weights to the bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from duygu.engines import State, StepKey, StepResult
from duygu.errors import DuyguError, Interrupted
from duygu.files import LineLog, new_folder, read_lines, write_json, write_text
from duygu.models.folder import write_model
from duygu.training.checkpoint import Mark
from duygu.training.machine import peak_memory
from duygu.training.plan import Batch, FloatArray, IntArray, Step, assemble
from duygu.training.preparation import Batches, Job, Setup, as_begun, read_data, set_up, start_tensors
from duygu.training.progress import SILENT, Progress
from duygu.training.run_folder import RunFolder, model_card, open_run, predictions_table
from duygu.training.scoring import score
from duygu.training.signals import Signals, caught_signals
from duygu.training.track import Tracking, open_tracking
from duygu.verdict.metrics import Scores, scores

__all__ = ["Job", "train"]

COLLAPSED = 0.98  # share of predictions that one label has in a run that learned nothing


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
        self.recipe = setup.job.recipe
        self.mark = setup.checkpoint.mark if setup.checkpoint else Mark()
        self.history = LineLog(folder.history, self.mark.history_bytes)
        lines = read_lines(folder.history)
        self.losses: dict[int, float] = {line["step"]: line["loss"] for line in lines if "step" in line}
        self.validation = {
            line["epoch"]: Scores.from_json(line["validation"]) for line in lines if "validation" in line
        }
        self.start = next((line["test"] for line in lines if "test" in line), None)
        tracking.begin(folder, lines)
        self.pending: _Pending | None = None
        self.first_step_s: float | None = None

    def compile(self, began: float) -> None:
        """Load the engine's state and compile; set-up ends here."""
        setup = self.setup
        self.progress.phase("compiling" if setup.engine.static_shapes else "loading the weights")
        self.state: State = setup.engine.start(setup.model.spec, start_tensors(setup), self.recipe, setup.placement)
        started = time.perf_counter()
        setup.engine.compile(self.state, setup.plan.shapes, setup.evaluation_shapes)
        self.compile_s = time.perf_counter() - started
        self.setup_s = time.perf_counter() - began

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
        return self.mark.epoch == self.recipe.epochs

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
        """The step's forward passes; every document weighs 1, and all share one normaliser."""
        total = float(sum(map(len, step.microbatches)))
        corpus, encoded = self.setup.corpus, self.setup.encoded
        return [
            assemble(encoded.take(documents), documents, corpus.labels[documents], shape, normaliser=total)
            for documents, shape in zip(step.microbatches, step.shapes, strict=True)
        ]

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
        self._record({**line, "seconds": seconds})
        self.losses[step.number] = loss
        tokens = int(self.setup.encoded.lengths[step.documents].sum())
        warm = self.first_step_s is not None
        self.mark = replace(self.mark, tally=self.mark.tally.plus(seconds, len(step.documents), tokens, warm))
        self.first_step_s = self.first_step_s if warm else seconds
        self.progress.advance(1, f"epoch {step.epoch}, loss {loss:.4f}")

    def _record(self, line: Mapping[str, Any]) -> None:
        """A line of the history, which trackers are told too."""
        self.history.append(line)
        self.tracking.line(line)

    def _save(self) -> None:
        """A checkpoint of the state as it is."""
        self._settle()
        if not self.mark.step:
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
        self._record({"epoch": 0, "validation": validation.as_json(), "test": self.start})
        self.validation[0] = validation
        self.progress.epoch(0, self.recipe.epochs, None, validation)

    def _end_epoch(self) -> None:
        """Score the validation part, remember the best epoch, save."""
        self._settle()
        epoch = self.mark.epoch + 1
        self.progress.phase(f"evaluating epoch {epoch}", len(self.setup.split.validation))
        found = self._scores(self.setup.validation)[0]
        self._record({"epoch": epoch, "validation": found.as_json()})
        self.validation[epoch] = found
        best = self.mark.best_epoch
        if self.recipe.keep == "best" and (not best or _rank(found) > _rank(self.validation[best])):
            self.setup.checkpoints.save_best(epoch, self.setup.engine.tensors(self.state, moments=False))
            best = epoch
        self.mark = replace(self.mark, epoch=epoch, best_epoch=best)
        self._save()
        self.progress.epoch(epoch, self.recipe.epochs, self._train_loss(epoch), found)
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
        steps = self.setup.plan.steps[(epoch - 1) * per_epoch : epoch * per_epoch]
        weights = [len(step.documents) for step in steps]
        return float(np.average([self.losses[step.number] for step in steps], weights=weights))

    # ---- the end ----

    def finish(self) -> dict[str, Any]:
        """Score the kept weights and write the results; ``metrics.json`` last."""
        kept = self._load_kept()
        self.progress.phase("evaluating", len(self.setup.split.validation) + len(self.setup.split.test))
        validation, test = self._scores(self.setup.validation), self._scores(self.setup.test)
        metrics = self._metrics(kept, validation[0], test[0])
        parts = {"validation": validation[1:], "test": test[1:]}
        write_text(self.folder.path / "predictions.csv", predictions_table(self.setup.corpus, parts))
        self._write_model(metrics)
        write_json(self.folder.path / "metrics.json", metrics)
        self.tracking.finish(metrics)
        return self.folder.metrics()

    def _load_kept(self) -> int:
        """Put the weights of the epoch that the run keeps into the state; its number."""
        setup, kept = self.setup, self.mark.best_epoch or self.recipe.epochs
        if kept != self.mark.epoch:
            self.state = None  # before the next one takes its memory
            weights = setup.checkpoints.best(kept)
            self.state = setup.engine.start(setup.model.spec, weights, self.recipe, setup.placement)
        return kept

    def _write_model(self, metrics: Mapping[str, Any]) -> None:
        setup = self.setup
        target = self.folder.model_to_write()
        with new_folder(target, manifest=False) as folder:
            weights = setup.engine.tensors(self.state, moments=False)
            recipe = self.recipe
            write_model(folder, setup.model.spec, weights, setup.model.tokenizer, recipe.length, recipe.head_share)
            write_text(folder / "README.md", model_card(metrics, setup.corpus))

    def _metrics(self, kept: int, validation: Scores, test: Scores) -> dict[str, Any]:
        setup, tally = self.setup, self.mark.tally
        epochs = [
            {"epoch": epoch, "train_loss": self._train_loss(epoch) if epoch else None, "validation": found.as_json()}
            for epoch, found in sorted(self.validation.items())
        ]
        return {
            "engine": setup.engine.name,
            "model": setup.model.name,
            "seed": self.recipe.seed,
            "fold": setup.job.fold,
            "precision": setup.placement.precision,
            "threads": setup.placement.threads,
            "kept_epoch": kept,
            "collapsed": _collapsed(validation),
            "restarts": 0,
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


def _collapsed(found: Scores) -> bool:
    """Whether almost every prediction is the same label."""
    predicted = np.sum(found.confusion, axis=0)
    return bool(predicted.max() >= COLLAPSED * found.documents)
