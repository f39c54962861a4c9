"""Whether a run learns, judged from numbers alone: losses, scores and what always giving the same answer would cost.

A fine-tuning that fails mostly fails in one way: it answers every text with the same label, and its loss stays where it
would be without reading any (Mosbach et al. 2021, arXiv:2006.04884). Most runs look so at the start, so the guard warns
late and marks later still, and a marked run begins again once with what is known to help: another seed, half the rate,
a longer warm-up. When to warn and what to mark are fields of the recipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from duygu.recipe import Recipe
from duygu.training.plan import FloatArray, IntArray
from duygu.verdict.metrics import Scores

Verdict = Literal["learns", "early", "warned", "collapsed"]

NEW_SEED = 1_000_000_007  # added to the seed of a run that begins again
WARMUP = 0.2  # its share of the updates then
FEW = 50  # updates; a run of fewer had no time to learn, and half the rate gives it none


@dataclass(frozen=True, slots=True)
class Prior:
    """The answer that knows how often each label occurs in the training part, and nothing of the text."""

    loss: float  # what it costs in the run's own loss, nats: without smoothing, the entropy of the labels' shares
    least: float  # what a perfect answer costs: 0 without smoothing
    majority: int  # the commonest label

    def share(self, loss: float) -> float:
        """``loss`` as a share of the prior's, both above what a perfect answer costs."""
        room = self.loss - self.least
        return (loss - self.least) / room if room > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What one evaluation shows; ``verdict`` is "early" where a run looks collapsed and it is too soon to tell."""

    attempt: int
    epoch: int
    progress: float  # share of the updates made
    shares: tuple[float, ...]  # of the validation predictions, by label
    mcc: float
    accuracy: float
    train_loss: float  # over the second half of the epoch's updates
    loss_share: float  # of the prior's loss
    over_majority: float  # accuracy on the validation part above that of always answering the commonest label
    reasons: tuple[str, ...]  # why it looks collapsed, in words
    verdict: Verdict

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Reading:
        """What `dataclasses.asdict` made, read back from JSON."""
        return cls(**{**value, "shares": tuple(value["shares"]), "reasons": tuple(value["reasons"])})


@dataclass(frozen=True, slots=True)
class Guard:
    """What a run is measured against; ``recipe`` is as asked, whatever the attempt."""

    recipe: Recipe
    labels: tuple[str, ...]
    prior: Prior
    updates: int  # of a whole attempt

    def read(
        self, attempt: int, epoch: int, progress: float, train_loss: float, found: Scores, last: bool = False
    ) -> Reading:
        """Judge the evaluation ``found`` after ``epoch``; the last one of an attempt is judged as if at its end."""
        predicted, true = (np.sum(found.confusion, axis=axis) / found.documents for axis in (0, 1))
        reasons = self._label_reasons(predicted, true, found.mcc)
        if found.accuracy_interval[0] <= true[self.prior.majority]:  # else it reads, however high its loss
            reasons = [*self._loss_reasons(train_loss), *reasons]
        return Reading(
            attempt=attempt,
            epoch=epoch,
            progress=progress,
            shares=tuple(predicted.tolist()),
            mcc=found.mcc,
            accuracy=found.accuracy,
            train_loss=train_loss,
            loss_share=self.prior.share(train_loss),
            over_majority=found.accuracy - float(true[self.prior.majority]),
            reasons=tuple(reasons),
            verdict=self._verdict(bool(reasons), 1.0 if last else progress),
        )

    def begins_again(self, reading: Reading) -> bool:
        """Whether the run starts anew after this evaluation."""
        return reading.verdict == "collapsed" and reading.attempt < self.recipe.restarts and self.updates >= FEW

    def told(self, reading: Reading, before: Sequence[Reading]) -> str | None:
        """What to tell the user after an evaluation, in plain words; None where all is well."""
        after, why = f"after {reading.progress:.0%} of the updates", ", and ".join(reading.reasons)
        last = before[-1].verdict if before and before[-1].attempt == reading.attempt else None
        if reading.verdict == "warned":
            mark = f"if it still does after {self.recipe.guard_mark:.0%} of them, it is marked as collapsed"
            return f"warning: {after} the model looks as if it had learned nothing: {why}. It may still recover; {mark}"
        if reading.verdict == "collapsed" and last == "collapsed":
            return f"still collapsed {after}: {why}"
        if reading.verdict == "collapsed":
            again = " again" if reading.attempt else ""
            what = f"collapsed{again}: {after} the model answers as if it did not read the texts: {why}"
            return f"{what}. {self._next(reading)}"
        if reading.verdict == "learns" and last in ("warned", "collapsed"):
            return f"recovered: {after} training loss {reading.train_loss:.3f}, validation MCC {reading.mcc:.2f}"
        return None

    def _next(self, reading: Reading) -> str:
        """What is done about a collapse."""
        if self.begins_again(reading):
            rung = restarted(self.recipe, reading.attempt + 1)
            changes = f"seed {rung.seed}, half the learning rate ({rung.lr:g}), warm-up over {rung.warmup:.0%}"
            return f"It starts again from the beginning, once: {changes} of the updates"
        if self.updates < FEW:
            return f"It does not start again: {self.updates} updates are few, and more epochs would help more"
        return "It does not start again; how it ends decides"

    def _loss_reasons(self, train_loss: float) -> list[str]:
        if self.prior.share(train_loss) <= self.recipe.guard_loss:
            return []
        return [f"the training loss is {train_loss:.3f} ({self.prior.loss:.3f} without reading)"]

    def _label_reasons(self, predicted: np.ndarray, true: np.ndarray, mcc: float) -> list[str]:
        """Whether one label gets nearly all predictions; where it truly has as many, MCC tells learning from not."""
        top = int(np.argmax(predicted))
        if predicted[top] < self.recipe.guard_share or (true[top] >= self.recipe.guard_share and mcc > 0):
            return []
        return [f"{predicted[top]:.0%} of the answers on the validation part are {self.labels[top]!r}"]

    def _verdict(self, suspicious: bool, progress: float) -> Verdict:
        if not suspicious:
            return "learns"
        if progress >= self.recipe.guard_mark:
            return "collapsed"
        return "warned" if progress >= self.recipe.guard_warn else "early"


def prior_of(labels: IntArray, weights: FloatArray, count: int, smoothing: float) -> Prior:
    """The prior of training documents with these labels (N,) and weights (N,) in the loss, for ``count`` labels."""
    shares = np.bincount(labels, weights, minlength=count)
    shares /= shares.sum()
    perfect = (1.0 - smoothing) * np.eye(count)[0] + smoothing / count
    told = (1.0 - smoothing) * shares + smoothing / count
    return Prior(_entropy(told), _entropy(perfect), int(np.argmax(np.bincount(labels, minlength=count))))


def restarted(recipe: Recipe, attempt: int) -> Recipe:
    """The recipe of an attempt: the first is as asked; after a collapse a new seed, half the rate, a longer warm-up."""
    if attempt == 0:
        return recipe
    seed = (recipe.seed + attempt * NEW_SEED) % 2**31
    return replace(recipe, seed=seed, lr=recipe.lr / 2**attempt, warmup=max(WARMUP, recipe.warmup))


def record(guard: Guard, readings: Sequence[Reading], linear: float | None) -> dict[str, object]:
    """The entry "guard" of ``metrics.json``: every reading, what was done, and the sum of it in words.

    ``linear`` is the validation accuracy of the linear baseline.
    """
    last = readings[-1]
    rungs = [restarted(guard.recipe, attempt) for attempt in range(1, last.attempt + 1)]
    return {
        "prior_loss": guard.prior.loss,
        "majority": last.accuracy - last.over_majority,
        "linear": linear,
        "readings": [
            {**asdict(reading), "over_linear": None if linear is None else reading.accuracy - linear}
            for reading in readings
        ],
        "restarts": [{"seed": rung.seed, "lr": rung.lr, "warmup": rung.warmup} for rung in rungs],
        "summary": _summary(readings, linear, guard.recipe),
    }


def _summary(readings: Sequence[Reading], linear: float | None, recipe: Recipe) -> list[str]:
    """Sentences for whoever reads the result."""
    last = readings[-1]
    found: list[str] = []
    if last.attempt:
        rung = restarted(recipe, last.attempt)
        found.append(
            f"It collapsed and started again: seed {rung.seed}, learning rate {rung.lr:g}, warm-up {rung.warmup:.0%}."
        )
    if last.verdict == "collapsed":
        found.append(f"It collapsed{' again' if last.attempt else ''}: {', and '.join(last.reasons)}.")
        found.append("Do not use this model. A smaller lr, more epochs or another seed may help: docs/recipes.md.")
    elif linear is not None and max(r.accuracy for r in readings if r.attempt == last.attempt) <= linear:
        found.append(f"A linear model on words does as well on the validation part ({linear:.1%}) or better.")
    return found


def _entropy(shares: np.ndarray) -> float:
    """Of a distribution (L,), in nats."""
    some = shares[shares > 0]
    return float(-(some @ np.log(some)))
